//! Which identity the gateway shows to backends that take tokens.

use std::fmt;
use std::path::PathBuf;

use crate::config::Secret;

/// The scope of Azure OpenAI's tokens, classic form.
pub const COGNITIVE_SERVICES: &str = "https://cognitiveservices.azure.com/.default";

/// An identity's token for one scope.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenAuth {
    /// Whose token.
    pub identity: Identity,
    /// For what; ends with `/.default`.
    pub scope: String,
}

/// Whose token.
#[derive(Debug, Clone, PartialEq)]
pub enum Identity {
    /// The machine's.
    Managed {
        /// A user-assigned one; `None` for the system-assigned.
        client_id: Option<String>,
    },
    /// A federated one.
    Workload(WorkloadIdentity),
    /// An application's.
    Client(ClientCredentials),
    /// Whatever the environment offers.
    Auto,
}

/// A federated identity. What is `None` comes from the environment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WorkloadIdentity {
    /// `AZURE_CLIENT_ID`
    pub client_id: Option<String>,
    /// `AZURE_TENANT_ID`
    pub tenant_id: Option<String>,
    /// `AZURE_FEDERATED_TOKEN_FILE`
    pub token_file: Option<PathBuf>,
    /// `AZURE_AUTHORITY_HOST`
    pub authority: Option<String>,
}

/// An application that proves itself.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientCredentials {
    /// The tenant.
    pub tenant_id: String,
    /// The application.
    pub client_id: String,
    /// How it proves itself.
    pub proof: ClientProof,
    /// Where Entra is; `None` for `AZURE_AUTHORITY_HOST`, else the public cloud.
    pub authority: Option<String>,
}

/// How an application proves itself.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientProof {
    /// With a secret.
    Secret(Secret),
    /// With a PEM file that holds certificate and RSA key.
    Certificate(PathBuf),
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let after = |value: &Option<String>| value.as_ref().map_or(String::new(), |value| format!("/{value}"));
        match self {
            Identity::Managed { client_id } => write!(f, "managed-identity{}", after(client_id)),
            Identity::Workload(identity) => write!(f, "workload-identity{}{}", after(&identity.tenant_id), after(&identity.client_id)),
            Identity::Client(identity) => write!(f, "client-credentials/{}/{}", identity.tenant_id, identity.client_id),
            Identity::Auto => f.write_str("auto"),
        }
    }
}

impl fmt::Display for TokenAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope == COGNITIVE_SERVICES {
            true => write!(f, "{}", self.identity),
            false => write!(f, "{} for {}", self.identity, self.scope),
        }
    }
}

impl TokenAuth {
    /// Equal for those that share a token.
    pub fn identifier(&self) -> String {
        let proof = match &self.identity {
            Identity::Client(ClientCredentials { proof: ClientProof::Secret(secret), authority, .. }) => {
                format!("{authority:?} {:?}", spillway_plugins::auth::digest(secret.expose().as_bytes()))
            }
            other => format!("{other:?}"),
        };
        format!("{self} {proof}")
    }
}
