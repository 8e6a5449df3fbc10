//! The identities whose tokens the gateway sends to backends.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::Secret;

/// The scope of Azure OpenAI's tokens, classic form.
pub const COGNITIVE_SERVICES: &str = "https://cognitiveservices.azure.com/.default";

/// An identity's token for one scope.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenAuth {
    /// The identity.
    pub identity: Identity,
    /// The token's scope; ends with `/.default`.
    pub scope: String,
}

/// An identity.
#[derive(Debug, Clone, PartialEq)]
pub enum Identity {
    /// The managed identity of the machine.
    Managed {
        /// The client id of a user-assigned identity; `None` for the system-assigned one.
        client_id: Option<String>,
    },
    /// A federated one.
    Workload(WorkloadIdentity),
    /// An application's.
    Client(ClientCredentials),
    /// The first one that the environment has.
    Auto,
    /// Stands for another one in a rehearsal; no config file names it.
    Rehearsed {
        /// The stand-in for its token service.
        service: SocketAddr,
        /// The name of the one that it stands for.
        name: String,
    },
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

/// An application with a credential.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientCredentials {
    /// The tenant.
    pub tenant_id: String,
    /// The application.
    pub client_id: String,
    /// Its credential.
    pub proof: ClientProof,
    /// Entra's address; `None` for `AZURE_AUTHORITY_HOST`, else the public cloud.
    pub authority: Option<String>,
}

/// The credential of an application.
#[derive(Debug, Clone, PartialEq)]
pub enum ClientProof {
    /// A secret.
    Secret(Secret),
    /// A PEM file with certificate and RSA key.
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
            Identity::Rehearsed { name, .. } => f.write_str(name),
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
    /// Equal for identities that share a token.
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
