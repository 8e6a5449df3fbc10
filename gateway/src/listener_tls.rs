//! TLS on the listeners: the files are re-read when they change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::CertificateError;
use tokio_rustls::TlsAcceptor;
use tracing::{info, warn};

use crate::config::ServerTls;
use crate::config::tls::{Loaded, TlsError, load};
use crate::telemetry::metrics::Metrics;

/// How often the files are checked.
const LOOK: Duration = Duration::from_secs(1);

/// Why a handshake failed, as a label.
pub const FAILURES: [&str; 7] = [
    "timeout",
    "closed",
    "client_certificate_missing",
    "client_certificate_foreign",
    "client_certificate_revoked",
    "client_certificate_invalid",
    "protocol",
];

/// The TLS settings for new connections.
pub struct Tls {
    files: ServerTls,
    loaded: ArcSwap<Loaded>,
    metrics: Arc<Metrics>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tls({})", self.files.cert.display())
    }
}

impl Tls {
    /// Reads the files for the first time.
    ///
    /// # Errors
    /// [`TlsError`]
    pub fn new(files: ServerTls, metrics: Arc<Metrics>) -> Result<Self, TlsError> {
        let loaded = load(&files)?;
        metrics.listeners.tls_expires.set(loaded.expires);
        metrics.listeners.expose_tls(FAILURES);
        Ok(Tls { files, loaded: ArcSwap::from_pointee(loaded), metrics })
    }

    /// Whether it was made from these files.
    pub fn is_of(&self, files: &ServerTls) -> bool {
        self.files == *files
    }

    /// The acceptor for one connection.
    pub fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.loaded.load().config))
    }

    /// The settings for one connection that can only be HTTP/1.1.
    pub fn http1(&self) -> Arc<rustls::ServerConfig> {
        let mut settings = rustls::ServerConfig::clone(&self.loaded.load().config);
        settings.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(settings)
    }

    /// Re-reads the files whenever they change, for ever. Files that are not valid are not used.
    pub async fn keep_fresh(self: Arc<Self>) {
        let mut used = fingerprint(&self.files);
        let mut before = used.clone();
        loop {
            tokio::time::sleep(LOOK).await;
            let now = fingerprint(&self.files);
            // The same twice: all files have been replaced.
            if now != used && now == before {
                used = now.clone();
                self.reload();
            }
            before = now;
        }
    }

    fn reload(&self) {
        let loaded = load(&self.files);
        self.metrics.listeners.tls_reload(loaded.is_ok());
        match loaded {
            Ok(loaded) => {
                info!(expires = loaded.expires, "certificate files re-read");
                self.metrics.listeners.tls_expires.set(loaded.expires);
                self.loaded.store(Arc::new(loaded));
            }
            Err(error) => warn!(%error, "certificate files changed, but can't be used; the previous ones stay in use"),
        }
    }
}

type Fingerprint = Vec<(PathBuf, Option<(u64, u64, std::time::SystemTime)>)>;

/// Changes when the files change. Links are followed, because Kubernetes and certbot replace the links.
fn fingerprint(tls: &ServerTls) -> Fingerprint {
    use std::os::unix::fs::MetadataExt as _;
    let of = |path: &Path| std::fs::metadata(path).and_then(|data| Ok((data.ino(), data.len(), data.modified()?))).ok();
    let files = [Some(&tls.cert), Some(&tls.key), tls.client_ca.as_ref(), tls.client_crl.as_ref()];
    files.into_iter().flatten().map(|path| (path.clone(), of(path))).collect()
}

/// A label for a handshake that failed.
pub fn failure(error: &std::io::Error) -> &'static str {
    let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else { return "closed" };
    match error {
        rustls::Error::NoCertificatesPresented => "client_certificate_missing",
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => "client_certificate_foreign",
        rustls::Error::InvalidCertificate(CertificateError::Revoked | CertificateError::UnknownRevocationStatus) => {
            "client_certificate_revoked"
        }
        rustls::Error::InvalidCertificate(_) => "client_certificate_invalid",
        _ => "protocol",
    }
}
