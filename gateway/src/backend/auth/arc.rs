//! A server with Azure Arc: its agent makes us prove that we may read a file of root's, and then returns a token. As in
//! MSAL's `managed_identity.py`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;

use super::fetch::{FetchError, Fetched, brief};
use super::transport::seconds;
use crate::http_client;

const DEFAULT_ENDPOINT: &str = "http://localhost:40342/metadata/identity/oauth2/token";
const API_VERSION: &str = "2020-06-01";
/// The agent's own program: if it exists, there is an agent.
const AGENT: &str = "/opt/azcmagent/bin/himds";
/// The folder of its challenges, and how long they may be.
const CHALLENGES: &str = "/var/opt/azcmagent/tokens";
const LONGEST_CHALLENGE: u64 = 4096;

/// The agent's endpoint, if this server has one.
pub(super) fn endpoint() -> Option<String> {
    let var = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    match (var("IDENTITY_ENDPOINT"), var("IDENTITY_HEADER"), var("IMDS_ENDPOINT")) {
        (Some(endpoint), None, Some(_)) => Some(endpoint),
        (None, ..) if Path::new(AGENT).exists() => Some(DEFAULT_ENDPOINT.to_owned()),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_on: Option<Value>,
    expires_in: Option<Value>,
    refresh_in: Option<Value>,
}

/// Fetches a token.
pub(super) async fn fetch(endpoint: &str, scope: &str, wall: DateTime<Utc>) -> Result<Fetched, FetchError> {
    let client = http_client::local()?;
    let mut url = reqwest::Url::parse(endpoint).map_err(|error| FetchError::new(format!("IDENTITY_ENDPOINT is not a URL: {error}")))?;
    url.query_pairs_mut().append_pair("api-version", API_VERSION).append_pair("resource", scope.trim_end_matches("/.default"));
    let ask = || client.get(url.clone()).header("metadata", "true");
    let first = ask().send().await?;
    if first.status() != 401 {
        return Err(FetchError::new(format!("the Arc agent answered {} instead of a challenge", first.status())));
    }
    let challenge = first.headers().get("www-authenticate").and_then(|value| value.to_str().ok());
    let path = challenge.and_then(|value| value.split_once("realm=")).map(|(_, path)| path.trim_matches(['"', ' ']));
    let path = path.ok_or_else(|| FetchError::new("the Arc agent's challenge names no file"))?;
    // Only tests use another folder.
    let folder = std::env::var("SPILLWAY_ARC_CHALLENGES").map_or_else(|_| PathBuf::from(CHALLENGES), PathBuf::from);
    let secret = read_challenge(Path::new(path), &folder)?;
    let mut value = http::HeaderValue::from_str(&format!("Basic {secret}"))
        .map_err(|_| FetchError::new("the Arc agent's challenge is not valid in a header"))?;
    value.set_sensitive(true);
    let second = ask().header("authorization", value).send().await?;
    let status = second.status();
    let retry_after = second.headers().get("retry-after").and_then(|after| after.to_str().ok()?.trim().parse().ok());
    let body = second.text().await?;
    if !status.is_success() {
        let what = brief(&format!("the Arc agent answered {status}: {body}"));
        return Err(FetchError { what, retry_after: retry_after.map(Duration::from_secs) });
    }
    let answer: Answer = serde_json::from_str(&body).map_err(|_| FetchError::new("the Arc agent's answer contains no token"))?;
    let until = answer.expires_on.as_ref().and_then(seconds).map(|at| at.saturating_sub(u64::try_from(wall.timestamp()).unwrap_or(0)));
    let lifetime = answer.expires_in.as_ref().and_then(seconds).or(until).unwrap_or(0);
    let refresh_in = answer.refresh_in.as_ref().and_then(seconds).map(Duration::from_secs);
    Fetched::new(&answer.access_token, lifetime, refresh_in)
}

/// Reads a challenge file, after checks: another program on the agent's port must not make us read and send any other
/// file.
fn read_challenge(path: &Path, folder: &Path) -> Result<String, FetchError> {
    let refused = || FetchError::new(format!("the Arc agent's challenge is not a .key file in {}", folder.display()));
    let unreadable = |error: std::io::Error| {
        FetchError::new(format!("the Arc agent's challenge can't be read (is this user in the group himds?): {error}"))
    };
    if path.parent() != Some(folder) || path.extension().is_none_or(|extension| extension != "key") {
        return Err(refused());
    }
    let real = path.canonicalize().map_err(unreadable)?;
    if real.parent() != Some(&folder.canonicalize().map_err(unreadable)?) {
        return Err(refused());
    }
    if std::fs::metadata(&real).map_err(unreadable)?.len() > LONGEST_CHALLENGE {
        return Err(FetchError::new("the Arc agent's challenge is too long"));
    }
    std::fs::read_to_string(&real).map(|text| text.trim().to_owned()).map_err(unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_challenges_are_read() {
        let outer = tempfile::tempdir().unwrap();
        let folder = outer.path().canonicalize().unwrap().join("tokens");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("good.key"), "secret\n").unwrap();
        std::fs::write(folder.join("other.txt"), "x").unwrap();
        std::fs::write(folder.join("long.key"), "x".repeat(5000)).unwrap();
        std::fs::write(outer.path().join("outside.key"), "x").unwrap();
        std::os::unix::fs::symlink(outer.path().join("outside.key"), folder.join("link.key")).unwrap();
        assert_eq!(read_challenge(&folder.join("good.key"), &folder).unwrap(), "secret");
        for bad in ["other.txt", "long.key", "link.key", "../outside.key", "missing.key"] {
            assert!(read_challenge(&folder.join(bad), &folder).is_err(), "{bad}");
        }
        assert!(read_challenge(Path::new("/etc/passwd"), &folder).is_err());
    }
}
