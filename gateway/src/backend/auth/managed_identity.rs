//! `managed-identity`: the identity of the machine. The token comes from the metadata service on a VM, from an endpoint
//! in App Service and Container Apps (`azure_identity` supports both), and from the agent on a server with Azure Arc.

use azure_core::credentials::TokenCredential;
use azure_identity::{ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId};
use chrono::{DateTime, Utc};

use super::arc;
use super::fetch::{FetchError, Fetched};
use super::transport::TokenTransport;
use crate::http_client;

/// Fetches a token for the system-assigned identity, or the user-assigned one with this client id.
pub(super) async fn fetch(client_id: Option<&str>, scope: &str, wall: DateTime<Utc>) -> Result<Fetched, FetchError> {
    if let Some(endpoint) = arc::endpoint() {
        if client_id.is_some() {
            return Err(FetchError::new("Azure Arc has only a system-assigned identity: leave 'client_id' out"));
        }
        return arc::fetch(&endpoint, scope, wall).await;
    }
    let transport = TokenTransport::new(http_client::local()?);
    let options = ManagedIdentityCredentialOptions {
        user_assigned_id: client_id.map(|id| UserAssignedId::ClientId(id.to_owned())),
        client_options: transport.options(None),
    };
    // A new credential each time: a credential keeps a token until five minutes before its end.
    let credential = ManagedIdentityCredential::new(Some(options))?;
    let got = credential.get_token(&[scope], None).await;
    transport.outcome(got, wall)
}
