//! `workload-identity`: a federated token in a file, as Kubernetes and others provide it. The file is re-read for every
//! token, because it changes.

use azure_core::credentials::TokenCredential;
use azure_identity::{ClientAssertionCredentialOptions, WorkloadIdentityCredential, WorkloadIdentityCredentialOptions};
use chrono::{DateTime, Utc};

use super::fetch::{FetchError, Fetched};
use super::transport::TokenTransport;
use crate::config::WorkloadIdentity;
use crate::http_client;

/// Fetches a token. What the config doesn't set comes from the environment (`AZURE_CLIENT_ID`, `AZURE_TENANT_ID`,
/// `AZURE_FEDERATED_TOKEN_FILE`).
pub(super) async fn fetch(identity: &WorkloadIdentity, scope: &str, wall: DateTime<Utc>) -> Result<Fetched, FetchError> {
    let transport = TokenTransport::new(http_client::internet()?);
    let options = WorkloadIdentityCredentialOptions {
        credential_options: ClientAssertionCredentialOptions { client_options: transport.options(identity.authority.as_deref()) },
        client_id: identity.client_id.clone(),
        tenant_id: identity.tenant_id.clone(),
        token_file_path: identity.token_file.clone(),
    };
    let credential = WorkloadIdentityCredential::new(Some(options))?;
    let got = credential.get_token(&[scope], None).await;
    transport.outcome(got, wall)
}
