//! Certificates and keys in PEM files.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Why a PEM file can't be used. Never contains parts of a key.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// It can't be read.
    #[error("can't read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It doesn't contain what was expected, or its content is broken.
    #[error("{}: {what}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
}

fn read(path: &Path) -> Result<Vec<u8>, PemError> {
    std::fs::read(path).map_err(|source| PemError::Unreadable { path: path.to_owned(), source })
}

fn content(path: &Path, what: &'static str) -> PemError {
    PemError::Content { path: path.to_owned(), what }
}

fn all<T: PemObject>(path: &Path, none: &'static str, broken: &'static str) -> Result<Vec<T>, PemError> {
    let text = read(path)?;
    let found: Vec<T> = T::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|_| content(path, broken))?;
    if found.is_empty() { Err(content(path, none)) } else { Ok(found) }
}

/// All certificates in a file; at least one.
///
/// # Errors
/// [`PemError`]
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    all(path, "has no certificate", "has a broken certificate")
}

/// All revocation lists in a file; at least one.
///
/// # Errors
/// [`PemError`]
pub fn revocation_lists(path: &Path) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    all(path, "has no revocation list (X509 CRL)", "has a broken revocation list")
}

/// The first private key in a file.
///
/// # Errors
/// [`PemError`]
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| content(path, "has no private key"))
}

/// Whether both Pingora and rustls accept a certificate as a CA. One that either of them can't read would make all
/// connections fail.
pub fn is_ca(certificate: &CertificateDer<'static>) -> bool {
    X509Certificate::from_der(certificate).is_ok() && RootCertStore::empty().add(certificate.clone()).is_ok()
}
