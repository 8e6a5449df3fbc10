//! TLS towards backends: verified, with the right name, or not at all.

use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{ask, get, post};

use crate::support::*;

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
    let (ca, foreign) = (TestCa::new("ca"), TestCa::new("foreign").pem);
    let address = tls_front(&ca, "localhost", backend.address()).await;
    let other_name = tls_front(&ca, "somebody-else", backend.address()).await;
    let (ca, ca_other_name) = (ca.pem.clone(), ca.pem);
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
