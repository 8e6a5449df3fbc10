//! `[[consumers]]`.

use std::collections::BTreeMap;

use spillway_plugins::auth::{Stored, Validity};
use spillway_plugins::fields::{is_callers_own, is_hop_by_hop, is_withheld};

use super::{limits, portal};
use crate::config::checker::Checker;
use crate::config::plugins::{cache, prompt_log};
use crate::config::raw::{RawCertificateName, RawConsumer, RawKey};
use crate::config::rights::{Known, RawRights, rights};
use crate::config::{CertificateName, Consumer, Key, UNLISTED, transform};

/// Keys, certificates and claims that belong to a consumer already.
#[derive(Default)]
struct Owners<'r> {
    keys: BTreeMap<String, &'r str>,
    names: BTreeMap<String, &'r str>,
    claims: BTreeMap<&'r str, &'r str>,
}

/// How callers can show who they are, besides keys and certificates of the config.
#[derive(Clone, Copy)]
pub(super) struct WaysIn {
    /// There is a pepper for keys.
    pub(super) peppered: bool,
    /// Tokens are accepted.
    pub(super) tokens: bool,
    /// Keys can be issued at run time.
    pub(super) issued: bool,
}

pub(super) fn read(raw: &[RawConsumer], known: &Known<'_>, ways: WaysIn, check: &mut Checker<'_>) -> Vec<Consumer> {
    check.names("consumers", raw.iter().map(|consumer| consumer.name.as_str()));
    for (at, consumer) in raw.iter().enumerate().filter(|(_, consumer)| consumer.name.starts_with(UNLISTED)) {
        let message =
            format!("'{}': names that begin with '{UNLISTED}' are reserved for unlisted applications; choose another", consumer.name);
        check.problem(&format!("consumers[{at}].name"), message);
    }
    let mut owners = Owners::default();
    raw.iter().enumerate().map(|(index, consumer)| one(consumer, &format!("consumers[{index}]"), known, ways, &mut owners, check)).collect()
}

fn one<'r>(raw: &'r RawConsumer, key: &str, known: &Known<'_>, ways: WaysIn, owners: &mut Owners<'r>, check: &mut Checker<'_>) -> Consumer {
    let WaysIn { peppered, tokens, issued } = ways;
    let mut keys = Vec::new();
    for (at, api_key) in raw.keys.iter().enumerate() {
        keys.extend(self::key(api_key, &raw.name, &format!("{key}.keys[{at}]"), peppered, owners, check));
    }
    let mut certificates = Vec::new();
    for (at, name) in raw.certificates.iter().enumerate() {
        certificates.extend(certificate(name, &raw.name, &format!("{key}.certificates[{at}]"), owners, check));
    }
    // Without a list of claims, its name is its claim.
    for claim in raw.claims.as_deref().unwrap_or(std::slice::from_ref(&raw.name)) {
        if let Some(owner) = owners.claims.insert(claim, &raw.name).filter(|owner| *owner != raw.name) {
            check.problem(&format!("{key}.claims"), format!("the claim '{claim}' belongs to consumer '{owner}' already"));
        }
    }
    if raw.claims.is_some() && !tokens {
        check.problem(&format!("{key}.claims"), "has an effect only for tokens, and there is no [plugins.auth.jwt]");
    }
    if raw.keys.is_empty() && raw.certificates.is_empty() && !tokens && !issued {
        let message = "has neither keys nor certificates, and without server.state_dir none can be issued: no caller can be it";
        check.warn(&format!("{key}.name"), format!("'{}' {message}", raw.name));
    }
    let group = raw.group.as_ref().and_then(|name| {
        let found = known.groups.iter().position(|group| group == name);
        if found.is_none() {
            check.unknown(&format!("{key}.group"), "group", name, known.groups.iter().copied());
        }
        found
    });
    let RawConsumer { models, pools, locations, apis, service_tiers, roles, scopes, .. } = raw;
    Consumer {
        name: raw.name.as_str().into(),
        keys,
        certificates,
        claims: raw.claims.clone().unwrap_or_else(|| vec![raw.name.clone()]),
        rights: rights(&RawRights { models, pools, locations, apis, service_tiers, roles, scopes }, key, known, check),
        headers: headers(&raw.headers, &format!("{key}.headers"), check),
        class: limits::class(raw.class),
        deadline: raw.deadline.map(|deadline| check.span(Some(deadline), 0, &format!("{key}.deadline"))),
        owners: portal::owners(&raw.owners, &format!("{key}.owners"), check),
        issued_keys: portal::issued_keys(raw.issued_keys.as_ref(), &format!("{key}.issued_keys"), check),
        group,
        limits: limits::consumer(raw.limits.as_ref(), &format!("{key}.limits"), known.models.iter().copied(), check),
        cache: cache::consumer(raw.cache.as_ref(), &format!("{key}.cache"), check),
        guard: raw.guard.unwrap_or(true),
        transform: transform::read(raw.transform.as_ref(), &format!("{key}.transform"), check),
        prompt_log: prompt_log::consumer(raw.prompt_log.as_ref(), &format!("{key}.prompt_log"), check),
    }
}

/// Headers that are sent on for a consumer. Only withheld headers may be listed: others are sent anyway, or never.
fn headers(raw: &[String], key: &str, check: &mut Checker<'_>) -> Vec<http::HeaderName> {
    let mut names = Vec::new();
    for (at, name) in raw.iter().enumerate() {
        match name.to_ascii_lowercase().parse::<http::HeaderName>() {
            Ok(name) if is_withheld(name.as_str()) => names.push(name),
            Ok(name) if is_callers_own(name.as_str()) || is_hop_by_hop(name.as_str()) => {
                check.problem(&format!("{key}[{at}]"), format!("'{name}' is for the gateway only and never reaches a backend"));
            }
            Ok(name) => {
                check.problem(&format!("{key}[{at}]"), format!("'{name}' is not withheld: it reaches backends anyway; remove it here"))
            }
            Err(_) => check.problem(&format!("{key}[{at}]"), "is not a header name"),
        }
    }
    names
}

fn key<'r>(raw: &'r RawKey, owner: &'r str, key: &str, peppered: bool, owners: &mut Owners<'r>, check: &mut Checker<'_>) -> Option<Key> {
    let (name, hex) = match (&raw.sha256, &raw.hmac_sha256) {
        (Some(hex), None) => ("sha256", hex),
        (None, Some(hex)) => ("hmac_sha256", hex),
        _ => {
            check.problem(key, "give either 'sha256' or 'hmac_sha256'; `spillway keys new` makes a key and prints it");
            return None;
        }
    };
    let at = format!("{key}.{name}");
    if name == "hmac_sha256" && !peppered {
        check.problem(&at, "needs plugins.auth.pepper");
    }
    if let Some(owner) = owners.keys.insert(hex.to_ascii_lowercase(), owner) {
        check.problem(&at, format!("this key belongs to consumer '{owner}' already"));
    }
    let seconds = |time: Option<crate::config::scalar::TimeText>| time.map(|time| time.0.timestamp());
    let validity = Validity { not_before: seconds(raw.not_before), expires: seconds(raw.expires) };
    if matches!(validity, Validity { not_before: Some(from), expires: Some(until) } if until <= from) {
        check.problem(&format!("{key}.expires"), "is not after 'not_before': the key would never be valid");
    }
    match hex.parse() {
        Ok(digest) => {
            let stored = if name == "sha256" { Stored::Sha256(digest) } else { Stored::Hmac(digest) };
            Some(Key { stored, validity, hint: raw.hint.clone(), created: seconds(raw.created) })
        }
        Err(error) => {
            check.problem(&at, format!("{error}"));
            None
        }
    }
}

fn certificate<'r>(
    raw: &RawCertificateName,
    owner: &'r str,
    key: &str,
    owners: &mut Owners<'r>,
    check: &mut Checker<'_>,
) -> Option<CertificateName> {
    let (text, name) = match (&raw.san, &raw.subject) {
        // Host names are not case-sensitive; other names are compared exactly.
        (Some(san), None) if !san.contains([':', '@']) => (san, CertificateName::Alternative(san.to_ascii_lowercase())),
        (Some(san), None) => (san, CertificateName::Alternative(san.clone())),
        (None, Some(subject)) => (subject, CertificateName::Subject(subject.clone())),
        _ => {
            check.problem(key, "give either 'san' or 'subject'");
            return None;
        }
    };
    if let Some(owner) = owners.names.insert(format!("{name:?}"), owner) {
        check.problem(key, format!("certificates with '{text}' belong to consumer '{owner}' already"));
    }
    Some(name)
}
