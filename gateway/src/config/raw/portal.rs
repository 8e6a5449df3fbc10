//! `[server.portal]`, and which keys owners may make, as they are written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::scalar::DurationText;

/// The page `/me`, where people who sign in see the consumers that they own, and make and revoke keys for them. It is on
/// the admin listener, and on a listener of its own if there is one. Needs `[server.sign_in]`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPortal {
    /// Address of a listener that serves only sign-in, `/me` and `/api/me`: nothing of operators. With `server.tls` it
    /// speaks TLS, with the same certificate. Default: none.
    pub listen: Option<String>,
    /// The address of that listener as browsers see it, such as `https://ai.example.com`. Required with `listen`.
    pub url: Option<String>,
    /// The address of the gateway as programs see it, such as `https://gateway.example.com`: it is in the code that the
    /// page shows. Default: the first address of `server.listen`.
    pub gateway_url: Option<String>,
    /// Whom people who own no consumer should ask, as a phrase such as `the platform team (ai@example.com)`. Default:
    /// `your administrator`.
    pub contact: Option<String>,
}

/// Which keys the owners of a consumer may make for it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawIssuedKeys {
    /// The most keys that are valid at the same time. Default 5.
    pub max: Option<usize>,
    /// The longest time from the making of a key to its expiry. Default `90d`.
    pub max_lifetime: Option<DurationText>,
}
