//! `[server.sign_in]`, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::scalar::{DurationText, SecretText};

/// Persons sign in on the admin listener with an OIDC issuer, such as Entra. With this table a request needs a session
/// or `admin_token`, on a loopback address, too.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSignIn {
    /// The issuer, such as `https://login.microsoftonline.com/TENANT/v2.0`: the `iss` claim, and the address of discovery.
    pub issuer: String,
    /// This application's id at the issuer.
    pub client_id: String,
    /// Its secret. Default: none, for an application that is registered as a public client.
    pub client_secret: Option<SecretText>,
    /// The address under which browsers reach the admin listener, such as `https://gateway.example.com`. Register
    /// `URL/sign-in/callback` as redirect URI.
    pub url: String,
    /// Scopes that are requested; `openid` must be among them. Default `["openid", "profile"]`.
    pub scopes: Option<Vec<String>>,
    /// Who gets which role.
    #[serde(default)]
    pub roles: RawSignInRoles,
    /// The role of everybody else who can sign in with this application: `member` or `viewer`. Default: none, they are
    /// refused.
    pub everyone: Option<RawEveryone>,
    /// How long a session lasts at most. Default `8h`.
    pub session: Option<DurationText>,
    /// How long a session lasts without a request. Default `30m`.
    pub idle: Option<DurationText>,
    /// Changes of the gateway, and of what belongs to others, need a sign-in that is at most this long ago, by the issuer's claim
    /// `auth_time`. From `1m`; as long as `session`, none is needed. Default `15m`.
    pub reauthenticate_after: Option<DurationText>,
}

/// App roles (claim `roles`) and ids of groups (claim `groups`), by what they may do here. Somebody with several gets the
/// highest.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSignInRoles {
    /// May do everything: upgrades, keys of others and the audit log, too.
    #[serde(default)]
    pub administrator: Vec<String>,
    /// May drain, reset, reload and set the log level, too.
    #[serde(default)]
    pub operator: Vec<String>,
    /// Sees everything and changes nothing.
    #[serde(default)]
    pub viewer: Vec<String>,
    /// Sees and changes only what belongs to itself.
    #[serde(default)]
    pub member: Vec<String>,
}

/// A role that everybody may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawEveryone {
    /// Sees and changes only what belongs to itself.
    Member,
    /// Sees everything and changes nothing.
    Viewer,
}
