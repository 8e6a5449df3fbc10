//! Tokens towards backends: acquired, renewed, refused, and the services that give them out of order.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::identity::{Flavour, TokenService, form};

use crate::support::*;

/// A backend that answers only to tokens that `service` gave last, or the one before.
async fn guarded(service: &Arc<TokenService>) -> ScriptedBackend {
    let (service, seen) = (Arc::clone(service), Mutex::new(Vec::new()));
    ScriptedBackend::start(move |request| {
        let mut seen = seen.lock();
        if seen.last() != Some(&service.current()) {
            seen.push(service.current());
        }
        let shown = request.header("authorization").map(str::to_owned);
        let good = shown.is_some_and(|shown| seen.iter().rev().take(2).any(|token| *token == shown));
        if good && request.header("api-key").is_none() { Reply::json(200, answer("x")) } else { unauthorised() }
    })
    .await
}

fn unauthorised() -> Reply {
    Reply::json(
        401,
        r#"{"statusCode":401,"message":"Unauthorized. Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), or have expired."}"#,
    )
}

const MANAGED: &str = "auth = { type = \"managed-identity\" }";

fn with_auth<'a>(name: &'a str, backend: &'a ScriptedBackend, priority: u32, auth: &'a str) -> Member<'a> {
    Member { name, backend, priority, extra: auth }
}

/// A gateway whose machine has this metadata service.
async fn on_a_vm(text: &str, service: &TokenService) -> Process {
    let url = service.server.url();
    Process::launch(text, &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", Path::new(&url))]).await
}

#[tokio::test]
async fn a_vm_shows_its_identity_and_two_backends_share_its_token() {
    let service = Arc::new(TokenService::start(Flavour::Imds, "vm").await);
    let (a, b) = (guarded(&service).await, guarded(&service).await);
    let process = on_a_vm(&config(&[with_auth("a", &a, 1, MANAGED), with_auth("b", &b, 1, MANAGED)], "", ""), &service).await;
    // A fair choice among two, sixty times in a row the same: not in this universe.
    for _ in 0..60 {
        assert_eq!(process.chat().await.status, 200);
    }
    assert!(a.count() > 0 && b.count() > 0 && a.count() + b.count() == 60);
    assert_eq!(service.issued(), 1, "one identity, one token");
    assert!(!service.server.received()[0].path().contains("client_id"), "system-assigned");
    assert_eq!(process.metric("spillway_token_usable{identity=\"managed-identity\"}").await, 1.0);
    let expires = process.metric("spillway_token_expiry_timestamp_seconds{identity=\"managed-identity\"}").await;
    assert!((expires - spillway_testkit::identity::seconds_now() as f64 - 3600.0).abs() < 30.0);
}

#[tokio::test]
async fn a_user_assigned_identity_is_named_and_has_a_token_of_its_own() {
    let service = Arc::new(TokenService::start(Flavour::Imds, "vm").await);
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let user = "auth = { type = \"managed-identity\", client_id = \"11111111-2222-3333-4444-555555555555\" }";
    let process = on_a_vm(&config(&[with_auth("a", &backend, 1, MANAGED), with_auth("b", &backend, 1, user)], "", ""), &service).await;
    assert_eq!(process.chat().await.status, 200);
    assert_eq!(service.issued(), 2);
    assert!(service.server.received().iter().any(|request| request.path().contains("client_id=11111111-2222-3333-4444-555555555555")));
}

#[tokio::test]
async fn tokens_are_renewed_under_load_without_one_failed_request() {
    let service = Arc::new(TokenService::start(Flavour::Imds, "vm").await);
    // Half of it is what a starved machine may be late.
    service.lifetime(8, Some(2));
    let backend = Arc::new(guarded(&service).await);
    let process = Arc::new(on_a_vm(&config(&[with_auth("a", &backend, 1, MANAGED)], "", ""), &service).await);
    let (good, until) = (Arc::new(AtomicUsize::new(0)), Instant::now() + Duration::from_secs(8));
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let (process, good) = (Arc::clone(&process), Arc::clone(&good));
            tokio::spawn(async move {
                while Instant::now() < until {
                    assert_eq!(process.chat().await.status, 200);
                    good.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    assert!(service.issued() >= 4, "{} tokens", service.issued());
    assert_eq!(backend.count(), good.load(Ordering::Relaxed), "no request was tried twice");
    assert_eq!(process.metric("spillway_token_fetches_total{identity=\"managed-identity\",outcome=\"failed\"}").await, 0.0);
}

#[tokio::test]
async fn the_issuer_may_say_when_to_renew() {
    let service = Arc::new(TokenService::start(Flavour::Imds, "vm").await);
    service.lifetime(86_400, Some(1));
    let backend = guarded(&service).await;
    let _process = on_a_vm(&config(&[with_auth("a", &backend, 1, MANAGED)], "", ""), &service).await;
    eventually("a day's token is renewed after a second", async || service.issued() >= 2).await;
}

#[tokio::test]
async fn health_checks_show_the_token_of_the_day() {
    let service = Arc::new(TokenService::start(Flavour::Imds, "vm").await);
    service.lifetime(3, None);
    let backend = guarded(&service).await;
    let pool = "[pools.health]\npath = \"/health\"\ninterval = \"200ms\"\nstatuses = [200]\n";
    let process = on_a_vm(&config(&[with_auth("a", &backend, 1, MANAGED)], pool, ""), &service).await;
    let tokens = || -> std::collections::BTreeSet<String> {
        let checks = backend.received().into_iter().filter(|request| request.path() == "/health");
        checks.filter_map(|request| request.header("authorization").map(str::to_owned)).collect()
    };
    eventually("three tokens", async || tokens().len() >= 3).await;
    assert_eq!(process.state("a").await, "ready");
}

#[tokio::test]
async fn an_outage_past_the_tokens_end_moves_requests_on_and_ends_by_itself() {
    let service = Arc::new(TokenService::start(Flavour::AppService("s3cret"), "app").await);
    service.lifetime(4, None);
    let (with_token, with_key) = (guarded(&service).await, ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await);
    let url = format!("{}/msi/token", service.server.url());
    let text = config(&[with_auth("a", &with_token, 1, MANAGED), member("b", &with_key, 2)], "", "");
    let process = Process::launch(&text, &[("IDENTITY_ENDPOINT", Path::new(&url)), ("IDENTITY_HEADER", Path::new("s3cret"))]).await;
    assert_eq!(process.chat().await.status, 200);
    service.down(Some(Reply::json(503, "{}")));
    eventually("a renewal failed", async || {
        process.metric("spillway_token_fetches_total{identity=\"managed-identity\",outcome=\"failed\"}").await > 0.0
    })
    .await;
    assert_eq!((process.chat().await.status, with_key.count()), (200, 0), "the old token is good until its end");
    eventually("the token is over", async || process.state("a").await == "no-token").await;
    assert_eq!(process.metric("spillway_token_usable{identity=\"managed-identity\"}").await, 0.0, "the alarm");
    let asked = with_token.count();
    assert_eq!((process.chat().await.status, with_key.count(), with_token.count()), (200, 1, asked));
    service.down(None);
    eventually("back", async || process.state("a").await == "ready").await;
    assert_eq!((process.chat().await.status, with_key.count()), (200, 1));
    assert!(
        process.log().contains("the token expired and no new one could be fetched") && process.log().matches("token acquired").count() >= 2,
        "{}",
        process.log()
    );
}

#[tokio::test]
async fn the_metadata_service_may_be_out_of_order_for_a_moment() {
    let gone = [Reply::json(410, "{}"), Reply::json(404, "{}")];
    let busy = [Reply::json(429, "{}").header("retry-after", "1"), Reply::json(500, "{}")];
    for replies in [gone, busy] {
        let service = Arc::new(TokenService::start(Flavour::Imds, "vm").await);
        service.fail_first(replies);
        let backend = guarded(&service).await;
        let process = on_a_vm(&config(&[with_auth("a", &backend, 1, MANAGED)], "", ""), &service).await;
        for _ in 0..3 {
            // Until then a clear answer, and no hang.
            let began = Instant::now();
            assert!(matches!(process.chat().await.status, 200 | 503) && began.elapsed() < Duration::from_secs(60));
        }
        for _ in 0..60 {
            if process.state("a").await == "ready" {
                break;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        assert_eq!(process.chat().await.status, 200);
        assert_eq!(service.server.count(), 3);
    }
}

#[tokio::test]
async fn an_identity_that_does_not_exist_is_named_in_the_log() {
    let service = Arc::new(TokenService::start(Flavour::Imds, "vm").await);
    service.down(Some(Reply::json(400, r#"{"error":"invalid_request","error_description":"Identity not found"}"#)));
    let backend = guarded(&service).await;
    let process = on_a_vm(&config(&[with_auth("a", &backend, 1, MANAGED)], "", ""), &service).await;
    let refused = process.chat().await;
    assert_eq!((refused.status, refused.code()), (503, "no_backend_available".into()));
    assert!(process.log().contains("has not been assigned to this resource"), "{}", process.log());
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn nobody_at_the_token_service_is_no_hang() {
    let service = TokenService::start(Flavour::Imds, "vm").await;
    service.down(Some(Reply::raw([Step::Hang])));
    let (a, b) =
        (ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await, ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await);
    let process = on_a_vm(&config(&[with_auth("a", &a, 1, MANAGED), member("b", &b, 2)], "", ""), &service).await;
    let began = Instant::now();
    assert_eq!(process.chat().await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(60));
    assert_eq!((a.count(), b.count()), (0, 1));
}

#[tokio::test]
async fn an_arc_agents_challenge_is_answered() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().canonicalize().unwrap();
    let service = Arc::new(TokenService::start(Flavour::Arc(folder.clone()), "arc").await);
    let backend = guarded(&service).await;
    let url = format!("{}/metadata/identity/oauth2/token", service.server.url());
    let process = Process::launch(
        &config(&[with_auth("a", &backend, 1, MANAGED)], "", ""),
        &[("IDENTITY_ENDPOINT", Path::new(&url)), ("IMDS_ENDPOINT", Path::new("http://unused")), ("SPILLWAY_ARC_CHALLENGES", &folder)],
    )
    .await;
    assert_eq!(process.chat().await.status, 200);
    assert_eq!((service.issued(), service.server.count()), (1, 2));
}

/// Entra behind TLS, and the variables that lead a gateway there.
pub struct Entra {
    service: Arc<TokenService>,
    pub authority: String,
    directory: tempfile::TempDir,
}

impl Entra {
    pub async fn start() -> Self {
        let service = Arc::new(TokenService::start(Flavour::Entra, "entra").await);
        let ca = TestCa::new("entra");
        let address = tls_front(&ca, "localhost", service.server.address()).await;
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), &ca.pem).unwrap();
        Entra { service, authority: format!("https://localhost:{}", address.port()), directory }
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    pub async fn gateway(&self, text: &str, environment: &[(&str, &str)]) -> Process {
        let ca = self.directory.path().join("ca.pem");
        let mut all = vec![("SSL_CERT_FILE", ca.as_path()), ("SSL_CERT_DIR", Path::new("/nonexistent"))];
        all.extend(environment.iter().map(|(name, value)| (*name, Path::new(*value))));
        Process::launch(text, &all).await
    }
}

#[tokio::test]
async fn a_federated_token_file_is_read_anew() {
    let entra = Entra::start().await;
    entra.service.lifetime(3, None);
    let path = entra.file("federated", "first-assertion");
    let backend = guarded(&entra.service).await;
    let process = entra
        .gateway(
            &config(&[with_auth("a", &backend, 1, "auth = { type = \"workload-identity\" }")], "", ""),
            &[
                ("AZURE_FEDERATED_TOKEN_FILE", &path),
                ("AZURE_CLIENT_ID", "client"),
                ("AZURE_TENANT_ID", "tenant"),
                ("AZURE_AUTHORITY_HOST", &entra.authority),
            ],
        )
        .await;
    assert_eq!(process.chat().await.status, 200);
    entra.file("federated", "second-assertion");
    let assertions = || -> Vec<String> {
        let field = |request| form(request).into_iter().find(|(name, _)| name == "client_assertion").map(|(_, value)| value);
        entra.service.server.received().iter().filter_map(field).collect()
    };
    eventually("the new assertion is sent", async || assertions().contains(&"second-assertion".to_owned())).await;
    assert_eq!(assertions()[0], "first-assertion");
    assert_eq!(process.chat().await.status, 200);
    assert_eq!(entra.service.server.received()[0].path(), "/tenant/oauth2/v2.0/token");
}

#[tokio::test]
async fn an_application_proves_itself_with_a_secret() {
    let entra = Entra::start().await;
    let backend = guarded(&entra.service).await;
    let auth = format!(
        "auth = {{ type = \"client-credentials\", tenant_id = \"tenant\", client_id = \"client\", secret = {{ env = \"APP_SECRET\" }}, authority = \"{}\" }}",
        entra.authority
    );
    let process = entra.gateway(&config(&[with_auth("a", &backend, 1, &auth)], "", ""), &[("APP_SECRET", "the-secret")]).await;
    assert_eq!(process.chat().await.status, 200);
    let sent = form(&entra.service.server.received()[0]);
    assert!(
        sent.contains(&("client_secret".into(), "the-secret".into())) && sent.contains(&("client_id".into(), "client".into())),
        "{sent:?}"
    );
}

#[tokio::test]
async fn an_application_proves_itself_with_a_certificate() {
    let entra = Entra::start().await;
    let der = include_bytes!("../../../testkit/fixtures/rsa-a.der");
    let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&rustls_pki_types::PrivatePkcs8KeyDer::from(&der[..]), &rcgen::PKCS_RSA_SHA256)
        .unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["app".to_owned()]).unwrap().self_signed(&key).unwrap();
    let path = entra.file("app.pem", certificate.pem() + &key.serialize_pem());
    let backend = guarded(&entra.service).await;
    let auth = format!(
        "auth = {{ type = \"client-credentials\", tenant_id = \"tenant\", client_id = \"client\", certificate = \"{path}\", authority = \"{}\" }}",
        entra.authority
    );
    let process = entra.gateway(&config(&[with_auth("a", &backend, 1, &auth)], "", ""), &[]).await;
    assert_eq!(process.chat().await.status, 200);
    let sent = form(&entra.service.server.received()[0]);
    let assertion = sent.iter().find(|(name, _)| name == "client_assertion").unwrap().1.clone();
    let parts: Vec<&str> = assertion.split('.').collect();
    let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    let (header, claims): (serde_json::Value, serde_json::Value) =
        (serde_json::from_slice(&decoded(parts[0])).unwrap(), serde_json::from_slice(&decoded(parts[1])).unwrap());
    let thumbprint = ring::digest::digest(&ring::digest::SHA256, certificate.der());
    assert_eq!((&header["alg"], &header["x5t#S256"]), (&"PS256".into(), &URL_SAFE_NO_PAD.encode(thumbprint).into()));
    assert_eq!(claims["aud"], format!("{}/tenant/oauth2/v2.0/token", entra.authority));
    assert_eq!((&claims["iss"], &claims["sub"]), (&"client".into(), &"client".into()));
    let public = ring::signature::RsaKeyPair::from_pkcs8(der).unwrap();
    let components = ring::rsa::PublicKeyComponents::<Vec<u8>>::from(ring::signature::KeyPair::public_key(&public));
    let message = format!("{}.{}", parts[0], parts[1]);
    components.verify(&ring::signature::RSA_PSS_2048_8192_SHA256, message.as_bytes(), &decoded(parts[2])).unwrap();
}

#[tokio::test]
async fn auto_takes_what_the_environment_offers_and_says_so() {
    let entra = Entra::start().await;
    let backend = guarded(&entra.service).await;
    let text = config(&[with_auth("a", &backend, 1, "auth = { type = \"auto\" }")], "", "");
    let process = entra
        .gateway(
            &text,
            &[
                ("AZURE_TENANT_ID", "tenant"),
                ("AZURE_CLIENT_ID", "client"),
                ("AZURE_CLIENT_SECRET", "the-secret"),
                ("AZURE_AUTHORITY_HOST", &entra.authority),
            ],
        )
        .await;
    assert_eq!(process.chat().await.status, 200);
    assert!(process.log().contains("client-credentials/tenant/client"), "{}", process.log());
    let vm = Arc::new(TokenService::start(Flavour::Imds, "vm").await);
    let backend = guarded(&vm).await;
    let process = on_a_vm(&config(&[with_auth("a", &backend, 1, "auth = { type = \"auto\" }")], "", ""), &vm).await;
    assert_eq!(process.chat().await.status, 200);
    assert!(process.log().contains("managed-identity"), "{}", process.log());
}

#[tokio::test]
async fn a_401_brings_another_token_and_one_more_try() {
    let service = Arc::new(TokenService::start(Flavour::Imds, "vm").await);
    let revoked = ScriptedBackend::start(|request| match request.header("authorization") {
        Some("Bearer vm-1") => unauthorised(),
        _ => Reply::json(200, answer("x")),
    })
    .await;
    let process = on_a_vm(&config(&[with_auth("a", &revoked, 1, MANAGED)], "", ""), &service).await;
    assert_eq!(process.chat().await.status, 200);
    let shown: Vec<_> = revoked.received().iter().map(|request| request.header("authorization").unwrap().to_owned()).collect();
    assert_eq!(shown, ["Bearer vm-1", "Bearer vm-2"]);
    assert_eq!(process.state("a").await, "ready");
}

#[tokio::test]
async fn a_streamed_uploads_401_is_not_the_callers_business_and_brings_another_token() {
    let service = Arc::new(TokenService::start(Flavour::Imds, "vm").await);
    let revoked = ScriptedBackend::start(|request| match request.header("authorization") {
        Some("Bearer vm-1") => unauthorised(),
        _ => Reply::json(200, "{\"text\":\"hi\"}"),
    })
    .await;
    let text = config(&[with_auth("a", &revoked, 1, MANAGED)], "", "").replace("#server", "max_body = \"256KiB\"");
    let process = on_a_vm(&text, &service).await;
    let form = format!(
        "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nm\r\n--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n{}\r\n--XX--\r\n",
        "x".repeat(400_000)
    );
    let upload = format!(
        "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: g\r\ncontent-type: multipart/form-data; boundary=XX\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    // Several were under way with the token that is no good.
    let ask = async || spillway_testkit::client::ask(process.address, &upload).await.unwrap();
    let (first, second, third) = tokio::join!(ask(), ask(), ask());
    let refused: Vec<_> = [first, second, third].into_iter().filter(|reply| reply.status != 200).collect();
    assert!(!refused.is_empty(), "the first has the first token");
    for reply in refused {
        assert_eq!((reply.status, reply.code()), (502, "upstream_error".into()), "{}", reply.text());
    }
    eventually("another token", async || service.issued() == 2).await;
    eventually("it is in use", async || spillway_testkit::client::ask(process.address, &upload).await.unwrap().status == 200).await;
    assert_eq!(process.state("a").await, "ready", "the target was not to blame");
}

#[tokio::test]
async fn a_target_that_refuses_every_token_is_left_and_does_not_storm_the_token_service() {
    let service = Arc::new(TokenService::start(Flavour::Imds, "vm").await);
    let (a, b) = (ScriptedBackend::start(|_| unauthorised()).await, ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await);
    let process = on_a_vm(&config(&[with_auth("a", &a, 1, MANAGED), member("b", &b, 2)], "", ""), &service).await;
    for _ in 0..20 {
        assert_eq!(process.chat().await.status, 200);
    }
    assert_eq!(process.state("a").await, "misconfigured");
    assert_eq!((service.issued(), a.count(), b.count()), (2, 2, 20), "two tokens, then left alone");
}

#[tokio::test]
async fn check_online_says_what_is_wrong_with_whom() {
    let service = Arc::new(TokenService::start(Flavour::Imds, "vm").await);
    let good = guarded(&service).await;
    let no_role = ScriptedBackend::start(|_| {
        Reply::json(401, r#"{"error":{"code":"PermissionDenied","message":"The principal `x` lacks the required data action"}}"#)
    })
    .await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.toml");
    let azure = "kind = \"azure-openai\"\nauth = { type = \"managed-identity\" }";
    let check = |text: String, url: String| {
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
        IDENTITY_VARIABLES.into_iter().for_each(|name| drop(command.env_remove(name).get_args()));
        command.args(["check", "--online", "-c"]).arg(&file).env("AZURE_POD_IDENTITY_AUTHORITY_HOST", url);
        async move {
            let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
            (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
        }
    };
    let (code, text) = check(config(&[with_auth("good", &good, 1, azure)], "", ""), service.server.url()).await;
    assert!(code == Some(0) && text.contains("good: ok as managed-identity") && !text.contains("vm-1"), "{text}");
    let auto = "kind = \"azure-openai\"\nauth = { type = \"auto\" }";
    let through = "auth = { type = \"passthrough\" }";
    let (issued, refusing) = (service.issued(), ScriptedBackend::start(|_| Reply::json(401, "{}")).await);
    let text = config(&[with_auth("a", &good, 1, auto), with_auth("b", &good, 1, auto), with_auth("c", &refusing, 1, through)], "", "");
    let (code, text) = check(text, service.server.url()).await;
    assert!(code == Some(0) && text.contains("a: ok as auto, which uses managed-identity"), "{text}");
    assert!(text.contains("c: reached; the caller's own credential will decide"), "{text}");
    assert_eq!(service.issued(), issued + 1, "two backends, one token");
    let (code, text) =
        check(config(&[with_auth("good", &good, 1, azure), with_auth("bare", &no_role, 1, azure)], "", ""), service.server.url()).await;
    assert!(
        code == Some(1) && text.contains("good: ok") && text.contains("bare: ") && text.contains("Cognitive Services OpenAI User"),
        "{text}"
    );
    service.down(Some(Reply::json(400, r#"{"error":"invalid_request","error_description":"Identity not found"}"#)));
    let (code, text) = check(config(&[with_auth("good", &good, 1, azure)], "", ""), service.server.url()).await;
    assert!(
        code == Some(1) && text.contains("good: no token for managed-identity") && text.contains("has not been assigned to this resource"),
        "{text}"
    );
}

/// The new process can't serve without a token, the old one has one. The config is reloaded meanwhile: the new process has
/// read it before.
#[tokio::test]
async fn an_upgrade_waits_for_the_token_that_the_old_process_has() {
    let service = Arc::new(TokenService::start(Flavour::Imds, "vm").await);
    let backend = guarded(&service).await;
    let text = config(&[with_auth("a", &backend, 1, MANAGED)], "", "").replace("#server", "watch = false");
    let process = on_a_vm(&text, &service).await;
    assert_eq!(process.chat().await.status, 200);
    service.down(Some(Reply::json(500, "{}")));
    let asked = service.server.count();
    let meanwhile = async {
        eventually("the new process asks for a token", async || service.server.count() > asked).await;
        process.write_config(&text.replace("models = [", "models = [\"fresh\", "));
        process.signal("-HUP");
        // Longer than a start waits.
        tokio::time::sleep(Duration::from_secs(7)).await;
        assert_eq!(process.chat().await.status, 200, "the old process serves");
        service.down(None);
    };
    tokio::join!(process.upgrade(), meanwhile);
    assert_eq!(process.chat().await.status, 200);
    let fresh = serde_json::json!({ "model": "fresh", "messages": [] });
    eventually("the new config is in use", async || {
        let request = spillway_testkit::client::post("/v1/chat/completions", &[], fresh.to_string().as_bytes());
        spillway_testkit::client::ask(process.address, request).await.unwrap().status == 200
    })
    .await;
}
