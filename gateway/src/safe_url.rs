//! Whether what is sent to a URL stays between this machine and the other one. Pure.

use std::net::IpAddr;

use http::Uri;

/// Whether a URL is `https://`, or, if `clear_here`, `http://` on this machine.
pub fn is_safe(url: &str, clear_here: bool) -> bool {
    let Ok(uri) = url.parse::<Uri>() else { return false };
    let host = uri.host().unwrap_or("");
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => clear_here && is_this_machine(host),
        _ => false,
    }
}

/// Whether the host of a URL is this machine: `localhost`, or a loopback address.
pub fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
