//! `[server.portal]`, and the owners of consumers and groups.

use std::collections::BTreeSet;

use crate::config::checker::Checker;
use crate::config::raw::{RawConsumer, RawGroup, RawIssuedKeys, RawServer};
use crate::config::{IssuedKeyRules, Portal, PortalListener, Server};

/// The longest text in [`Portal::contact`].
const CONTACT: usize = 200;

/// The page for people. `others` are the addresses of the other listeners.
pub(super) fn read(raw: &RawServer, others: &[std::net::SocketAddr], check: &mut Checker<'_>) -> Portal {
    let Some(raw) = &raw.portal else { return Portal::default() };
    let key = "server.portal";
    let listen = raw.listen.as_deref().and_then(|text| check.address(&format!("{key}.listen"), text));
    if let Some(taken) = listen.filter(|listen| listen.port() != 0 && others.contains(listen)) {
        check.problem(&format!("{key}.listen"), format!("{taken} is the address of another listener; the portal needs one of its own"));
    }
    if let Some(url) = &raw.url {
        base_url(url, &format!("{key}.url"), check);
        check.https(&format!("{key}.url"), url, true);
        if raw.listen.is_none() {
            check.problem(&format!("{key}.url"), "is the address of the portal's own listener, and there is no 'listen'");
        }
    } else if raw.listen.is_some() {
        let message = "needs 'url': the address of this listener as browsers see it, such as \"https://ai.example.com\"";
        check.problem(&format!("{key}.listen"), message);
    }
    if let Some(url) = &raw.gateway_url {
        check.http(&format!("{key}.gateway_url"), url);
        base_url(url, &format!("{key}.gateway_url"), check);
    }
    let contact = raw.contact.as_deref().map(str::trim);
    if contact.is_some_and(|text| text.is_empty() || text.len() > CONTACT || text.chars().any(char::is_control)) {
        check.problem(&format!("{key}.contact"), format!("must be one line of 1 to {CONTACT} bytes"));
    }
    let trimmed = |url: &String| url.trim_end_matches('/').to_owned();
    let listener = listen.zip(raw.url.as_ref()).map(|(listen, url)| PortalListener { listen, url: trimmed(url) });
    Portal { listener, gateway_url: raw.gateway_url.as_ref().map(trimmed), contact: contact.map(str::to_owned) }
}

/// A URL to which paths are appended, and which is compared with what browsers send: no query, no fragment, no spaces.
fn base_url(text: &str, key: &str, check: &mut Checker<'_>) {
    let has_user = text.split_once("://").is_some_and(|(_, rest)| rest.split('/').next().is_some_and(|host| host.contains('@')));
    if text.contains(['?', '#', '\'', '"', '\\']) || text.chars().any(|c| c.is_whitespace() || c.is_control()) || has_user {
        check.problem(key, format!("'{text}' must be a plain address, without user, query, fragment or quotation marks"));
    } else if text.split('/').take(3).any(|part| part != part.to_lowercase()) {
        check.problem(key, "write scheme and host in lower case, as browsers send them");
    }
}

/// The owners of a consumer or group.
pub(super) fn owners(raw: &[String], key: &str, check: &mut Checker<'_>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    for (at, owner) in raw.iter().enumerate() {
        let key = format!("{key}[{at}]");
        if owner.is_empty() || owner.trim() != owner || owner.chars().any(char::is_control) {
            check.problem(&key, "must not be empty, and must not begin or end with a space");
        } else if !seen.insert(owner) {
            check.problem(&key, format!("'{owner}' is listed twice"));
        }
    }
    raw.to_vec()
}

/// Which keys owners may make.
pub(super) fn issued_keys(raw: Option<&RawIssuedKeys>, key: &str, check: &mut Checker<'_>) -> IssuedKeyRules {
    let default = IssuedKeyRules::default();
    let Some(raw) = raw else { return default };
    if raw.max == Some(0) {
        check.problem(&format!("{key}.max"), "0 would allow no key at all; leave 'owners' out instead");
    }
    let max_lifetime = check.span(raw.max_lifetime, default.max_lifetime.as_secs(), &format!("{key}.max_lifetime"));
    IssuedKeyRules { max: raw.max.unwrap_or(default.max), max_lifetime }
}

/// What has no effect, because something else is missing.
pub(super) fn warn_of_no_effect(
    server: Option<&Server>,
    (raw, consumers, groups): (&RawServer, &[RawConsumer], &[RawGroup]),
    signs_in: bool,
    check: &mut Checker<'_>,
) {
    if raw.portal.is_some() && !signs_in {
        check.problem("server.portal", "needs [server.sign_in]: the page is for people who sign in");
    }
    let of_consumers = consumers.iter().enumerate().map(|(at, consumer)| (format!("consumers[{at}].owners"), &consumer.owners));
    let of_groups = groups.iter().enumerate().map(|(at, group)| (format!("groups[{at}].owners"), &group.owners));
    let first = of_consumers.chain(of_groups).find(|(_, owners)| !owners.is_empty());
    if let Some((key, _)) = &first {
        if !signs_in {
            check.warn(key, "has an effect only with [server.sign_in], because owners are people who sign in");
        } else if server.is_some_and(|server| server.state_dir.is_none()) {
            check.warn(key, "owners can see their usage and make keys only with server.state_dir, where both are stored");
        }
    }
    for (at, consumer) in consumers.iter().enumerate().filter(|(_, consumer)| consumer.issued_keys.is_some()) {
        let of_group = consumer.group.as_ref().and_then(|name| groups.iter().find(|group| group.name == *name));
        if consumer.owners.is_empty() && of_group.is_none_or(|group| group.owners.is_empty()) {
            let message = "has an effect only for owners, and neither the consumer nor its group has 'owners'";
            check.warn(&format!("consumers[{at}].issued_keys"), message);
        }
    }
    let client_certificates = server.and_then(|server| server.tls.as_ref()).is_some_and(|tls| tls.client_required);
    if client_certificates && server.is_some_and(|server| server.portal.listener.is_some()) {
        check.warn("server.portal.listen", "browsers need a client certificate there, too: server.tls.client_auth is \"required\"");
    }
    if signs_in && first.is_some() && server.is_some_and(|server| server.portal.gateway_url.is_none()) {
        check.warn("server.portal.gateway_url", "isn't set: the code on the page /me has the first address of server.listen");
    }
}
