//! Each backend's own form of a request's path.

use std::fmt::Write as _;

use spillway_plugins::api::{Api, Part};
use spillway_plugins::query;

use crate::config::{BackendKind, Endpoint};

/// Whether a backend of `kind` can serve `api` at all.
pub fn serves(kind: &BackendKind, api: Api) -> bool {
    match kind {
        BackendKind::Mock { .. } => api != Api::Realtime && !api.is_about_objects(),
        BackendKind::AzureV1 => true,
        BackendKind::AzureDated { .. } | BackendKind::OpenAi => api != Api::Messages,
        BackendKind::Anthropic => api == Api::Messages,
    }
}

/// Query parameters that name a form, a deployment or a credential; never passed on.
const DROPPED: [&str; 5] = ["api-version", "api-key", "subscription-key", "model", "deployment"];

/// Query parameters of a realtime call that travel; nothing else may, for they choose the model.
const REALTIME: [&str; 1] = ["intent"];

/// Path and query for what is stored: `object` is its path below the API's root.
pub fn object_path(kind: &BackendKind, endpoint: &Endpoint, object: &str, query: Option<&str>) -> String {
    let (root, version) = match kind {
        BackendKind::AzureV1 => ("/openai/v1/", None),
        BackendKind::AzureDated { api_version } => ("/openai/", Some(api_version)),
        BackendKind::OpenAi | BackendKind::Anthropic | BackendKind::Mock { .. } => ("/v1/", None),
    };
    let mut path = format!("{}{root}{object}", endpoint.prefix);
    let version = version.map(|version| format!("api-version={version}"));
    let own = query.unwrap_or("").split('&').filter(|pair| !pair.is_empty());
    let own = own.filter(|pair| !DROPPED.contains(&query::name(pair).as_str()));
    for (index, pair) in version.as_deref().into_iter().chain(own).enumerate() {
        path.push(if index == 0 { '?' } else { '&' });
        path.push_str(pair);
    }
    path
}

/// Path and query for `api` at `deployment`. `query` is the caller's own, of which what belongs to
/// the URL form is dropped and the rest is kept.
pub fn path(kind: &BackendKind, endpoint: &Endpoint, (api, part): (Api, Option<Part>), deployment: &str, query: Option<&str>) -> String {
    let mut path = String::with_capacity(96);
    path.push_str(&endpoint.prefix);
    let operation = part.map_or(api.operation(), Part::operation);
    let mut separator = '?';
    let mut add = |path: &mut String, parameter: std::fmt::Arguments<'_>| {
        path.push(separator);
        let _ = path.write_fmt(parameter);
        separator = '&';
    };
    match kind {
        BackendKind::AzureV1 if api == Api::Messages => {
            path.push_str("/anthropic/v1/");
            path.push_str(operation);
        }
        BackendKind::AzureV1 => {
            path.push_str("/openai/v1/");
            path.push_str(operation);
            if api == Api::Realtime {
                add(&mut path, format_args!("model={deployment}"));
            }
        }
        BackendKind::AzureDated { api_version } => {
            path.push_str("/openai/");
            if !matches!(api, Api::Responses | Api::Realtime) {
                let _ = write!(path, "deployments/{deployment}/");
            }
            path.push_str(operation);
            add(&mut path, format_args!("api-version={api_version}"));
            if api == Api::Realtime {
                add(&mut path, format_args!("deployment={deployment}"));
            }
        }
        BackendKind::OpenAi | BackendKind::Anthropic | BackendKind::Mock { .. } => {
            path.push_str("/v1/");
            path.push_str(operation);
            if api == Api::Realtime {
                add(&mut path, format_args!("model={deployment}"));
            }
        }
    }
    for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
        let name = query::name(pair);
        let travels = if api == Api::Realtime { REALTIME.contains(&name.as_str()) } else { !DROPPED.contains(&name.as_str()) };
        if travels {
            add(&mut path, format_args!("{pair}"));
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: &BackendKind, api: Api, query: Option<&str>) -> String {
        let endpoint =
            Endpoint { tls: true, host: "h".into(), port: 443, server_name: "h".into(), authority: "h".into(), prefix: "/team".into() };
        path(kind, &endpoint, (api, None), "dep", query)
    }

    #[test]
    fn parts_of_an_api_stand_below_it() {
        let endpoint =
            Endpoint { tls: true, host: "h".into(), port: 443, server_name: "h".into(), authority: "h".into(), prefix: String::new() };
        let of = |kind: &BackendKind, api: Api, part: Part| path(kind, &endpoint, (api, Some(part)), "dep", Some("beta=true"));
        assert_eq!(of(&BackendKind::AzureV1, Api::Responses, Part::Compact), "/openai/v1/responses/compact?beta=true");
        assert_eq!(of(&BackendKind::OpenAi, Api::Responses, Part::InputTokens), "/v1/responses/input_tokens?beta=true");
        assert_eq!(of(&BackendKind::AzureV1, Api::Messages, Part::CountTokens), "/anthropic/v1/messages/count_tokens?beta=true");
        assert_eq!(of(&BackendKind::Anthropic, Api::Messages, Part::CountTokens), "/v1/messages/count_tokens?beta=true");
    }

    #[test]
    fn each_kind_has_its_form() {
        let dated = BackendKind::AzureDated { api_version: "2024-10-21".into() };
        assert_eq!(of(&dated, Api::Chat, None), "/team/openai/deployments/dep/chat/completions?api-version=2024-10-21");
        assert_eq!(of(&dated, Api::Responses, None), "/team/openai/responses?api-version=2024-10-21");
        assert_eq!(of(&dated, Api::Realtime, None), "/team/openai/realtime?api-version=2024-10-21&deployment=dep");
        assert_eq!(of(&BackendKind::AzureV1, Api::Chat, None), "/team/openai/v1/chat/completions");
        assert_eq!(of(&BackendKind::AzureV1, Api::Realtime, None), "/team/openai/v1/realtime?model=dep");
        assert_eq!(of(&BackendKind::AzureV1, Api::Messages, None), "/team/anthropic/v1/messages");
        assert_eq!(of(&BackendKind::OpenAi, Api::Embeddings, None), "/team/v1/embeddings");
        assert_eq!(of(&BackendKind::Anthropic, Api::Messages, None), "/team/v1/messages");
    }

    #[test]
    fn what_is_stored_has_each_kinds_form() {
        let endpoint =
            Endpoint { tls: true, host: "h".into(), port: 443, server_name: "h".into(), authority: "h".into(), prefix: String::new() };
        let of = |kind: &BackendKind| object_path(kind, &endpoint, "responses/resp_1/input_items", Some("api-version=x&limit=2&api-key=k"));
        assert_eq!(of(&BackendKind::AzureV1), "/openai/v1/responses/resp_1/input_items?limit=2");
        let dated = BackendKind::AzureDated { api_version: "2025-04-01-preview".into() };
        assert_eq!(of(&dated), "/openai/responses/resp_1/input_items?api-version=2025-04-01-preview&limit=2");
        assert_eq!(of(&BackendKind::OpenAi), "/v1/responses/resp_1/input_items?limit=2");
    }

    #[test]
    fn the_callers_query_keeps_what_is_its_own() {
        let got = of(&BackendKind::AzureV1, Api::Chat, Some("api-version=preview&API-KEY=secret&beta=true&x"));
        assert_eq!(got, "/team/openai/v1/chat/completions?beta=true&x");
        assert_eq!(of(&BackendKind::OpenAi, Api::Chat, Some("api%2Dkey=secret&MOD%65L=b&a%zz=1")), "/team/v1/chat/completions?a%zz=1");
        assert_eq!(
            of(&BackendKind::OpenAi, Api::Realtime, Some("model=a&mod%65l=b&intent=transcription&x=1")),
            "/team/v1/realtime?model=dep&intent=transcription"
        );
    }
}
