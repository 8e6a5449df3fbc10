//! The identity of a rehearsal: its tokens come from a stand-in on this machine.

use std::net::SocketAddr;

use serde::Deserialize;

use super::fetch::{FetchError, Fetched};
use crate::http_client;

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: u64,
}

/// Fetches a token.
pub(super) async fn fetch(service: SocketAddr) -> Result<Fetched, FetchError> {
    let answer = http_client::local()?.get(format!("http://{service}/token")).send().await?.error_for_status()?;
    let answer: Answer =
        serde_json::from_str(&answer.text().await?).map_err(|_| FetchError::new("the stand-in's answer contains no token"))?;
    Fetched::new(&answer.access_token, answer.expires_in, None)
}
