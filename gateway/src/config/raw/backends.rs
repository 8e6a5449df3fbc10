//! `[[backends]]`, as it is written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::metering::RawDeploymentPrice;
use super::steering::RawPtu;
use crate::config::scalar::SecretText;
use crate::provider::RawKind;

/// Which of Azure's two APIs a backend is called with.
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
    /// Its API.
    pub kind: RawKind,
    /// Its root URL, such as `https://contoso.openai.azure.com`. It may end in `/v1` or `/openai`.
    pub url: Option<String>,
    /// Host name for TLS and the `Host` header, if `url` has an IP address.
    pub server_name: Option<String>,
    /// Its location, for location fences.
    pub location: Option<String>,
    /// The gateway's credential for it. Default `{ type = "none" }`.
    pub auth: Option<RawBackendAuth>,
    /// model = deployment; unlisted models keep their name.
    #[serde(default)]
    pub deployments: BTreeMap<String, String>,
    /// deployment = its price, if that differs from the price table.
    #[serde(default)]
    pub prices: BTreeMap<String, RawDeploymentPrice>,
    /// deployment = its provisioned throughput, if it has one.
    #[serde(default)]
    pub ptu: BTreeMap<String, RawPtu>,
    /// Azure only: `v1` (default) or `dated`.
    pub api: Option<RawAzureApi>,
    /// Azure only: the version for `api = "dated"`. Default `2024-10-21`.
    pub api_version: Option<String>,
    /// Most requests in flight per deployment. Default: no limit.
    pub max_concurrent: Option<u32>,
    /// `kind = "mock"` only: the text of its answers.
    pub reply: Option<String>,
    /// PEM file with CAs to trust for this backend in addition to the system's.
    pub ca: Option<String>,
}

/// The gateway's credential for a backend.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RawBackendAuth {
    /// No credential.
    None,
    /// A key.
    ApiKey {
        /// The key.
        key: SecretText,
    },
    /// The caller's own credential is sent on.
    Passthrough,
    /// The machine's managed identity: of a VM, of App Service or Container Apps, or through Azure Arc.
    ManagedIdentity {
        /// Client id of a user-assigned identity. Default: the system-assigned one.
        client_id: Option<String>,
        /// Token scope. Default `https://cognitiveservices.azure.com/.default`.
        scope: Option<String>,
    },
    /// A federated token file.
    WorkloadIdentity {
        /// Client id. Default `AZURE_CLIENT_ID`.
        client_id: Option<String>,
        /// Tenant id. Default `AZURE_TENANT_ID`.
        tenant_id: Option<String>,
        /// Token file. Default `AZURE_FEDERATED_TOKEN_FILE`.
        token_file: Option<String>,
        /// Entra's address. Default `AZURE_AUTHORITY_HOST`, else `https://login.microsoftonline.com`.
        authority: Option<String>,
        /// Token scope. Default `https://cognitiveservices.azure.com/.default`.
        scope: Option<String>,
    },
    /// An application with a secret or a certificate.
    ClientCredentials {
        /// Tenant id.
        tenant_id: String,
        /// Client id.
        client_id: String,
        /// Client secret.
        secret: Option<SecretText>,
        /// PEM file with certificate and RSA key; re-read for every token.
        certificate: Option<String>,
        /// Entra's address. Default `AZURE_AUTHORITY_HOST`, else `https://login.microsoftonline.com`.
        authority: Option<String>,
        /// Token scope. Default `https://cognitiveservices.azure.com/.default`.
        scope: Option<String>,
    },
    /// The first one that the environment has: an application's secret or certificate (`AZURE_CLIENT_SECRET`,
    /// `AZURE_CLIENT_CERTIFICATE_PATH`), a federated token file, else the managed identity.
    Auto {
        /// Token scope. Default `https://cognitiveservices.azure.com/.default`.
        scope: Option<String>,
    },
}
