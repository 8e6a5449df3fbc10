//! How persons sign in on the admin listener, and what each role may do.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{IssuerRules, Secret};

/// What somebody may do on the admin listener; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Sees and changes only what belongs to itself.
    Member,
    /// Sees everything.
    Viewer,
    /// Drains, resets, reloads and sets the log level, too.
    Operator,
    /// Upgrades, makes and revokes the keys of others, and reads the audit log, too.
    Administrator,
}

impl Role {
    /// Its name, as in the config.
    pub fn label(self) -> &'static str {
        match self {
            Role::Member => "member",
            Role::Viewer => "viewer",
            Role::Operator => "operator",
            Role::Administrator => "administrator",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// The hosts of Entra's issuers: the public cloud, those of governments and of China, and of tokens of version 1.
const ENTRA: [&str; 5] = [
    "login.microsoftonline.com",
    "login.microsoftonline.us",
    "login.partner.microsoftonline.cn",
    "login.chinacloudapi.cn",
    "sts.windows.net",
];

/// How persons sign in.
#[derive(Debug, Clone, PartialEq)]
pub struct SignInRules {
    /// The issuer of ID tokens, and the checks of their claims; the audience is this application.
    pub issuer: IssuerRules,
    /// This application's id at the issuer.
    pub client_id: String,
    /// Its secret; `None` for a public client.
    pub client_secret: Option<Secret>,
    /// The external base address of the admin listener, without a trailing slash.
    pub url: String,
    /// The scopes that are requested, separated by spaces.
    pub scopes: String,
    /// App roles and ids of groups, and what they may do; each of them once.
    pub roles: Vec<(String, Role)>,
    /// What everybody may do who can sign in.
    pub everyone: Option<Role>,
    /// How long a session lasts at most.
    pub session: Duration,
    /// How long a session lasts without a request.
    pub idle: Duration,
    /// How long ago a person may have authenticated at the issuer to change something of the gateway or of others; `None` for any time.
    pub reauthenticate_after: Option<Duration>,
}

impl SignInRules {
    /// Where the issuer sends the browser back to, for the listener with this external base address.
    pub fn redirect_uri(base: &str) -> String {
        format!("{base}/sign-in/callback")
    }

    /// Whether the issuer is Entra: there a person is its object id, and groups are ids. The configured issuer decides it, no
    /// claim: elsewhere people may write some claims themselves.
    pub fn is_entra(&self) -> bool {
        let host = self.issuer.name.strip_prefix("https://").and_then(|rest| rest.split(['/', ':']).next()).unwrap_or("");
        ENTRA.contains(&host)
    }

    /// The highest role that somebody with these app roles and groups has.
    pub fn role_of(&self, roles: &[String], groups: &[String]) -> Option<Role> {
        let has = |name: &String| roles.contains(name) || groups.contains(name);
        self.roles.iter().filter(|(name, _)| has(name)).map(|(_, role)| *role).chain(self.everyone).max()
    }

    /// The origin of [`SignInRules::url`], as browsers send it.
    pub fn origin(&self) -> &str {
        origin_of(&self.url)
    }
}

/// The origin of a base address, as browsers send it.
pub fn origin_of(url: &str) -> &str {
    let host = url.find("://").map_or(0, |at| at + 3);
    url[host..].find('/').map_or(url, |path| &url[..host + path])
}
