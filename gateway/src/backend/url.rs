//! Each backend's own form of a request's path.

use spillway_plugins::api::{Api, Part};
use spillway_plugins::query;

use crate::config::Endpoint;
use crate::provider::{BackendKind, Operation, Url};

/// Query parameters that name a form, a deployment or a credential; never passed on.
const DROPPED: [&str; 5] = ["api-version", "api-key", "subscription-key", "model", "deployment"];

/// Query parameters of a realtime call that travel; nothing else may, for they choose the model.
const REALTIME: [&str; 1] = ["intent"];

/// Path and query for what is stored: `object` is its path below the API's root.
pub fn object_path(kind: &BackendKind, endpoint: &Endpoint, object: &str, query: Option<&str>) -> String {
    let mut url = Url::below(&endpoint.prefix);
    kind.provider().resource(object, &mut url);
    with_query(url, query, |name| !DROPPED.contains(&name))
}

/// Path and query for `api` at `deployment`. `query` is the caller's own, of which what belongs to
/// the URL form is dropped and the rest is kept.
pub fn path(kind: &BackendKind, endpoint: &Endpoint, (api, part): (Api, Option<Part>), deployment: &str, query: Option<&str>) -> String {
    let mut url = Url::below(&endpoint.prefix);
    kind.provider().operation(&Operation { api, part, deployment }, &mut url);
    with_query(url, query, |name| if api == Api::Realtime { REALTIME.contains(&name) } else { !DROPPED.contains(&name) })
}

/// Adds the parameters of the caller's that travel.
fn with_query(mut url: Url, query: Option<&str>, travels: impl Fn(&str) -> bool) -> String {
    for pair in query.unwrap_or("").split('&').filter(|pair| !pair.is_empty()) {
        if travels(&query::name(pair)) {
            url.add_pair(pair);
        }
    }
    url.into_text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::AzureOpenAi;

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
        assert_eq!(of(&BackendKind::AzureOpenAi(AzureOpenAi::V1), Api::Responses, Part::Compact), "/openai/v1/responses/compact?beta=true");
        assert_eq!(of(&BackendKind::OpenAi, Api::Responses, Part::InputTokens), "/v1/responses/input_tokens?beta=true");
        assert_eq!(
            of(&BackendKind::AzureOpenAi(AzureOpenAi::V1), Api::Messages, Part::CountTokens),
            "/anthropic/v1/messages/count_tokens?beta=true"
        );
        assert_eq!(of(&BackendKind::Anthropic, Api::Messages, Part::CountTokens), "/v1/messages/count_tokens?beta=true");
    }

    #[test]
    fn each_kind_has_its_form() {
        let dated = BackendKind::AzureOpenAi(AzureOpenAi::dated(Some("2024-10-21")));
        assert_eq!(of(&dated, Api::Chat, None), "/team/openai/deployments/dep/chat/completions?api-version=2024-10-21");
        assert_eq!(of(&dated, Api::Responses, None), "/team/openai/responses?api-version=2024-10-21");
        assert_eq!(of(&dated, Api::Realtime, None), "/team/openai/realtime?api-version=2024-10-21&deployment=dep");
        assert_eq!(of(&BackendKind::AzureOpenAi(AzureOpenAi::V1), Api::Chat, None), "/team/openai/v1/chat/completions");
        assert_eq!(of(&BackendKind::AzureOpenAi(AzureOpenAi::V1), Api::Realtime, None), "/team/openai/v1/realtime?model=dep");
        assert_eq!(of(&BackendKind::AzureOpenAi(AzureOpenAi::V1), Api::Messages, None), "/team/anthropic/v1/messages");
        assert_eq!(of(&BackendKind::OpenAi, Api::Embeddings, None), "/team/v1/embeddings");
        assert_eq!(of(&BackendKind::Anthropic, Api::Messages, None), "/team/v1/messages");
    }

    #[test]
    fn what_is_stored_has_each_kinds_form() {
        let endpoint =
            Endpoint { tls: true, host: "h".into(), port: 443, server_name: "h".into(), authority: "h".into(), prefix: String::new() };
        let of = |kind: &BackendKind| object_path(kind, &endpoint, "responses/resp_1/input_items", Some("api-version=x&limit=2&api-key=k"));
        assert_eq!(of(&BackendKind::AzureOpenAi(AzureOpenAi::V1)), "/openai/v1/responses/resp_1/input_items?limit=2");
        let dated = BackendKind::AzureOpenAi(AzureOpenAi::dated(Some("2025-04-01-preview")));
        assert_eq!(of(&dated), "/openai/responses/resp_1/input_items?api-version=2025-04-01-preview&limit=2");
        assert_eq!(of(&BackendKind::OpenAi), "/v1/responses/resp_1/input_items?limit=2");
    }

    #[test]
    fn the_callers_query_keeps_what_is_its_own() {
        let got = of(&BackendKind::AzureOpenAi(AzureOpenAi::V1), Api::Chat, Some("api-version=preview&API-KEY=secret&beta=true&x"));
        assert_eq!(got, "/team/openai/v1/chat/completions?beta=true&x");
        assert_eq!(of(&BackendKind::OpenAi, Api::Chat, Some("api%2Dkey=secret&MOD%65L=b&a%zz=1")), "/team/v1/chat/completions?a%zz=1");
        assert_eq!(
            of(&BackendKind::OpenAi, Api::Realtime, Some("model=a&mod%65l=b&intent=transcription&x=1")),
            "/team/v1/realtime?model=dep&intent=transcription"
        );
    }
}
