//! Starts gateways for tests.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use spillway::clock::Clock;
use spillway::config::{Config, Secrets};
use spillway::server::{Running, start};
use spillway_testkit::backend::ScriptedBackend;
use spillway_testkit::client::{self, Response};
pub use spillway_testkit::process::Killed;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// A gateway under test.
pub struct Gateway {
    pub running: Running,
    pub address: SocketAddr,
}

/// A `[[backends]]` entry for a scripted backend, a member of priority `priority`.
pub struct Member<'a> {
    pub name: &'a str,
    pub backend: &'a ScriptedBackend,
    pub priority: u32,
    /// Further lines of the backend's table.
    pub extra: &'a str,
}

pub fn member<'a>(name: &'a str, backend: &'a ScriptedBackend, priority: u32) -> Member<'a> {
    Member { name, backend, priority, extra: "" }
}

/// The line of `[server]` that switches the fast path off, if the tests are to use Pingora's way alone.
pub fn way_in() -> &'static str {
    if std::env::var_os("SPILLWAY_TEST_FAST_PATH").is_some_and(|way| way == "off") { "fast_path = false\n" } else { "" }
}

/// A config with one pool of OpenAI-kind backends that serves the model `m`; `pool` holds further
/// lines of the pool, `rest` everything after it.
pub fn config(members: &[Member<'_>], pool: &str, rest: &str) -> String {
    let mut text = "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\nallow_literal_secrets = true\n".to_owned();
    text += way_in();
    text += "#server\n";
    for m in members {
        let kind = if m.extra.contains("kind =") { "" } else { "kind = \"openai\"\n" };
        text += &format!("\n[[backends]]\nname = \"{}\"\n{kind}url = \"{}\"\n{}\n", m.name, m.backend.url(), m.extra);
    }
    text += "\n[[pools]]\nname = \"pool\"\nmodels = [\"m\", \"gpt-4o\", \"text-embedding-3-small\"]\nmembers = [\n";
    for m in members {
        text += &format!("  {{ backend = \"{}\", priority = {} }},\n", m.name, m.priority);
    }
    if rest.contains("name = \"sorry\"") {
        text += "  { backend = \"sorry\", priority = 9 },\n";
    }
    text + "]\n" + pool + "\n\n" + rest + "\n\n[log]\naccess = \"off\"\n"
}

impl Gateway {
    pub async fn start(text: &str) -> Self {
        let config = Config::parse(text, Path::new("test.toml"), &Secrets::default()).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let running = start(&config, Clock::new()).await.unwrap();
        let address = running.listen[0];
        Gateway { running, address }
    }

    pub async fn post(&self, path: &str, body: &Value) -> Response {
        client::ask(self.address, client::post(path, &[], body.to_string().as_bytes())).await.unwrap()
    }

    pub async fn chat(&self) -> Response {
        self.post("/v1/chat/completions", &chat(false)).await
    }

    pub async fn stream(&self) -> Response {
        self.post("/v1/chat/completions", &chat(true)).await
    }

    pub async fn admin(&self, path: &str) -> Response {
        client::get(self.running.admin, path).await.unwrap()
    }

    /// The value of a metric line that starts with `name`, labels included.
    pub async fn metric(&self, name: &str) -> f64 {
        metric(self.running.admin, name).await
    }

    /// The state of a member as the admin API shows it.
    pub async fn state(&self, backend: &str) -> String {
        state(self.running.admin, backend).await
    }
}

pub fn chat(stream: bool) -> Value {
    json!({ "model": "m", "stream": stream, "messages": [{ "role": "user", "content": "hi" }] })
}

/// A plain chat answer with this text.
pub fn answer(text: &str) -> String {
    json!({ "id": "c", "object": "chat.completion", "choices": [{ "index": 0, "message": { "role": "assistant", "content": text }, "finish_reason": "stop" }] }).to_string()
}

/// A chat chunk with this text.
pub fn delta(text: &str) -> String {
    format!(
        "data: {}\n\n",
        json!({ "id": "c", "object": "chat.completion.chunk", "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] })
    )
}

pub fn role() -> String {
    format!(
        "data: {}\n\n",
        json!({ "id": "c", "choices": [{ "index": 0, "delta": { "role": "assistant", "content": "" }, "finish_reason": null }] })
    )
}

pub fn stop() -> String {
    format!("data: {}\n\n", json!({ "id": "c", "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }] }))
}

pub const DONE: &str = "data: [DONE]\n\n";

/// The events of a whole chat stream with this text.
pub fn whole_stream(text: &str) -> Vec<String> {
    vec![role(), delta(text), stop(), DONE.to_owned()]
}

/// Waits until `true`, for at most half a minute: a tokenizer's tables take seconds in a debug build on a busy machine.
pub async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..3000 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// A real Redis.
pub type RedisServer = spillway_testkit::process::RedisServer;

/// A gateway as a process of its own, on ports that the system chose.
pub struct Process {
    pub child: Killed,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    log: Arc<Mutex<String>>,
    directory: tempfile::TempDir,
    /// Processes that have taken over.
    successors: Mutex<Vec<u32>>,
}

impl Drop for Process {
    fn drop(&mut self) {
        for pid in self.successors.lock().iter() {
            let _ = Command::new("kill").args(["-9", &pid.to_string()]).stderr(Stdio::null()).status();
        }
    }
}

impl Process {
    /// Starts the program with a config text whose addresses have port 0, and waits until it says
    /// that it is ready, and where.
    pub fn start(text: &str, environment: &[(&str, &Path)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("spillway.toml");
        // For tests that want a state directory.
        std::fs::write(&file, text.replace("STATE", directory.path().join("state").to_str().unwrap())).unwrap();
        // A file that may grow no further is an error to it, not its end.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_spillway")]);
        let stdout = std::fs::File::create(directory.path().join("stdout")).unwrap();
        command.args(["run", "-c"]).arg(&file).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped());
        // What this machine offers must not decide what a test sees.
        for name in IDENTITY_VARIABLES {
            command.env_remove(name);
        }
        command.envs(environment.iter().copied());
        let mut child = Killed(command.spawn().unwrap());
        let mut lines = BufReader::new(child.0.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let mut line = String::new();
        while !line.contains(" ready ") {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before it was ready:\n{}", log.lock());
            log.lock().push_str(&line);
        }
        // Nobody must wait for somebody to read its log.
        let rest = Arc::clone(&log);
        std::thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
                rest.lock().push_str(&line);
                line.clear();
            }
        });
        let after = |name: &str| {
            let rest = line.split_once(name).unwrap_or_else(|| panic!("{line}")).1;
            rest.split([']', ' ']).next().unwrap().parse().unwrap()
        };
        Process { address: after("listen=["), admin: after("admin="), child, log, directory, successors: Mutex::default() }
    }

    /// As [`Process::start`], while the servers of a test go on.
    pub async fn launch(text: &str, environment: &[(&str, &Path)]) -> Self {
        let text = text.to_owned();
        let environment: Vec<(String, PathBuf)> =
            environment.iter().map(|(name, value)| ((*name).to_owned(), value.to_path_buf())).collect();
        let start = move || {
            let environment: Vec<(&str, &Path)> = environment.iter().map(|(name, value)| (name.as_str(), value.as_path())).collect();
            Process::start(&text, &environment)
        };
        tokio::task::spawn_blocking(start).await.unwrap()
    }

    /// Its config file.
    pub fn file(&self) -> PathBuf {
        self.directory.path().join("spillway.toml")
    }

    /// What its config file says.
    pub fn text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap()
    }

    /// Writes another config, as a whole.
    pub fn write_config(&self, text: &str) {
        let beside = self.directory.path().join("spillway.toml.new");
        std::fs::write(&beside, text).unwrap();
        std::fs::rename(&beside, self.file()).unwrap();
    }

    /// Starts the program anew and lets it take over.
    pub async fn upgrade(&self) {
        let answer = client::ask(self.admin, client::post("/api/upgrade", &[], b"")).await.unwrap();
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), self.log());
        self.successors.lock().push(answer.json()["pid"].as_u64().unwrap().try_into().unwrap());
    }

    /// As [`Process::upgrade`], where the admin listener wants a token.
    pub async fn upgrade_as(&self, token: &str) {
        let bearer = format!("Bearer {token}");
        let answer = client::ask(self.admin, client::post("/api/upgrade", &[("authorization", &bearer)], b"")).await.unwrap();
        assert_eq!(answer.status, 200, "{}\n{}", answer.text(), self.log());
        self.successors.lock().push(answer.json()["pid"].as_u64().unwrap().try_into().unwrap());
    }

    /// The process that took over last.
    pub fn successor(&self) -> u32 {
        *self.successors.lock().last().unwrap()
    }

    /// Sends it a signal.
    pub fn signal_successor(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.successor().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Sends the process a signal.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Where its files are.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().clone()
    }

    /// What it has written to standard output.
    pub fn stdout(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("stdout")).unwrap()
    }

    pub async fn chat(&self) -> Response {
        client::ask(self.address, client::post("/v1/chat/completions", &[], chat(false).to_string().as_bytes())).await.unwrap()
    }

    /// The value of a metric line that starts with `name`, labels included.
    pub async fn metric(&self, name: &str) -> f64 {
        metric(self.admin, name).await
    }

    /// The state of a member as the admin API shows it.
    pub async fn state(&self, backend: &str) -> String {
        state(self.admin, backend).await
    }
}

/// Variables that say what identity a machine has, and how it reaches token services.
pub const IDENTITY_VARIABLES: [&str; 18] = [
    "IDENTITY_ENDPOINT",
    "IDENTITY_HEADER",
    "IMDS_ENDPOINT",
    "MSI_ENDPOINT",
    "MSI_SECRET",
    "AZURE_TENANT_ID",
    "AZURE_CLIENT_ID",
    "AZURE_CLIENT_SECRET",
    "AZURE_CLIENT_CERTIFICATE_PATH",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_AUTHORITY_HOST",
    "AZURE_POD_IDENTITY_AUTHORITY_HOST",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
];

async fn metric(admin: SocketAddr, name: &str) -> f64 {
    let text = client::get(admin, "/metrics").await.unwrap().text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or_else(|| panic!("no metric {name} in\n{text}"))
}

async fn state(admin: SocketAddr, backend: &str) -> String {
    let pools = client::get(admin, "/api/pools").await.unwrap().json();
    let members = pools["pools"][0]["models"][0]["members"].as_array().unwrap().clone();
    members.iter().find(|m| m["backend"] == backend).map(|m| m["state"].as_str().unwrap().to_owned()).unwrap()
}

/// A CA that signs whatever a test wants.
pub struct TestCa {
    params: CertificateParams,
    key: KeyPair,
    pub pem: String,
}

impl TestCa {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        TestCa { params, key, pem }
    }

    /// A certificate and its key for these parameters.
    pub fn sign(&self, params: CertificateParams) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer()).unwrap();
        (certificate, key)
    }

    pub fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// A revocation list with these serial numbers.
    pub fn revocations(&self, serials: &[u64]) -> String {
        let day = |offset: i64| rcgen::date_time_ymd(2026, 1, 1) + Duration::from_secs(u64::try_from(offset * 86_400).unwrap());
        let revoked = serials
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from(*serial),
                revocation_time: day(0),
                reason_code: None,
                invalidity_date: None,
            })
            .collect();
        let params = CertificateRevocationListParams {
            this_update: day(0),
            next_update: day(3650),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer()).unwrap().pem().unwrap()
    }

    /// A certificate for a host.
    pub fn host(&self, name: &str) -> (Certificate, KeyPair) {
        self.sign(CertificateParams::new(vec![name.to_owned()]).unwrap())
    }
}

/// A TLS front for `behind` with a certificate of `ca` for `name`.
pub async fn tls_front(ca: &TestCa, name: &str, behind: SocketAddr) -> SocketAddr {
    let (certificate, key) = ca.host(name);
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
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
    address
}

/// The rows of a ledger, oldest first, as they are exported.
pub fn ledger_rows(folder: &Path) -> Vec<Value> {
    use spillway::ledger::export::{Format, export};
    let mut text = Vec::new();
    export(folder, 0, i64::MAX >> 20, Format::JsonLines, &mut text).unwrap();
    String::from_utf8(text).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Waits until a ledger has so many rows.
pub async fn ledger_of(folder: &Path, rows: usize) -> Vec<Value> {
    eventually(&format!("{rows} rows"), async || ledger_rows(folder).len() >= rows).await;
    let found = ledger_rows(folder);
    assert_eq!(found.len(), rows, "{found:#?}");
    found
}

/// A `[server]` line for a state directory.
pub fn state_dir(folder: &Path) -> String {
    format!("state_dir = \"{}\"", folder.display())
}

/// A consumer's `[[consumers]]` entry, whose key is its name; `more` holds further lines.
pub fn consumer(name: &str, more: &str) -> String {
    format!("[[consumers]]\nname = \"{name}\"\nkeys = [{{ sha256 = \"{}\" }}]\n{more}\n", spillway_plugins::auth::digest(name.as_bytes()))
}

/// A chat request of a consumer.
pub async fn ask_as(address: SocketAddr, consumer: &str, body: &Value) -> Response {
    let request = client::post("/v1/chat/completions", &[("api-key", consumer)], body.to_string().as_bytes());
    client::ask(address, request).await.unwrap()
}
