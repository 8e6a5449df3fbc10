//! The listeners' TLS: reads the files, and checks that they belong together.

use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{ServerTls, pem};

/// Why the files can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("server.tls.{key}: {what}")]
pub struct TlsError {
    /// The key below `server.tls` that names the file.
    pub key: &'static str,
    /// What is wrong with it.
    pub what: String,
}

impl TlsError {
    fn new(key: &'static str, what: impl ToString) -> Self {
        TlsError { key, what: what.to_string() }
    }
}

/// The content of the files.
#[derive(Clone)]
pub struct Loaded {
    /// The settings for new connections.
    pub config: Arc<ServerConfig>,
    /// When the certificate expires, in seconds since 1970.
    pub expires: i64,
}

/// Reads the files, and checks that they belong together.
///
/// # Errors
/// [`TlsError`] names the file.
pub fn load(tls: &ServerTls) -> Result<Loaded, TlsError> {
    let chain = pem::certificates(&tls.cert).map_err(|error| TlsError::new("cert", error))?;
    let key = pem::private_key(&tls.key).map_err(|error| TlsError::new("key", error))?;
    let expires =
        expiry(chain.first()).ok_or_else(|| TlsError::new("cert", format!("{}: is not an X.509 certificate", tls.cert.display())))?;
    let provider = Arc::new(ring::default_provider());
    let versions: &[&SupportedProtocolVersion] = if tls.tls12 { &[&version::TLS13, &version::TLS12] } else { &[&version::TLS13] };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .map_err(|error| TlsError::new("min_version", error))?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            for certificate in pem::certificates(ca).map_err(|error| TlsError::new("client_ca", error))? {
                roots.add(certificate).map_err(|error| TlsError::new("client_ca", format!("{}: {error}", ca.display())))?;
            }
            let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            if let Some(crl) = &tls.client_crl {
                verifier = verifier.with_crls(pem::revocation_lists(crl).map_err(|error| TlsError::new("client_crl", error))?);
            }
            if !tls.client_required {
                verifier = verifier.allow_unauthenticated();
            }
            let key = if tls.client_crl.is_some() { "client_crl" } else { "client_ca" };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| TlsError::new(key, error))?)
        }
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| TlsError::new("key", format!("{} does not belong to {}: {error}", tls.key.display(), tls.cert.display())))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Loaded { config: Arc::new(config), expires })
}

fn expiry(certificate: Option<&CertificateDer<'_>>) -> Option<i64> {
    X509Certificate::from_der(certificate?).ok().map(|(_, parsed)| parsed.validity().not_after.timestamp())
}
