//! The default path of the config file.

/// Where packages put the config.
pub(super) const CONFIG: &str = "/etc/spillway/spillway.toml";
