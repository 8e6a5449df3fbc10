//! The CAs that a backend's certificate may come from. Pingora uses a peer's own list instead of the system's, so the
//! system's CAs are added to it.

use std::sync::{Arc, OnceLock};

use pingora::protocols::tls::CaType;
use pingora::utils::tls::{WrappedX509, parse_x509};
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
