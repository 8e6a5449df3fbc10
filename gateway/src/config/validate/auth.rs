//! `[plugins.auth]`.

use std::time::Duration;

use spillway_plugins::auth::Pepper;
use spillway_plugins::auth::jwt::{Algorithm, Rules};

use super::checker::Checker;
use super::consumers::{Known, RawRights, rights};
use super::limits;
use crate::config::raw::{RawAuth, RawJwt, RawUnlisted};
use crate::config::{Auth, TokenRules, Unlisted};

/// The path of discovery, below an issuer (OpenID Connect Discovery 1.0, 4).
const DISCOVERY: &str = "/.well-known/openid-configuration";

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
    let nobody = no_consumers && tokens.is_none();
    let required = raw.required.unwrap_or(!nobody);
    if required && nobody {
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
        None => format!("{}{DISCOVERY}", raw.issuer.trim_end_matches('/')),
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
        discovery,
        issuer: raw.issuer.clone(),
        rules: Rules { issuers, audiences: raw.audiences.clone(), tenants: raw.tenants.clone(), algorithms, skew },
        consumer_claim: raw.consumer_claim.clone().unwrap_or_else(|| "azp".to_owned()),
        unlisted,
    }
}

fn algorithm(name: &str, key: &str, check: &mut Checker<'_>) -> Option<Algorithm> {
    let found = ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm);
    if found.is_none() {
        check.unknown(key, "algorithm", name, ALGORITHMS.iter().map(|(known, _)| *known));
    }
    found
}

fn unlisted(raw: Option<&RawUnlisted>, key: &str, known: &Known<'_>, check: &mut Checker<'_>) -> Option<Unlisted> {
    const MOST: usize = 1000;
    let raw = raw?;
    let limits = limits::consumer(raw.limits.as_ref(), &format!("{key}.limits"), known.models.iter().copied(), check);
    let RawUnlisted { models, pools, locations, apis, roles, scopes, .. } = raw;
    let rights = rights(&RawRights { models, pools, locations, apis, roles, scopes }, key, known, check);
    raw.accept.unwrap_or(true).then(|| Unlisted { max: raw.max.unwrap_or(MOST), rights, limits })
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
