//! TLS on both sides of a proxy: one CA, and a certificate for `localhost` that proxies and backends share.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// The name in the certificate.
pub const HOST: &str = "localhost";

/// A connection, with or without TLS.
pub trait Pipe: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Pipe for T {}

/// The CA, for those who connect.
#[derive(Clone)]
pub struct Trust(TlsConnector);

impl Trust {
    /// Speaks TLS on a connection.
    pub async fn connect(&self, tcp: TcpStream) -> Box<dyn Pipe> {
        let name = ServerName::try_from(HOST).expect("a name");
        Box::new(self.0.connect(name, tcp).await.expect("the proxy speaks TLS"))
    }
}

/// The files and settings.
pub struct Certificates {
    /// PEM files: the CA, the certificate and its key.
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
    pub trust: Trust,
    pub acceptor: TlsAcceptor,
}

impl Certificates {
    /// Makes them, with the files in a folder.
    pub fn new(folder: &Path) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).expect("a CA");
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new(vec![HOST.to_owned()]).expect("a name").signed_by(&key, &issuer).expect("a certificate");
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("the file is written");
            path
        };
        let mut roots = RootCertStore::empty();
        roots.add(ca.der().clone()).expect("a CA");
        let provider = Arc::new(default_provider());
        let client = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().expect("versions");
        let client = client.with_root_certificates(roots).with_no_client_auth();
        let server = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let server = server.with_no_client_auth().with_single_cert(vec![certificate.der().clone()], private).expect("its key");
        Certificates {
            ca: write("ca.pem", ca.pem()),
            cert: write("cert.pem", certificate.pem()),
            key: write("key.pem", key.serialize_pem()),
            trust: Trust(TlsConnector::from(Arc::new(client))),
            acceptor: TlsAcceptor::from(Arc::new(server)),
        }
    }
}
