//! `auto`: the first credential that the environment has, in the order of Azure's own default chain: an application's
//! secret or certificate, a federated token file, the managed identity.

use std::path::PathBuf;

use crate::config::Secret;

use crate::config::{ClientCredentials, ClientProof, Identity, WorkloadIdentity};

/// Chooses from the environment, read through `var`.
pub(super) fn choose(var: impl Fn(&str) -> Option<String>) -> Identity {
    let var = |name: &str| var(name).filter(|value| !value.is_empty());
    let (tenant, client) = (var("AZURE_TENANT_ID"), var("AZURE_CLIENT_ID"));
    if let (Some(tenant_id), Some(client_id)) = (&tenant, &client) {
        let secret = var("AZURE_CLIENT_SECRET").map(|secret| ClientProof::Secret(Secret::from(secret)));
        let proof = secret.or_else(|| var("AZURE_CLIENT_CERTIFICATE_PATH").map(|path| ClientProof::Certificate(PathBuf::from(path))));
        if let Some(proof) = proof {
            let (tenant_id, client_id) = (tenant_id.clone(), client_id.clone());
            return Identity::Client(ClientCredentials { tenant_id, client_id, proof, authority: None });
        }
        if var("AZURE_FEDERATED_TOKEN_FILE").is_some() {
            return Identity::Workload(WorkloadIdentity::default());
        }
    }
    // With exactly one user-assigned identity the services use that one if none is named; with several, AZURE_CLIENT_ID
    // names it.
    Identity::Managed { client_id: client }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(pairs: &[(&str, &str)]) -> String {
        let identity = choose(|name| pairs.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()));
        identity.to_string()
    }

    #[test]
    fn the_chain_takes_what_is_there() {
        let ids = [("AZURE_TENANT_ID", "t"), ("AZURE_CLIENT_ID", "c")];
        let with = |more: &[(&'static str, &'static str)]| [&ids[..], more].concat();
        assert_eq!(chosen(&[]), "managed-identity");
        assert_eq!(chosen(&[("AZURE_CLIENT_ID", "c")]), "managed-identity/c");
        assert_eq!(chosen(&with(&[("AZURE_FEDERATED_TOKEN_FILE", "/f")])), "workload-identity");
        assert_eq!(chosen(&with(&[("AZURE_FEDERATED_TOKEN_FILE", "/f"), ("AZURE_CLIENT_SECRET", "s")])), "client-credentials/t/c");
        assert_eq!(chosen(&with(&[("AZURE_CLIENT_CERTIFICATE_PATH", "/p")])), "client-credentials/t/c");
        assert_eq!(chosen(&with(&[("AZURE_CLIENT_SECRET", "")])), "managed-identity/c", "empty is not set");
    }
}
