//! TLS towards backends: verified, with the right name, or not at all.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{ask, get, post};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::support::*;

/// A CA (as PEM) and a TLS front for `backend` with a certificate of that CA for `name`.
async fn front(backend: &ScriptedBackend, name: &str) -> (String, SocketAddr) {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, behind) = (listener.local_addr().unwrap(), backend.address());
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                let mut plain = TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
            });
        }
    });
    (pem, address)
}

/// A gateway process that trusts `ca`, and what one chat request through it got.
async fn status_of(url: &str, backend: &ScriptedBackend, ca: &str) -> (u16, String) {
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path().join("ca.pem");
    std::fs::write(&bundle, ca).unwrap();
    let text = config(&[member("a", backend, 1)], "", "").replace(&backend.url(), url);
    let process = Process::start(&text, &[("SSL_CERT_FILE", &bundle), ("SSL_CERT_DIR", directory.path())]);
    let got = ask(process.address, post("/v1/chat/completions", &[], chat(false).to_string().as_bytes())).await.unwrap();
    (got.status, get(process.admin, "/metrics").await.unwrap().text())
}

#[tokio::test]
async fn a_certificate_counts_only_for_its_name_and_from_a_trusted_ca() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let (ca, address) = front(&backend, "localhost").await;
    let (foreign, _) = front(&backend, "localhost").await;
    let (ca_other_name, other_name) = front(&backend, "somebody-else").await;
    let by_name = format!("https://localhost:{}", address.port());
    assert_eq!(status_of(&by_name, &backend, &ca).await.0, 200);
    let wrong_name = format!("https://localhost:{}", other_name.port());
    for (url, ca) in [(&by_name, &foreign), (&wrong_name, &ca_other_name)] {
        let (status, metrics) = status_of(url, &backend, ca).await;
        assert_eq!(status, 502);
        assert!(metrics.contains("spillway_attempts_total{backend=\"a\",deployment=\"m\",outcome=\"tls\",pool=\"pool\"} 1"), "{metrics}");
    }
    assert_eq!(backend.count(), 1);
}
