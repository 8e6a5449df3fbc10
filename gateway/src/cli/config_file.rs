//! Where the config is, unless another place is given.

/// Where packages put the config.
pub(super) const CONFIG: &str = "/etc/spillway/spillway.toml";
