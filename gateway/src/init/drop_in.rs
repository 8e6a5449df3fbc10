//! The drop-in that hands the keys to the packaged unit.

use std::fmt::Write as _;

/// The drop-in of `spillway.service` for the credentials of these names in this folder.
pub fn drop_in(names: &[&str], credentials: &str) -> String {
    let mut out = "# Written by `spillway init`. systemd reads each key as root when the unit starts, and gives it to the service.\n\
                   # After a change: systemctl daemon-reload && systemctl restart spillway\n\
                   \n\
                   [Service]\n"
        .to_owned();
    for name in names {
        let _ = writeln!(out, "LoadCredential={name}:{credentials}/{name}");
    }
    out
}
