//! `managed-identity`: what the machine is. A VM asks its metadata service, App Service and Container
//! Apps their endpoint (both spoken by `azure_identity`), a server with Azure Arc its agent.

use azure_core::credentials::TokenCredential;
use azure_identity::{ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId};
use chrono::{DateTime, Utc};

use super::arc;
use super::fetch::{FetchError, Fetched};
use super::transport::TokenTransport;
use crate::outbound;

/// Fetches a token for the system-assigned identity, or the user-assigned one with this client id.
pub(super) async fn fetch(client_id: Option<&str>, scope: &str, wall: DateTime<Utc>) -> Result<Fetched, FetchError> {
    if let Some(endpoint) = arc::endpoint() {
        if client_id.is_some() {
            return Err(FetchError::new("Azure Arc has only a system-assigned identity: leave 'client_id' out"));
        }
        return arc::fetch(&endpoint, scope, wall).await;
    }
    let transport = TokenTransport::new(outbound::local()?);
    let options = ManagedIdentityCredentialOptions {
        user_assigned_id: client_id.map(|id| UserAssignedId::ClientId(id.to_owned())),
        client_options: transport.options(None),
    };
    // A new one each time: it would keep a token until five minutes before its end.
    let credential = ManagedIdentityCredential::new(Some(options))?;
    let got = credential.get_token(&[scope], None).await;
    transport.outcome(got, wall)
}
