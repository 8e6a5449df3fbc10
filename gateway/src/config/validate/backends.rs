//! `[[backends]]`.

use std::net::IpAddr;

use super::Checker;
use crate::config::raw::{RawAzureApi, RawBackend, RawBackendAuth, RawKind};
use crate::config::{Backend, BackendAuth, BackendKind, Endpoint};

/// Azure's last dated version of general availability.
const DATED: &str = "2024-10-21";
const REPLY: &str = "The assistant is unavailable at the moment. Please try again in a few minutes.";

pub(super) fn read(raw: &[RawBackend], check: &mut Checker<'_>) -> Vec<Backend> {
    check.names("backends", raw.iter().map(|backend| backend.name.as_str()));
    raw.iter().enumerate().map(|(index, backend)| one(backend, &format!("backends[{index}]"), check)).collect()
}

fn one(raw: &RawBackend, key: &str, check: &mut Checker<'_>) -> Backend {
    let mock = raw.kind == RawKind::Mock;
    only_for(check, key, mock, raw.reply.is_some(), "reply", "kind = \"mock\"");
    only_for(check, key, raw.kind == RawKind::AzureOpenai, raw.api.is_some(), "api", "kind = \"azure-openai\"");
    only_for(check, key, raw.api == Some(RawAzureApi::Dated), raw.api_version.is_some(), "api_version", "api = \"dated\"");
    for (given, name) in [
        (raw.url.is_some(), "url"),
        (raw.auth.is_some(), "auth"),
        (raw.server_name.is_some(), "server_name"),
        (!raw.deployments.is_empty(), "deployments"),
        (raw.max_concurrent.is_some(), "max_concurrent"),
        (raw.ca.is_some(), "ca"),
    ] {
        only_for(check, key, !mock, given, name, "a backend that is not a mock");
    }
    if let Some(ca) = &raw.ca {
        check.readable(&format!("{key}.ca"), ca);
        check.not_available(&format!("{key}.ca"), "a CA bundle per backend");
    }
    if raw.max_concurrent == Some(0) {
        check.problem(&format!("{key}.max_concurrent"), "must be at least 1; to take a backend out, drain it or give it weight 0");
    }
    for (model, deployment) in &raw.deployments {
        if deployment.is_empty()
            || deployment.contains(['/', '?', '#', '%'])
            || deployment.chars().any(|c| c.is_control() || c.is_whitespace())
        {
            check.problem(&format!("{key}.deployments.{model}"), format!("'{deployment}' is no deployment name"));
        }
    }
    Backend {
        name: raw.name.as_str().into(),
        kind: match raw.kind {
            RawKind::AzureOpenai if raw.api == Some(RawAzureApi::Dated) => {
                BackendKind::AzureDated { api_version: raw.api_version.clone().unwrap_or_else(|| DATED.to_owned()) }
            }
            RawKind::AzureOpenai => BackendKind::AzureV1,
            RawKind::Openai => BackendKind::OpenAi,
            RawKind::Anthropic => BackendKind::Anthropic,
            RawKind::Mock => BackendKind::Mock { reply: raw.reply.clone().unwrap_or_else(|| REPLY.to_owned()) },
        },
        endpoint: if mock { None } else { endpoint(raw, key, check) },
        location: raw.location.as_deref().map(Into::into),
        auth: auth(raw.auth.as_ref(), key, check),
        deployments: raw.deployments.clone(),
        max_concurrent: raw.max_concurrent,
    }
}

fn only_for(check: &mut Checker<'_>, key: &str, allowed: bool, given: bool, name: &str, what: &str) {
    if given && !allowed {
        check.problem(&format!("{key}.{name}"), format!("has a meaning only for {what}"));
    }
}

fn endpoint(raw: &RawBackend, key: &str, check: &mut Checker<'_>) -> Option<Endpoint> {
    let Some(url) = &raw.url else {
        check.problem(key, format!("backend '{}' needs a 'url', such as \"https://contoso.openai.azure.com\"", raw.name));
        return None;
    };
    let key = format!("{key}.url");
    let expected = "expected a root such as \"https://contoso.openai.azure.com\"";
    let uri: http::Uri = match url.parse() {
        Ok(uri) => uri,
        Err(error) => {
            check.problem(&key, format!("'{url}' is no URL ({error}); {expected}"));
            return None;
        }
    };
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => {
            check.problem(&key, format!("'{url}' has no https:// or http://; {expected}"));
            return None;
        }
    };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let port = authority.rsplit(']').next().and_then(|rest| rest.rsplit_once(':')).map(|(_, port)| port);
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port != 0)) {
        check.problem(&key, format!("'{url}' has no valid port (1 to 65535)"));
    }
    if authority.contains('@') {
        check.problem(&key, "user names and passwords in a URL are not supported; use 'auth'");
    }
    if uri.query().is_some() {
        check.problem(&key, "a root has no query; set 'api_version' instead");
    }
    let host = uri.host().unwrap_or("").trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() {
        check.problem(&key, format!("'{url}' has no host name; {expected}"));
        return None;
    }
    let is_ip = host.parse::<IpAddr>().is_ok();
    if tls && is_ip && raw.server_name.is_none() {
        check.problem(&key, format!("TLS to {host} needs a host name to verify; use one in 'url', or set 'server_name'"));
    }
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let default_port = uri.port_u16().is_none_or(|port| port == if tls { 443 } else { 80 });
    let server_name = raw.server_name.clone().unwrap_or_else(|| host.clone());
    let authority = match &raw.server_name {
        Some(name) if default_port => name.clone(),
        Some(name) => format!("{name}:{port}"),
        None => authority.to_owned(),
    };
    Some(Endpoint { tls, host, port, server_name, authority, prefix: prefix(uri.path()) })
}

/// The path without what each API form adds by itself, so that nothing is doubled.
fn prefix(path: &str) -> String {
    let mut path = path.trim_end_matches('/');
    for known in ["/v1", "/openai", "/anthropic"] {
        path = path.strip_suffix(known).unwrap_or(path);
    }
    path.trim_end_matches('/').to_owned()
}

fn auth(raw: Option<&RawBackendAuth>, key: &str, check: &mut Checker<'_>) -> BackendAuth {
    let key = format!("{key}.auth");
    let literals = check.literals;
    let scheme = match raw {
        None | Some(RawBackendAuth::None) => return BackendAuth::None,
        Some(RawBackendAuth::Passthrough) => return BackendAuth::Passthrough,
        Some(RawBackendAuth::ApiKey { key: secret }) => {
            return match check.secrets.resolve(secret, literals) {
                Ok(secret) => BackendAuth::ApiKey(secret),
                Err(message) => {
                    check.problem(&format!("{key}.key"), message);
                    BackendAuth::None
                }
            };
        }
        Some(RawBackendAuth::ManagedIdentity { .. }) => "managed-identity",
        Some(RawBackendAuth::WorkloadIdentity { .. }) => "workload-identity",
        Some(RawBackendAuth::ClientCredentials { secret, certificate, .. }) => {
            if secret.is_some() == certificate.is_some() {
                check.problem(&key, "give either 'secret' or 'certificate'");
            }
            if let Some(Err(message)) = secret.as_ref().map(|secret| check.secrets.resolve(secret, literals)) {
                check.problem(&format!("{key}.secret"), message);
            }
            if let Some(path) = certificate {
                check.readable(&format!("{key}.certificate"), path);
            }
            "client-credentials"
        }
        Some(RawBackendAuth::Auto { .. }) => "auto",
    };
    check.not_available(&key, &format!("the scheme '{scheme}'"));
    BackendAuth::NotAvailable
}
