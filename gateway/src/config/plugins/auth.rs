//! `[plugins.auth]`: how callers are identified.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;
use spillway_plugins::auth::Pepper;
use spillway_plugins::auth::jwt::{Algorithm, Rules};

use crate::config::ConsumerLimits;
use crate::config::checker::Checker;
use crate::config::raw::{RawApiKind, RawLimits, RawServiceTier};
use crate::config::rights::{Known, RawRights, Rights, rights};
use crate::config::scalar::{DurationText, SecretText};
use crate::config::validate::limits;

/// How callers are identified.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAuth {
    /// Refuse callers without a known credential. Default true if there are consumers or `jwt`.
    pub required: Option<bool>,
    /// The HMAC key for keys that are stored as `hmac_sha256`.
    pub pepper: Option<SecretText>,
    /// Accept tokens of an OIDC issuer, such as Entra.
    pub jwt: Option<RawJwt>,
}

/// Tokens of an OIDC issuer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawJwt {
    /// The `iss` claim, and the address of discovery. For an Entra tenant both forms of its issuer are accepted,
    /// whichever is set; `common` or `organizations` as tenant needs `tenants`.
    pub issuer: String,
    /// Further accepted `iss` claims, whose tokens are signed with the same keys.
    #[serde(default)]
    pub issuers: Vec<String>,
    /// URL of the issuer's metadata. Default: `issuer` with `/.well-known/openid-configuration`.
    pub discovery: Option<String>,
    /// Accepted `aud` claims.
    pub audiences: Vec<String>,
    /// Accepted `tid` claims. Default: any that the issuer allows.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// Accepted signature algorithms: `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`. Default `["RS256"]`.
    pub algorithms: Option<Vec<String>>,
    /// How much the issuer's clock may differ. Default `5m`.
    pub skew: Option<DurationText>,
    /// The claim that names the consumer: `azp` (which is `appid` in old tokens) for applications, `oid` for persons. Default `azp`.
    pub consumer_claim: Option<String>,
    /// Rules for callers whose claim belongs to no consumer. Without this table they get 403.
    pub unlisted: Option<RawUnlisted>,
}

/// Rules for callers with a valid token whose claim belongs to no consumer: each of them becomes a consumer
/// automatically.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUnlisted {
    /// Accept them. Default true.
    pub accept: Option<bool>,
    /// The maximum number of such consumers; further ones get 403. Default 1000.
    pub max: Option<usize>,
    /// Models they may use. Default: all.
    pub models: Option<Vec<String>>,
    /// Pools they may use. Default: all.
    pub pools: Option<Vec<String>>,
    /// Locations they may be served from. Default: all.
    pub locations: Option<Vec<String>>,
    /// Kinds of API they may use. Default: all.
    pub apis: Option<Vec<RawApiKind>>,
    /// Service tiers they may ask for, besides `default`: `flex`, `priority`. Default: all. Priority costs about twice as
    /// much: list the tiers of consumers that should not choose it.
    pub service_tiers: Option<Vec<RawServiceTier>>,
    /// Their tokens need one of these application roles.
    pub roles: Option<Vec<String>>,
    /// Their tokens need one of these scopes.
    pub scopes: Option<Vec<String>>,
    /// The group whose limits they share. Default: none.
    pub group: Option<String>,
    /// The limits of each.
    pub limits: Option<RawLimits>,
}

/// How callers are identified.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Auth {
    /// Whether callers without a known credential are refused.
    pub required: bool,
    /// The HMAC key for keys that are stored as HMAC.
    pub pepper: Option<Pepper>,
    /// Which tokens are accepted.
    pub tokens: Option<TokenRules>,
}

/// Which tokens are accepted, and which consumers they belong to.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenRules {
    /// Their issuer.
    pub issuer: IssuerRules,
    /// The claim that names the consumer.
    pub consumer_claim: String,
    /// Rules for callers whose claim belongs to no consumer; `None` refuses them.
    pub unlisted: Option<Unlisted>,
}

/// An OIDC issuer, and the checks of its tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct IssuerRules {
    /// URL of its metadata.
    pub discovery: String,
    /// The `issuer` that the metadata must name.
    pub name: String,
    /// The checks of a token's claims.
    pub rules: Rules,
}

impl IssuerRules {
    /// The URL of an issuer's metadata (OpenID Connect Discovery 1.0, 4).
    pub fn discovery_of(issuer: &str) -> String {
        format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
    }
}

/// Rules for callers whose claim belongs to no consumer: each of them becomes a consumer automatically.
#[derive(Debug, Clone, PartialEq)]
pub struct Unlisted {
    /// The maximum number of such consumers.
    pub max: usize,
    /// What each may use.
    pub rights: Rights,
    /// Index of their group.
    pub group: Option<usize>,
    /// The limits of each.
    pub limits: ConsumerLimits,
}

/// Signatures by a public key; no other algorithm is accepted in a caller's token.
const ALGORITHMS: [(&str, Algorithm); 8] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
];

pub(super) fn read(raw: Option<&RawAuth>, no_consumers: bool, known: &Known<'_>, check: &mut Checker<'_>) -> Auth {
    let Some(raw) = raw else { return Auth { required: !no_consumers, ..Auth::default() } };
    let tokens = raw.jwt.as_ref().map(|jwt| tokens(jwt, known, check));
    let pepper = raw.pepper.as_ref().and_then(|secret| check.secret("plugins.auth.pepper", secret));
    let no_callers = no_consumers && tokens.is_none();
    let required = raw.required.unwrap_or(!no_callers);
    if required && no_callers {
        check.problem("plugins.auth.required", "no caller could be accepted: there are no [[consumers]] and no plugins.auth.jwt");
    }
    Auth { required, pepper: pepper.map(|secret| Pepper::new(secret.expose().as_bytes())), tokens }
}

fn tokens(raw: &RawJwt, known: &Known<'_>, check: &mut Checker<'_>) -> TokenRules {
    let key = "plugins.auth.jwt";
    // The keys decide who may call: they must come over a connection that nobody can change.
    check.https(&format!("{key}.issuer"), &raw.issuer, true);
    let discovery = match &raw.discovery {
        Some(discovery) => {
            check.https(&format!("{key}.discovery"), discovery, true);
            discovery.clone()
        }
        None => IssuerRules::discovery_of(&raw.issuer),
    };
    if raw.audiences.is_empty() {
        check
            .problem(&format!("{key}.audiences"), "at least one audience is needed, or tokens for any other application would be accepted");
    }
    let mut issuers = entra(&raw.issuer).unwrap_or_else(|| vec![raw.issuer.clone()]);
    issuers.extend(raw.issuers.iter().cloned());
    if issuers.iter().any(|issuer| issuer.contains("{tenantid}")) && raw.tenants.is_empty() {
        check.problem(&format!("{key}.tenants"), "this issuer is for all tenants: list the tenants whose tokens are accepted");
    }
    let skew = raw.skew.map_or(Duration::from_secs(300), |skew| skew.0);
    if skew > Duration::from_secs(3600) {
        check.problem(&format!("{key}.skew"), "more than an hour would accept tokens long after their end");
    }
    let algorithms = match &raw.algorithms {
        None => vec![Algorithm::RS256],
        Some(names) => {
            names.iter().enumerate().filter_map(|(at, name)| algorithm(name, &format!("{key}.algorithms[{at}]"), check)).collect()
        }
    };
    if algorithms.is_empty() {
        check.problem(&format!("{key}.algorithms"), "at least one is needed");
    }
    if raw.unlisted.is_none() {
        check.warn(
            key,
            "applications that belong to no consumer get 403: list their claims, or accept them with [plugins.auth.jwt.unlisted]; \
             `unlisted = { accept = false }` says that this is intended",
        );
    }
    let unlisted = unlisted(raw.unlisted.as_ref(), &format!("{key}.unlisted"), known, check);
    TokenRules {
        issuer: IssuerRules {
            discovery,
            name: raw.issuer.clone(),
            rules: Rules { issuers, audiences: raw.audiences.clone(), tenants: raw.tenants.clone(), algorithms, skew },
        },
        consumer_claim: raw.consumer_claim.clone().unwrap_or_else(|| "azp".to_owned()),
        unlisted,
    }
}

fn algorithm(name: &str, key: &str, check: &mut Checker<'_>) -> Option<Algorithm> {
    let found = ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm);
    if found.is_none() {
        check.unknown_value(key, "algorithm", name, ALGORITHMS.iter().map(|(known, _)| *known));
    }
    found
}

fn unlisted(raw: Option<&RawUnlisted>, key: &str, known: &Known<'_>, check: &mut Checker<'_>) -> Option<Unlisted> {
    const MOST: usize = 1000;
    let raw = raw?;
    let limits = limits::consumer(raw.limits.as_ref(), &format!("{key}.limits"), known.models.iter().copied(), check);
    let RawUnlisted { models, pools, locations, apis, service_tiers, roles, scopes, .. } = raw;
    let rights = rights(&RawRights { models, pools, locations, apis, service_tiers, roles, scopes }, key, known, check);
    let group = known.group(raw.group.as_ref(), &format!("{key}.group"), check);
    raw.accept.unwrap_or(true).then(|| Unlisted { max: raw.max.unwrap_or(MOST), rights, group, limits })
}

/// Both forms of an Entra tenant's issuer: which one a token has depends on the application that it is for. For
/// `common` and the like, `{tenantid}` is replaced by the tenant.
fn entra(issuer: &str) -> Option<Vec<String>> {
    // Login host, and the host of version 1's issuers.
    const CLOUDS: [(&str, &str); 3] = [
        ("https://login.microsoftonline.com/", "https://sts.windows.net/"),
        ("https://login.microsoftonline.us/", "https://sts.windows.net/"),
        ("https://login.partner.microsoftonline.cn/", "https://sts.chinacloudapi.cn/"),
    ];
    CLOUDS.into_iter().find_map(|(login, sts)| {
        let tenant = issuer
            .strip_prefix(login)
            .and_then(|rest| rest.strip_suffix("/v2.0"))
            .or_else(|| issuer.strip_prefix(sts)?.strip_suffix('/'))?;
        let tenant = if matches!(tenant, "common" | "organizations" | "consumers") { "{tenantid}" } else { tenant };
        Some(vec![format!("{login}{tenant}/v2.0"), format!("{sts}{tenant}/")])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenants_issuer_has_two_forms() {
        let both = vec!["https://login.microsoftonline.com/t/v2.0".to_owned(), "https://sts.windows.net/t/".to_owned()];
        assert_eq!(entra("https://login.microsoftonline.com/t/v2.0"), Some(both.clone()));
        assert_eq!(entra("https://sts.windows.net/t/"), Some(both));
        assert_eq!(entra("https://login.microsoftonline.com/organizations/v2.0").unwrap()[1], "https://sts.windows.net/{tenantid}/");
        assert_eq!(entra("https://auth.example.com/"), None);
    }
}
