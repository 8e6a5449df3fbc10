//! The token service of the gateway's own identities.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::json;

/// Starts one that has a new token for whoever asks, valid for an hour.
///
/// # Errors
/// If there is no port.
pub(in crate::rehearse) async fn token_service() -> std::io::Result<SocketAddr> {
    let number = AtomicU64::new(0);
    super::serve(move |path, _| {
        let number = number.fetch_add(1, Ordering::Relaxed) + 1;
        let token = json!({ "token_type": "Bearer", "expires_in": 3600, "access_token": format!("rehearsed-{number}") });
        (path == "/token").then(|| token.to_string())
    })
    .await
}
