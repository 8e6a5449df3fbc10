//! The CAs that a backend's certificate may come from: the system's, and the backend's own. Pingora uses a peer's own list
//! instead of the system's, so the system's CAs are added to it.

use std::sync::{Arc, OnceLock};

use pingora::protocols::tls::CaType;
use pingora::utils::tls::{WrappedX509, parse_x509};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use tracing::warn;

use crate::config::pem::is_ca;

/// The system's CAs and these; `None` for only the system's.
pub(super) fn roots(more: &[CertificateDer<'static>]) -> Option<Arc<CaType>> {
    if more.is_empty() {
        return None;
    }
    let all = system().iter().chain(more).filter(|certificate| is_ca(certificate));
    Some(all.map(|certificate| WrappedX509::new(certificate.to_vec(), parse_x509)).collect())
}

/// How the gateway's own client speaks TLS with a backend that has these CAs of its own: TLS 1.2 and 1.3, HTTP/1.1, sessions
/// are resumed. `None` if the cryptography can't do that, which a test rules out.
pub(super) fn client_config(more: &[CertificateDer<'static>]) -> Option<Arc<ClientConfig>> {
    static SYSTEM: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = SYSTEM.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // As Pingora does: one that can't be read is left out.
        roots.add_parsable_certificates(system().iter().cloned());
        Arc::new(roots)
    });
    let mut roots = Arc::clone(roots);
    if !more.is_empty() {
        let own = more.iter().filter(|certificate| is_ca(certificate)).cloned();
        Arc::make_mut(&mut roots).add_parsable_certificates(own);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().ok()?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(Arc::new(config))
}

fn system() -> &'static [CertificateDer<'static>] {
    static SYSTEM: OnceLock<Vec<CertificateDer<'static>>> = OnceLock::new();
    SYSTEM.get_or_init(|| {
        let found = rustls_native_certs::load_native_certs();
        if let Some(error) = found.errors.first() {
            warn!(%error, count = found.certs.len(), "some of the system's CAs can't be read");
        }
        found.certs
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::{ClientConnection, Error, HandshakeKind, ServerConfig, ServerConnection};
    use rustls_pki_types::{PrivateKeyDer, ServerName};

    use super::*;

    /// A CA, and a server whose certificate for `a.test` is from it.
    fn server() -> (CertificateDer<'static>, Arc<ServerConfig>) {
        let (ca_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&ca_key).unwrap();
        let issuer = Issuer::new(params, ca_key);
        let certificate = CertificateParams::new(vec!["a.test".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let mut config = builder.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], key).unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        (ca.der().clone(), Arc::new(config))
    }

    /// A handshake, and what the client learnt.
    fn handshake(client: &Arc<ClientConfig>, server: &Arc<ServerConfig>, name: &'static str) -> Result<ClientConnection, Error> {
        let mut client = ClientConnection::new(Arc::clone(client), ServerName::try_from(name).unwrap())?;
        let mut server = ServerConnection::new(Arc::clone(server))?;
        for _ in 0..4 {
            let mut sent = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut sent).unwrap();
            }
            server.read_tls(&mut &sent[..]).unwrap();
            let _ = server.process_new_packets();
            let mut sent = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut sent).unwrap();
            }
            client.read_tls(&mut &sent[..]).unwrap();
            client.process_new_packets()?;
        }
        assert!(!client.is_handshaking());
        Ok(client)
    }

    #[test]
    fn a_backends_own_cas_are_trusted_for_its_name_only() {
        let (ca, server) = server();
        let (own, none) = (client_config(&[ca]).unwrap(), client_config(&[]).unwrap());
        assert!(handshake(&none, &server, "a.test").is_err(), "the system doesn't know this CA");
        assert!(handshake(&own, &server, "b.test").is_err());
        let first = handshake(&own, &server, "a.test").unwrap();
        assert_eq!((first.alpn_protocol(), first.handshake_kind()), (Some(&b"http/1.1"[..]), Some(HandshakeKind::Full)));
        let second = handshake(&own, &server, "a.test").unwrap();
        assert_eq!(second.handshake_kind(), Some(HandshakeKind::Resumed));
    }
}
