//! `[server.sign_in]`.

use std::collections::HashMap;
use std::time::Duration;

use crate::config::checker::Checker;
use crate::config::raw::{RawEveryone, RawSignIn};
use crate::config::{IssuerRules, Role, SignInRules};
use spillway_plugins::auth::jwt::{Algorithm, Rules};

/// Signatures by a public key that issuers use for ID tokens.
const ALGORITHMS: [Algorithm; 8] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
];

/// How much the issuer's clock may differ.
const SKEW: Duration = Duration::from_secs(300);

/// The least and the longest lifetime of a session.
const SESSION: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(7 * 86_400)];

/// Entra's tenant of private accounts.
const PRIVATE_ACCOUNTS: &str = "9188040d-6c67-4c5b-b112-36a304b66dad";

/// Issuers at which anybody can have an account.
const ANYBODY: [&str; 6] = [
    "https://accounts.google.com",
    "https://appleid.apple.com",
    "https://gitlab.com",
    "https://www.facebook.com",
    "https://login.yahoo.com",
    "https://www.linkedin.com/oauth",
];

const DAY: u64 = 86_400;

pub(super) fn read(raw: &RawSignIn, check: &mut Checker<'_>) -> Option<SignInRules> {
    let key = |name: &str| format!("server.sign_in.{name}");
    let problems = check.problems.len();
    issuer(&raw.issuer, &key("issuer"), check);
    if raw.client_id.is_empty() || !raw.client_id.bytes().all(|byte| byte.is_ascii_graphic()) {
        check.problem(&key("client_id"), "must be the application's id at the issuer: printable ASCII characters without spaces");
    }
    let client_secret = raw.client_secret.as_ref().and_then(|secret| check.secret(&key("client_secret"), secret));
    let url = url(&raw.url, &key("url"), check);
    let scopes = scopes(raw.scopes.as_deref(), &key("scopes"), check);
    let roles = roles(raw, check);
    let everyone = raw.everyone.map(|everyone| match everyone {
        RawEveryone::Member => Role::Member,
        RawEveryone::Viewer => Role::Viewer,
    });
    if let Some(everyone) = everyone.filter(|_| ANYBODY.contains(&raw.issuer.trim_end_matches('/'))) {
        let message = format!("every account of the world at {} becomes {everyone}", raw.issuer);
        check.warn(&key("everyone"), message);
    }
    let session = check.span(raw.session, DAY / 3, &key("session"));
    let idle = check.span(raw.idle, 30 * 60, &key("idle"));
    if !session.is_zero() && !(SESSION[0]..=SESSION[1]).contains(&session) {
        check.problem(&key("session"), "must be from 1m to 7d: until its end a person keeps the roles that the token had");
    }
    if idle > session && raw.idle.is_some() {
        check.problem(&key("idle"), "must not be longer than 'session'");
    }
    let after = check.span(raw.reauthenticate_after, 15 * 60, &key("reauthenticate_after"));
    if !after.is_zero() && after < SESSION[0] {
        check.problem(&key("reauthenticate_after"), "must be at least 1m: a second factor takes a while");
    }
    let is_needed = raw.reauthenticate_after.is_none() || after < session;
    if check.problems.len() > problems {
        return None;
    }
    let reauthenticate_after = is_needed.then_some(after);
    let discovery = IssuerRules::discovery_of(&raw.issuer);
    let rules = Rules {
        issuers: vec![raw.issuer.clone()],
        audiences: vec![raw.client_id.clone()],
        tenants: Vec::new(),
        algorithms: ALGORITHMS.to_vec(),
        skew: SKEW,
    };
    let issuer = IssuerRules { discovery, name: raw.issuer.clone(), rules };
    let client_id = raw.client_id.clone();
    let idle = idle.min(session);
    Some(SignInRules { issuer, client_id, client_secret, url, scopes, roles, everyone, session, idle, reauthenticate_after })
}

/// The keys of the issuer decide who may sign in: they must come over a connection that can't be changed.
fn issuer(issuer: &str, key: &str, check: &mut Checker<'_>) {
    check.https(key, issuer, true);
    if issuer.contains(['{', '}']) {
        check.problem(key, "write your tenant's id instead of a placeholder");
    }
    if issuer.contains(['?', '#']) {
        check.problem(key, "an issuer has neither a query nor a fragment");
    }
    let tenant =
        ["common", "organizations", "consumers", PRIVATE_ACCOUNTS].into_iter().find(|tenant| issuer.split('/').any(|part| part == *tenant));
    if let Some(tenant) = tenant.filter(|_| issuer.starts_with("https://login.")) {
        check.problem(key, format!("'{tenant}' lets in accounts of any organisation: write your tenant's id instead"));
    }
}

fn url(url: &str, key: &str, check: &mut Checker<'_>) -> String {
    // Cookies must not cross a network in clear text.
    check.https(key, url, true);
    let uri: Option<http::Uri> = url.parse().ok();
    let authority = uri.as_ref().and_then(|uri| uri.authority()).map_or("", |authority| authority.as_str());
    let rest = uri.as_ref().and_then(|uri| uri.query()).is_some() || url.contains('#');
    if authority.contains('@') || rest {
        check.problem(key, "must be an address without user, query and fragment, such as \"https://gateway.example.com\"");
    }
    let default_port = if url.starts_with("http://") { ":80" } else { ":443" };
    if authority.ends_with(default_port) && !authority.ends_with(']') {
        check.problem(key, format!("leave out '{default_port}', as browsers do"));
    }
    if uri.as_ref().is_some_and(|uri| !matches!(uri.path(), "" | "/")) {
        check.warn(
            key,
            "has a path: other applications on this host name get the session's cookie, too; give the gateway a name of its own",
        );
    }
    if authority != authority.to_lowercase() {
        check.problem(key, "write the host in lower case, as browsers send it");
    }
    if url.trim_end_matches('/').ends_with("/sign-in/callback") {
        check.problem(key, "write the base address only: '/sign-in/callback' is added to it");
    }
    url.trim_end_matches('/').to_owned()
}

fn scopes(given: Option<&[String]>, key: &str, check: &mut Checker<'_>) -> String {
    let Some(given) = given else { return "openid profile".to_owned() };
    for (at, scope) in given.iter().enumerate() {
        // RFC 6749, 3.3.
        let valid = !scope.is_empty() && scope.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\'));
        if !valid {
            check.problem(&format!("{key}[{at}]"), format!("'{scope}' is not a scope: it has no spaces or quotes"));
        }
    }
    if !given.iter().any(|scope| scope == "openid") {
        check.problem(key, "'openid' is missing: without it the issuer sends no ID token");
    }
    given.join(" ")
}

fn roles(raw: &RawSignIn, check: &mut Checker<'_>) -> Vec<(String, Role)> {
    let lists = [
        (Role::Administrator, &raw.roles.administrator),
        (Role::Operator, &raw.roles.operator),
        (Role::Viewer, &raw.roles.viewer),
        (Role::Member, &raw.roles.member),
    ];
    if raw.everyone.is_none() && lists.iter().all(|(_, list)| list.is_empty()) {
        check.problem("server.sign_in.roles", "no person could sign in: list app roles or ids of groups, or set 'everyone'");
    }
    let mut seen = HashMap::new();
    let mut roles = Vec::new();
    for (role, list) in lists {
        for (at, name) in list.iter().enumerate() {
            let key = format!("server.sign_in.roles.{role}[{at}]");
            if name.trim().is_empty() || name.trim() != name {
                check.problem(&key, "must be an app role or the id of a group, without spaces around it");
            }
            if let Some(first) = seen.insert(name.clone(), role) {
                check.problem(&key, format!("'{name}' is listed twice, first under '{first}': it can have only one role"));
            }
            roles.push((name.clone(), role));
        }
    }
    roles
}
