//! `[[backends]]`.

use std::net::IpAddr;

use spillway_plugins::api::Api;

use super::steering::Names;
use super::{metering, steering};
use crate::config::checker::Checker;
use crate::config::raw::{RawAzureApi, RawBackend, RawBackendAuth};
use crate::config::{
    BackendAuth, BackendConfig, COGNITIVE_SERVICES, ClientCredentials, ClientProof, Endpoint, Identity, Prices, TokenAuth, WorkloadIdentity,
};
use crate::provider::{OwnKeys, RawKind};

pub(super) fn read(raw: &[RawBackend], prices: &Prices, names: &Names<'_>, check: &mut Checker<'_>) -> Vec<BackendConfig> {
    check.names("backends", raw.iter().map(|backend| backend.name.as_str()));
    raw.iter().enumerate().map(|(index, backend)| one(backend, &format!("backends[{index}]"), prices, names, check)).collect()
}

fn one(raw: &RawBackend, key: &str, prices: &Prices, names: &Names<'_>, check: &mut Checker<'_>) -> BackendConfig {
    let dated = raw.api == Some(RawAzureApi::Dated);
    let kind = raw.kind.with(OwnKeys { dated, api_version: raw.api_version.as_deref(), reply: raw.reply.as_deref() });
    let mock = kind.provider().own_answer().is_some();
    only_for(check, key, mock, raw.reply.is_some(), "reply", "kind = \"mock\"");
    only_for(check, key, raw.kind == RawKind::AzureOpenai, raw.api.is_some(), "api", "kind = \"azure-openai\"");
    only_for(check, key, dated, raw.api_version.is_some(), "api_version", "api = \"dated\"");
    for (given, name) in [
        (raw.url.is_some(), "url"),
        (raw.auth.is_some(), "auth"),
        (raw.server_name.is_some(), "server_name"),
        (!raw.deployments.is_empty(), "deployments"),
        (raw.max_concurrent.is_some(), "max_concurrent"),
        (raw.ca.is_some(), "ca"),
        (!raw.prices.is_empty(), "prices"),
        (!raw.ptu.is_empty(), "ptu"),
    ] {
        only_for(check, key, !mock, given, name, "a backend that is not a mock");
    }
    let ca = raw.ca.as_ref().map(|path| check.certificates(&format!("{key}.ca"), path)).unwrap_or_default();
    if raw.ca.is_some() && raw.url.as_ref().is_some_and(|url| url.starts_with("http://")) {
        check.problem(&format!("{key}.ca"), "has no effect for an http:// URL");
    }
    if raw.max_concurrent == Some(0) {
        check.problem(&format!("{key}.max_concurrent"), "must be at least 1; to take a backend out, drain it or give it weight 0");
    }
    for (model, deployment) in &raw.deployments {
        // Only Azure's names are part of the path, and have no slash.
        let has_slash = deployment.contains('/') && !kind.provider().has_slashes_in_deployments();
        if deployment.is_empty()
            || has_slash
            || deployment.contains(['?', '#', '%'])
            || deployment.chars().any(|c| c.is_control() || c.is_whitespace())
        {
            check.problem(&format!("{key}.deployments.{model}"), format!("'{deployment}' is not a deployment name"));
        }
    }
    BackendConfig {
        name: raw.name.as_str().into(),
        kind,
        endpoint: if mock { None } else { endpoint(raw, key, check) },
        location: raw.location.as_deref().map(Into::into),
        auth: auth(raw.auth.as_ref(), key, check),
        deployments: raw.deployments.clone(),
        prices: metering::deployments(raw, key, prices, check),
        ptu: steering::deployments(raw, names, key, check),
        max_concurrent: raw.max_concurrent,
        ca,
    }
}

fn only_for(check: &mut Checker<'_>, key: &str, allowed: bool, given: bool, name: &str, what: &str) {
    if given && !allowed {
        check.problem(&format!("{key}.{name}"), format!("has an effect only for {what}"));
    }
}

fn endpoint(raw: &RawBackend, key: &str, check: &mut Checker<'_>) -> Option<Endpoint> {
    let Some(url) = &raw.url else {
        check.problem(key, format!("backend '{}' needs a 'url', such as \"https://contoso.openai.azure.com\"", raw.name));
        return None;
    };
    let key = format!("{key}.url");
    // Checked before any error that would repeat the URL.
    if url.contains('@') {
        check.problem(&key, "user names and passwords in a URL are not supported; use 'auth'");
        return None;
    }
    let expected = "expected a root such as \"https://contoso.openai.azure.com\"";
    let uri: http::Uri = match url.parse() {
        Ok(uri) => uri,
        Err(error) => {
            check.problem(&key, format!("'{url}' is not a URL ({error}); {expected}"));
            return None;
        }
    };
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => {
            check.problem(&key, format!("'{url}' does not begin with https:// or http://; {expected}"));
            return None;
        }
    };
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    let port = authority.rsplit(']').next().and_then(|rest| rest.rsplit_once(':')).map(|(_, port)| port);
    if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port != 0)) {
        check.problem(&key, format!("'{url}' has no valid port (1 to 65535)"));
    }
    if uri.query().is_some() {
        check.problem(&key, "must not have a query; set 'api_version' instead");
    }
    if let Some(above) = above_operation(uri.path(), raw.kind) {
        let root = format!("{}://{authority}{}", if tls { "https" } else { "http" }, prefix(above));
        check.problem(
            &key,
            format!("'{url}' is the address of a deployment or an operation: write the root, \"{root}\"; the gateway adds the rest"),
        );
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

/// What is above a deployment or an operation of the API in this path, if it has one.
fn above_operation(path: &str, kind: RawKind) -> Option<&str> {
    let path = path.trim_end_matches('/');
    // At other services a folder may have this name.
    let of_deployments = if kind == RawKind::AzureOpenai { "/deployments/" } else { "/openai/deployments/" };
    if let Some((above, _)) = path.split_once(of_deployments) {
        return Some(above);
    }
    let operations = Api::ALL.into_iter().filter(|api| !api.is_about_objects() && *api != Api::Realtime);
    operations.filter_map(|api| path.strip_suffix(api.operation())?.strip_suffix('/')).min_by_key(|above| above.len())
}

/// The path without the parts that each API's form adds, so that they are not doubled.
fn prefix(path: &str) -> String {
    let mut path = path.trim_end_matches('/');
    for known in ["/v1", "/openai", "/anthropic"] {
        path = path.strip_suffix(known).unwrap_or(path);
    }
    path.trim_end_matches('/').to_owned()
}

/// The gateway's credential for a backend or a service.
pub(in crate::config) fn auth(raw: Option<&RawBackendAuth>, key: &str, check: &mut Checker<'_>) -> BackendAuth {
    let key = format!("{key}.auth");
    match raw {
        None | Some(RawBackendAuth::None) => BackendAuth::None,
        Some(RawBackendAuth::Passthrough) => BackendAuth::Passthrough,
        Some(RawBackendAuth::ApiKey { key: secret }) => {
            check.secret(&format!("{key}.key"), secret).map_or(BackendAuth::None, BackendAuth::ApiKey)
        }
        Some(RawBackendAuth::ManagedIdentity { client_id, scope }) => {
            token(Identity::Managed { client_id: client_id.clone() }, scope.as_deref(), &key, check)
        }
        Some(RawBackendAuth::WorkloadIdentity { client_id, tenant_id, token_file, authority, scope }) => {
            if let Some(path) = token_file {
                check.readable(&format!("{key}.token_file"), path);
            }
            let identity = WorkloadIdentity {
                client_id: client_id.clone(),
                tenant_id: tenant_id.clone(),
                token_file: token_file.as_ref().map(Into::into),
                authority: authority_of(authority.as_deref(), &key, check),
            };
            token(Identity::Workload(identity), scope.as_deref(), &key, check)
        }
        Some(RawBackendAuth::ClientCredentials { tenant_id, client_id, secret, certificate, authority, scope }) => {
            let proof = match (secret, certificate) {
                (Some(secret), None) => check.secret(&format!("{key}.secret"), secret).map(ClientProof::Secret),
                (None, Some(path)) => {
                    check.readable(&format!("{key}.certificate"), path);
                    Some(ClientProof::Certificate(path.into()))
                }
                _ => {
                    check.problem(&key, "give either 'secret' or 'certificate'");
                    None
                }
            };
            let authority = authority_of(authority.as_deref(), &key, check);
            let Some(proof) = proof else { return BackendAuth::None };
            let identity = ClientCredentials { tenant_id: tenant_id.clone(), client_id: client_id.clone(), proof, authority };
            token(Identity::Client(identity), scope.as_deref(), &key, check)
        }
        Some(RawBackendAuth::Auto { scope }) => token(Identity::Auto, scope.as_deref(), &key, check),
    }
}

fn token(identity: Identity, scope: Option<&str>, key: &str, check: &mut Checker<'_>) -> BackendAuth {
    let scope = scope.unwrap_or(COGNITIVE_SERVICES);
    if !scope.ends_with("/.default") {
        check.problem(&format!("{key}.scope"), format!("'{scope}' does not end with '/.default', as a scope of an application must"));
    }
    BackendAuth::Token(TokenAuth { identity, scope: scope.to_owned() })
}

/// Secrets are sent to it, so always over TLS.
fn authority_of(authority: Option<&str>, key: &str, check: &mut Checker<'_>) -> Option<String> {
    let authority = authority?;
    check.https(&format!("{key}.authority"), authority, false);
    Some(authority.to_owned())
}
