//! `[server]`, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{RawPortal, RawSignIn};
use crate::config::scalar::{DurationText, SecretText, SizeText};

/// Listeners, bounds and timers of the gateway itself.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawServer {
    /// Addresses that callers connect to. At least one.
    #[serde(default)]
    pub listen: Vec<String>,
    /// Address of metrics, health and the admin API. Default `127.0.0.1:9090`.
    pub admin: Option<String>,
    /// Token for the admin API (`Authorization: Bearer`). This or `sign_in` is required if `admin` is not a loopback address.
    pub admin_token: Option<SecretText>,
    /// Sign-in of persons on the admin listener. Default: none.
    pub sign_in: Option<RawSignIn>,
    /// Directory for what must survive a restart: the ledger, keys that are issued at run time, the audit log, and this
    /// node's name. Default: none, and none of these.
    pub state_dir: Option<String>,
    /// Worker threads. Default: one per core.
    pub threads: Option<usize>,
    /// Largest request body; a larger one gets 413. Default `32MiB`.
    pub max_body: Option<SizeText>,
    /// All request bodies that are kept for retries, together; above it new requests get 503. Default `512MiB`.
    pub max_buffered: Option<SizeText>,
    /// Most connections; further ones get 503 and are closed. Default 10000.
    pub max_connections: Option<usize>,
    /// Most requests in flight; further ones get 503. If there are several consumers, one of them may use three
    /// quarters. Default 10000.
    pub max_in_flight: Option<usize>,
    /// Time for a whole request head. Default `10s`.
    pub header_timeout: Option<DurationText>,
    /// Longest pause between two pieces of a request body. Default `30s`.
    pub body_timeout: Option<DurationText>,
    /// Slowest acceptable request body, per second, after the first five seconds. Default `1KiB`.
    pub min_body_rate: Option<SizeText>,
    /// Longest wait for a caller to take a piece of the answer. Default `30s`.
    pub write_timeout: Option<DurationText>,
    /// How long an idle connection is kept. Default `75s`.
    pub keepalive: Option<DurationText>,
    /// Accept HTTP/2 with prior knowledge on cleartext listeners. Default false.
    pub h2c: Option<bool>,
    /// Read plain JSON requests over HTTP/1.1 without Pingora's session, which costs less time and memory for each.
    /// Every other request goes through Pingora, as all of them do if this is false. Default true.
    pub fast_path: Option<bool>,
    /// Send `x-spillway-*` headers with answers. Default true.
    pub response_headers: Option<bool>,
    /// Permit secrets written into this file. Default false.
    pub allow_literal_secrets: Option<bool>,
    /// On SIGTERM, how long `/readyz` says 503 before the listeners close. Default `0s`.
    pub lb_delay: Option<DurationText>,
    /// On SIGTERM, how long requests in flight may take. Default `5m`.
    pub drain_timeout: Option<DurationText>,
    /// Re-read this file when it changes. SIGHUP and `spillway reload` re-read it at any time. Default true.
    pub watch: Option<bool>,
    /// Certificate and key for the listeners.
    pub tls: Option<RawServerTls>,
    /// Web pages of other origins that may call the gateway. Default: none.
    pub cors: Option<RawCors>,
    /// The page where people make their own keys.
    pub portal: Option<RawPortal>,
}

/// Web pages of other origins that may call the gateway.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCors {
    /// Their origins, such as `https://app.example`; `*` for any. They send their key as any caller does; cookies are
    /// ignored.
    pub origins: Vec<String>,
}

/// Certificate and key for the listeners. Files that change are re-read; if they are not valid, the old ones stay in
/// use.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawServerTls {
    /// PEM file with the certificate chain.
    pub cert: String,
    /// PEM file with the private key.
    pub key: String,
    /// PEM file with the CAs that sign client certificates. Default: client certificates are not requested.
    pub client_ca: Option<String>,
    /// PEM file with those CAs' revocation lists. Default: none.
    pub client_crl: Option<String>,
    /// Whether callers need a client certificate. Default `optional`, if there is a `client_ca`.
    pub client_auth: Option<RawClientAuth>,
    /// Oldest version of TLS that is accepted. Default `1.2`.
    pub min_version: Option<RawTlsVersion>,
}

/// Whether callers need a client certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawClientAuth {
    /// A certificate that is sent must be valid; keys and tokens are accepted, too.
    Optional,
    /// A connection without a certificate is refused.
    Required,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum RawTlsVersion {
    /// TLS 1.2
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3
    #[serde(rename = "1.3")]
    Tls13,
}
