//! `[[backends]]`, as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::metering::RawDeploymentPrice;
use crate::config::scalar::SecretText;
use crate::provider::RawKind;

/// Which of Azure's two APIs a backend is asked in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawAzureApi {
    /// `/openai/v1/…`, the deployment in the body.
    V1,
    /// `/openai/deployments/…?api-version=…`.
    Dated,
}

/// One upstream resource.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawBackend {
    /// Its name in this file, in metrics and in logs.
    pub name: String,
    /// What it speaks.
    pub kind: RawKind,
    /// Its root, such as `https://contoso.openai.azure.com`. A trailing `/v1` or `/openai` is understood.
    pub url: Option<String>,
    /// Host name for TLS and the `Host` header, where `url` has an IP address.
    pub server_name: Option<String>,
    /// Where it is, for location fences.
    pub location: Option<String>,
    /// How the gateway proves itself there. Default `{ type = "none" }`.
    pub auth: Option<RawBackendAuth>,
    /// model = deployment; unlisted models keep their name.
    #[serde(default)]
    pub deployments: BTreeMap<String, String>,
    /// deployment = what it costs, where that is not what the price table says.
    #[serde(default)]
    pub prices: BTreeMap<String, RawDeploymentPrice>,
    /// Azure only: `v1` (default) or `dated`.
    pub api: Option<RawAzureApi>,
    /// Azure only: the version for `api = "dated"`. Default `2024-10-21`.
    pub api_version: Option<String>,
    /// Requests in flight per deployment. Default: no bound.
    pub max_concurrent: Option<u32>,
    /// `kind = "mock"` only: what it answers.
    pub reply: Option<String>,
    /// PEM file with CAs to trust for this backend beside the system's.
    pub ca: Option<String>,
}

/// How the gateway proves itself to a backend.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RawBackendAuth {
    /// Not at all.
    None,
    /// With a key.
    ApiKey {
        /// The key.
        key: SecretText,
    },
    /// The caller's own credential is passed on.
    Passthrough,
    /// With the machine's managed identity: of a VM, of App Service or Container Apps, or through Azure Arc.
    ManagedIdentity {
        /// Client id of a user-assigned identity. Default: the system-assigned one.
        client_id: Option<String>,
        /// Token scope. Default `https://cognitiveservices.azure.com/.default`.
        scope: Option<String>,
    },
    /// With a federated token file.
    WorkloadIdentity {
        /// Client id. Default `AZURE_CLIENT_ID`.
        client_id: Option<String>,
        /// Tenant id. Default `AZURE_TENANT_ID`.
        tenant_id: Option<String>,
        /// Token file. Default `AZURE_FEDERATED_TOKEN_FILE`.
        token_file: Option<String>,
        /// Where Entra is. Default `AZURE_AUTHORITY_HOST`, else `https://login.microsoftonline.com`.
        authority: Option<String>,
        /// Token scope. Default `https://cognitiveservices.azure.com/.default`.
        scope: Option<String>,
    },
    /// As an application with a secret or a certificate.
    ClientCredentials {
        /// Tenant id.
        tenant_id: String,
        /// Client id.
        client_id: String,
        /// Client secret.
        secret: Option<SecretText>,
        /// PEM file with certificate and RSA key; read anew for every token.
        certificate: Option<String>,
        /// Where Entra is. Default `AZURE_AUTHORITY_HOST`, else `https://login.microsoftonline.com`.
        authority: Option<String>,
        /// Token scope. Default `https://cognitiveservices.azure.com/.default`.
        scope: Option<String>,
    },
    /// With whatever the environment offers: an application's secret or certificate
    /// (`AZURE_CLIENT_SECRET`, `AZURE_CLIENT_CERTIFICATE_PATH`), a federated token file, else the
    /// managed identity.
    Auto {
        /// Token scope. Default `https://cognitiveservices.azure.com/.default`.
        scope: Option<String>,
    },
}
