//! TLS on the listeners, with real clients: curl and openssl.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use rcgen::{CertificateParams, DistinguishedName, DnType, SanType, SerialNumber};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::post;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::support::*;

/// Files of a test, and the gateway that reads them.
struct Secure {
    directory: tempfile::TempDir,
    gateway: Gateway,
    backend: ScriptedBackend,
}

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    // As whoever is careful does it: never half a file.
    std::fs::write(directory.join("new"), text).unwrap();
    std::fs::rename(directory.join("new"), &path).unwrap();
    path
}

impl Secure {
    async fn start(ca: &TestCa, tls: &str, rest: &str, prepare: impl FnOnce(&Path)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        install(directory.path(), ca);
        write(directory.path(), "ca.pem", &ca.pem);
        prepare(directory.path());
        let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
        let folder = directory.path().display().to_string();
        let tls = format!("\n[server.tls]\ncert = \"{folder}/cert.pem\"\nkey = \"{folder}/key.pem\"\n{}", tls.replace("DIR", &folder));
        let text = config(&[member("a", &backend, 1)], "", rest).replace("#server", &tls);
        let gateway = Gateway::start(&text).await;
        Secure { directory, gateway, backend }
    }

    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// What curl gets: its exit code, and the version and status that it saw.
    async fn curl(&self, more: &[&str]) -> (Option<i32>, String) {
        let mut command = curl(self.gateway.address.port(), &self.file("ca.pem"));
        command.args(more);
        let output = run(command).await;
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    async fn openssl(&self, more: &[&str]) -> (bool, String) {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &format!("127.0.0.1:{}", self.gateway.address.port()), "-servername", "localhost"]);
        command.args(["-CAfile", &self.file("ca.pem"), "-verify_return_error"]).args(more);
        let output = run(command).await;
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    async fn failures(&self, reason: &str) -> f64 {
        self.gateway.metric(&format!("spillway_tls_handshake_failures_total{{reason=\"{reason}\"}}")).await
    }
}

fn curl(port: u16, ca: &str) -> Command {
    let mut command = Command::new("curl");
    command.args(["--silent", "--output", "/dev/null", "--write-out", "%{http_version} %{http_code}", "--max-time", "10"]);
    command.args(["--cacert", ca, "--json", &chat(false).to_string()]);
    command.arg("--resolve").arg(format!("localhost:{port}:127.0.0.1")).arg(format!("https://localhost:{port}/v1/chat/completions"));
    command
}

async fn run(mut command: Command) -> Output {
    command.stdin(Stdio::null()).stderr(Stdio::null());
    tokio::task::spawn_blocking(move || command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))).await.unwrap()
}

/// A new certificate and key for `localhost`, as files.
fn install(directory: &Path, ca: &TestCa) {
    let (certificate, key) = ca.host("localhost");
    write(directory, "cert.pem", &certificate.pem());
    write(directory, "key.pem", &key.serialize_pem());
}

#[tokio::test]
async fn curl_speaks_http_2_and_1_over_tls() {
    let secure = Secure::start(&TestCa::new("ca"), "", "", |_| {}).await;
    assert_eq!(secure.curl(&["--http2"]).await, (Some(0), "2 200".into()));
    assert_eq!(secure.curl(&["--http1.1"]).await, (Some(0), "1.1 200".into()));
    let expiry = secure.gateway.metric("spillway_tls_certificate_expiry_timestamp_seconds").await;
    assert!(expiry > spillway_testkit::identity::seconds_now() as f64);
    assert_eq!(secure.backend.count(), 2);
    let plain = spillway_testkit::client::get(secure.gateway.address, "/v1/models").await;
    assert!(plain.is_err(), "nothing in the clear");
    assert_eq!(secure.failures("protocol").await, 1.0);
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_let_go_over_tls_too() {
    let ca = TestCa::new("ca");
    let directory = tempfile::tempdir().unwrap();
    install(directory.path(), &ca);
    let folder = directory.path().display();
    let backend = ScriptedBackend::start(|_| Reply::sse(vec![delta(&"x".repeat(64 * 1024)); 400])).await;
    let tls = format!("write_timeout = \"300ms\"\n[server.tls]\ncert = \"{folder}/cert.pem\"\nkey = \"{folder}/key.pem\"\n");
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", "").replace("#server", &tls)).await;
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let connector = TlsConnector::from(Arc::new(client.with_root_certificates(roots).with_no_client_auth()));
    let mut held = Vec::new();
    for _ in 0..5 {
        let tcp = TcpStream::connect(gateway.address).await.unwrap();
        let mut stream = connector.connect("localhost".try_into().unwrap(), tcp).await.unwrap();
        stream.write_all(&post("/v1/chat/completions", &[], chat(true).to_string().as_bytes())).await.unwrap();
        held.push(stream);
    }
    eventually("all are asked", async || backend.count() == 5).await;
    eventually("none is held", async || gateway.metric("spillway_in_flight_requests").await == 0.0).await;
    eventually("nor its connection", async || gateway.metric("spillway_connections").await == 0.0).await;
    drop(held);
}

#[tokio::test]
async fn old_versions_of_tls_are_refused() {
    let ca = TestCa::new("ca");
    let secure = Secure::start(&ca, "", "", |_| {}).await;
    let old: &[&str] = &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"];
    assert!(!secure.openssl(old).await.0);
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let (good, text) = secure.openssl(&[version]).await;
        assert!(good && text.contains(name), "{version}: {text}");
    }
    let strict = Secure::start(&ca, "min_version = \"1.3\"", "", |_| {}).await;
    assert!(!strict.openssl(&["-tls1_2"]).await.0 && strict.openssl(&["-tls1_3"]).await.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_rotate_under_load_without_one_failed_handshake() {
    let (first, second) = (TestCa::new("first"), TestCa::new("second"));
    let secure = Arc::new(Secure::start(&first, "", "", |_| {}).await);
    let directory = secure.directory.path().to_owned();
    write(&directory, "ca.pem", &(first.pem.clone() + &second.pem));
    let (over, good) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..3)
        .map(|n| {
            let (secure, over, good) = (Arc::clone(&secure), Arc::clone(&over), Arc::clone(&good));
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let version = if n == 0 { "--http2" } else { "--http1.1" };
                    let got = secure.curl(&[version]).await;
                    assert!(got.0 == Some(0) && got.1.ends_with(" 200"), "{got:?}");
                    good.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let issuer_is = async |name: &str| {
        // By default OpenSSL 3.0 writes blanks around "=", and 3.5 doesn't.
        let (good, text) = secure.openssl(&["-nameopt", "RFC2253"]).await;
        good && text.contains(&format!("issuer=CN={name}\n"))
    };
    assert!(issuer_is("first").await);
    for (ca, name) in [(&second, "second"), (&first, "first"), (&second, "second")] {
        install(&directory, ca);
        eventually("the other certificate", async || issuer_is(name).await).await;
    }
    let loaded = secure.gateway.metric("spillway_tls_reloads_total{outcome=\"loaded\"}").await;
    assert!(loaded >= 3.0, "{loaded}");
    // What is not good is not used.
    write(&directory, "key.pem", &first.host("localhost").1.serialize_pem());
    eventually("refused", async || secure.gateway.metric("spillway_tls_reloads_total{outcome=\"refused\"}").await >= 1.0).await;
    write(&directory, "cert.pem", "no certificate at all");
    eventually("refused", async || secure.gateway.metric("spillway_tls_reloads_total{outcome=\"refused\"}").await >= 2.0).await;
    assert!(issuer_is("second").await, "the old one stays");
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(good.load(Ordering::Relaxed) > 50, "{good:?}");
    let page = secure.gateway.admin("/metrics").await.text();
    let failures: f64 = page
        .lines()
        .filter_map(|line| line.strip_prefix("spillway_tls_handshake_failures_total{")?.split(' ').nth(1)?.parse::<f64>().ok())
        .sum();
    assert_eq!(failures, 0.0, "{page}");
}

/// A client's certificate and key in one file.
fn client(directory: &Path, name: &str, ca: &TestCa, serial: u64, change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    // The most general part first, as everybody writes it.
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Contoso");
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(serial));
    change(&mut params);
    let (certificate, key) = ca.sign(params);
    write(directory, name, &(certificate.pem() + &key.serialize_pem())).display().to_string()
}

const CONSUMERS: &str = "[[consumers]]\nname = \"by-san\"\ncertificates = [{ san = \"crm.contoso.internal\" }]\nmodels = [\"m\"]\n\n[[consumers]]\nname = \"by-subject\"\ncertificates = [{ subject = \"CN=batch,O=Contoso\" }]\nkeys = [{ sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\" }]\n";

#[tokio::test]
async fn client_certificates_mean_consumers_and_revoked_or_foreign_ones_are_refused_and_counted() {
    let (ca, clients, foreign) = (TestCa::new("ca"), TestCa::new("clients"), TestCa::new("foreign"));
    let tls = "client_ca = \"DIR/clients.pem\"\nclient_crl = \"DIR/crl.pem\"\n";
    let secure = Secure::start(&ca, tls, CONSUMERS, |directory| {
        write(directory, "clients.pem", &clients.pem);
        write(directory, "crl.pem", &clients.revocations(&[666]));
    })
    .await;
    let folder = secure.directory.path();
    let dns = |name: &str| SanType::DnsName(name.try_into().unwrap());
    let by_san = client(folder, "san", &clients, 1, |params| params.subject_alt_names = vec![dns("CRM.contoso.internal")]);
    let by_subject = client(folder, "batch", &clients, 2, |_| {});
    let nobody = client(folder, "nobody", &clients, 3, |_| {});
    let revoked = client(folder, "revoked", &clients, 666, |params| params.subject_alt_names = vec![dns("crm.contoso.internal")]);
    let expired = client(folder, "expired", &clients, 4, |params| params.not_after = rcgen::date_time_ymd(2020, 1, 1));
    let alien = client(folder, "alien", &foreign, 5, |params| params.subject_alt_names = vec![dns("crm.contoso.internal")]);
    for (certificate, version) in [(&by_san, "--http1.1"), (&by_san, "--http2"), (&by_subject, "--http2"), (&by_subject, "--tls-max")] {
        let more = if version == "--tls-max" { vec!["--tls-max", "1.2"] } else { vec![version] };
        let got = secure.curl(&[&["--cert", certificate.as_str()][..], &more].concat()).await;
        assert!(got.0 == Some(0) && got.1.ends_with(" 200"), "{certificate} {version}: {got:?}");
    }
    assert_eq!(secure.curl(&["--http1.1"]).await.1, "1.1 401", "no certificate, no key");
    assert_eq!(secure.curl(&["--cert", &nobody]).await.1, "2 401", "a good certificate of nobody's");
    assert_eq!(secure.curl(&["--cert", &nobody, "-H", "api-key: test"]).await.1, "2 200", "is only a way in");
    assert_eq!(secure.curl(&["-H", "api-key: test"]).await.1, "2 200");
    assert_eq!(secure.curl(&["--cert", &by_san, "-H", "api-key: test"]).await.1, "2 400", "two that mean two");
    assert_eq!(secure.curl(&["--cert", &by_subject, "-H", "api-key: test"]).await.1, "2 200", "two that mean one");
    let served = secure.backend.count();
    for (certificate, reason) in
        [(&revoked, "client_certificate_revoked"), (&alien, "client_certificate_foreign"), (&expired, "client_certificate_invalid")]
    {
        let got = secure.curl(&["--cert", certificate]).await;
        assert!(got.0 != Some(0) && got.1.ends_with(" 000"), "{reason}: {got:?}");
        assert_eq!(secure.failures(reason).await, 1.0, "{reason}");
    }
    assert_eq!(secure.backend.count(), served);
    // A list that changes counts for the next connection.
    write(folder, "crl.pem", &clients.revocations(&[1, 666]));
    eventually("revoked meanwhile", async || secure.curl(&["--cert", &by_san]).await.0 != Some(0)).await;
    assert!(secure.curl(&["--cert", &by_subject]).await.0 == Some(0));
}

#[tokio::test]
async fn a_client_certificate_can_be_required() {
    let (ca, clients) = (TestCa::new("ca"), TestCa::new("clients"));
    let tls = "client_ca = \"DIR/clients.pem\"\nclient_auth = \"required\"\n";
    let secure = Secure::start(&ca, tls, CONSUMERS, |directory| drop(write(directory, "clients.pem", &clients.pem))).await;
    let good = client(secure.directory.path(), "c", &clients, 1, |params| {
        params.subject_alt_names = vec![SanType::DnsName("crm.contoso.internal".try_into().unwrap())];
    });
    assert_eq!(secure.curl(&["--cert", &good]).await, (Some(0), "2 200".into()));
    assert_ne!(secure.curl(&["-H", "api-key: test"]).await.0, Some(0));
    assert_eq!(secure.failures("client_certificate_missing").await, 1.0);
}

#[tokio::test]
async fn a_backends_own_ca_is_trusted_for_it_alone() {
    let (ca, other) = (TestCa::new("own"), TestCa::new("other"));
    let directory = tempfile::tempdir().unwrap();
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let address = tls_front(&ca, "localhost", backend.address()).await;
    let url = format!("https://localhost:{}", address.port());
    let status = async |pem: Option<&str>| {
        let extra = pem.map_or(String::new(), |pem| format!("ca = \"{}\"", write(directory.path(), "extra.pem", pem).display()));
        let text = config(&[Member { name: "a", backend: &backend, priority: 1, extra: &extra }], "", "").replace(&backend.url(), &url);
        Gateway::start(&text).await.chat().await.status
    };
    assert_eq!(status(None).await, 502);
    assert_eq!(status(Some(&other.pem)).await, 502);
    assert_eq!(status(Some(&(other.pem.clone() + &ca.pem))).await, 200);
    assert_eq!(backend.count(), 1);
}
