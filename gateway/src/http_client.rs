//! The HTTP client for token services, issuers and other helpers. It never sends callers' requests.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::redirect::Policy;

/// Timeouts for the connection and for a whole answer. The requests run in the background.
const TIMES: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(10));
const USER_AGENT: &str = concat!("spillway/", env!("CARGO_PKG_VERSION"));

/// Chooses the process's cryptography provider. The first call decides; all calls choose the same one.
pub fn install_crypto() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    spillway_plugins::auth::jwt::install_crypto();
}

fn client(proxied: bool) -> reqwest::Result<reqwest::Client> {
    install_crypto();
    // A redirect could send a credential to another host.
    let builder = reqwest::Client::builder().user_agent(USER_AGENT).connect_timeout(TIMES.0).timeout(TIMES.1).redirect(Policy::none());
    if proxied { builder.build() } else { builder.no_proxy().build() }
}

fn shared(cell: &'static OnceLock<reqwest::Client>, proxied: bool) -> reqwest::Result<reqwest::Client> {
    if let Some(made) = cell.get() {
        return Ok(made.clone());
    }
    let made = client(proxied)?;
    Ok(cell.get_or_init(|| made).clone())
}

/// For services on the Internet: through the proxy that the environment names, if any.
///
/// # Errors
/// If the system's certificates can't be used.
pub fn internet() -> reqwest::Result<reqwest::Client> {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    shared(&CLIENT, true)
}

/// For services on this machine or its link, such as the instance metadata service: never through a proxy.
///
/// # Errors
/// As [`internet`].
pub fn local() -> reqwest::Result<reqwest::Client> {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    shared(&CLIENT, false)
}
