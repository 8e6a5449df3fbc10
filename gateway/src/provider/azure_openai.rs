//! `azure-openai`: an Azure OpenAI resource, asked in one of Azure's two APIs.

use spillway_plugins::api::Api;
use spillway_plugins::semconv;

use super::interface::{ModelInBody, Provider};
use super::key_header::KeyHeader;
use super::refused::Refused;
use super::url::{Operation, Url};

/// The last dated version of general availability.
const DATED: &str = "2024-10-21";

/// Which of Azure's two APIs a resource is asked in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AzureOpenAi {
    /// `/openai/v1/…`, the deployment in the body.
    V1,
    /// `/openai/deployments/…?api-version=…`.
    Dated {
        /// The version.
        api_version: String,
    },
}

impl AzureOpenAi {
    /// The dated API in this version, or the usual one.
    pub fn dated(api_version: Option<&str>) -> Self {
        AzureOpenAi::Dated { api_version: api_version.unwrap_or(DATED).to_owned() }
    }
}

impl Provider for AzureOpenAi {
    fn semconv_name(&self) -> &'static str {
        semconv::AZURE
    }

    fn price_prefixes(&self) -> Option<&'static [&'static str]> {
        Some(&["azure/", "azure_ai/"])
    }

    fn serves(&self, api: Api) -> bool {
        *self == AzureOpenAi::V1 || api != Api::Messages
    }

    fn operation(&self, operation: &Operation<'_>, url: &mut Url) {
        match self {
            AzureOpenAi::V1 if operation.api == Api::Messages => url.add_operation("/anthropic/v1/", operation),
            AzureOpenAi::V1 => url.add_operation("/openai/v1/", operation),
            AzureOpenAi::Dated { api_version } => {
                url.add_path(&["/openai/"]);
                if !matches!(operation.api, Api::Responses | Api::Realtime) {
                    url.add_path(&["deployments/", operation.deployment, "/"]);
                }
                url.add_path(&[operation.path()]);
                url.add_parameter("api-version", api_version);
                if operation.api == Api::Realtime {
                    url.add_parameter("deployment", operation.deployment);
                }
            }
        }
    }

    fn resource(&self, path: &str, url: &mut Url) {
        match self {
            AzureOpenAi::V1 => url.add_path(&["/openai/v1/", path]),
            AzureOpenAi::Dated { api_version } => {
                url.add_path(&["/openai/", path]);
                url.add_parameter("api-version", api_version);
            }
        }
    }

    fn model_in_body(&self, api: Api) -> ModelInBody {
        match (self, api) {
            (AzureOpenAi::V1, _) | (AzureOpenAi::Dated { .. }, Api::Responses) => ModelInBody::Required,
            // The dated API knows its models by other names there: the URL's deployment is the model.
            (AzureOpenAi::Dated { .. }, Api::ImageGenerations) => ModelInBody::Forbidden,
            (AzureOpenAi::Dated { .. }, _) => ModelInBody::Optional,
        }
    }

    fn has_slashes_in_deployments(&self) -> bool {
        // Each is one segment of a path.
        false
    }

    fn key_header(&self) -> KeyHeader {
        KeyHeader::plain("api-key")
    }

    fn remedy(&self, refused: &Refused<'_>) -> &'static str {
        match (refused.token, refused.body.contains("PermissionDenied"), refused.status) {
            (true, true, _) => {
                "; give this identity the role 'Cognitive Services OpenAI User' on the resource (a new assignment takes five minutes or more)"
            }
            (true, false, 401) => {
                "; the resource doesn't take the token: is 'scope' right, does the resource have a custom domain, and is the identity of its tenant?"
            }
            (_, false, 403) => "; is this machine let through the resource's network rules?",
            _ => refused.remedy_for_key(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_dated_api_has_models_in_urls_alone() {
        let dated = AzureOpenAi::dated(None);
        for (api, expected) in [
            (Api::Chat, ModelInBody::Optional),
            (Api::Responses, ModelInBody::Required),
            (Api::ImageGenerations, ModelInBody::Forbidden),
            (Api::Transcriptions, ModelInBody::Optional),
        ] {
            assert_eq!(dated.model_in_body(api), expected, "{api}");
            assert_eq!(AzureOpenAi::V1.model_in_body(api), ModelInBody::Required, "{api}");
        }
    }

    #[test]
    fn each_refusal_has_its_remedy() {
        for (token, body, status, expected) in [
            (true, "PermissionDenied", 401, "Cognitive Services OpenAI User"),
            (true, "PermissionDenied", 403, "Cognitive Services OpenAI User"),
            (true, "", 401, "custom domain"),
            (true, "", 403, "network rules"),
            (false, "", 403, "network rules"),
            (false, "", 401, "the key is wrong"),
            (false, "PermissionDenied", 401, "the key is wrong"),
        ] {
            let remedy = AzureOpenAi::V1.remedy(&Refused { status, body, token });
            assert!(remedy.contains(expected), "{token} {body} {status}: {remedy}");
        }
        assert_eq!(AzureOpenAi::V1.remedy(&Refused { status: 403, body: "PermissionDenied", token: false }), "");
    }
}
