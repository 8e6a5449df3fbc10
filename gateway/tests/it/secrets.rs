//! Canaries: a secret in every place where one can be configured or sent, and none of them in
//! anything that the gateway shows.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use spillway::config::{Config, Secrets};
use spillway_plugins::auth::Pepper;
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{ask, get, post};
use spillway_testkit::identity::{FakeIssuer, Flavour, TokenService, form};
use spillway_testkit::tokens::SigningKey;

use crate::support::*;

/// Everything at its most talkative, crates below us included.
const LEVEL: &str = "trace,pingora_core=trace,pingora_proxy=trace,hyper=trace,hyper_util=trace,h2=trace,rustls=trace,reqwest=trace,azure_core=trace,azure_identity=trace,typespec_client_core=trace";

fn assert_silent(place: &str, text: &str, canaries: &[&str]) {
    for canary in canaries {
        if let Some(at) = text.find(canary) {
            let from = text[..at].char_indices().rev().nth(200).map_or(0, |(at, _)| at);
            panic!("{canary} in {place}: …{}…", &text[from..at + canary.len()]);
        }
    }
}

#[tokio::test]
async fn no_secret_is_ever_shown() {
    let entra = Arc::new(TokenService::start(Flavour::Entra, "CANARY-entra-token").await);
    let app = Arc::new(TokenService::start(Flavour::AppService("CANARY-identity-header"), "CANARY-app-token").await);
    let (ca, clients) = (TestCa::new("ca"), TestCa::new("clients"));
    let authority = format!("https://localhost:{}", tls_front(&ca, "localhost", entra.server.address()).await.port());
    let signer = SigningKey::rsa("a");
    let issuer = FakeIssuer::start(vec![signer.jwk("a")]).await;
    let seen = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let refusing = ScriptedBackend::start(|_| Reply::json(401, "{}")).await;
    let broken = ScriptedBackend::start(|_| Reply::raw([Step::Reset])).await;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).unwrap();
        directory.path().join(name).display().to_string()
    };
    let (admin_token, federated, ca_file) =
        (file("admin", "CANARY-admin-token\n"), file("federated", "CANARY-federated-token"), file("ca.pem", &ca.pem));
    let (certificate, key) = ca.host("localhost");
    let (cert_file, key_file) = (file("cert.pem", &certificate.pem()), file("key.pem", &key.serialize_pem()));
    let client_ca = file("clients.pem", &clients.pem);
    let pem = key.serialize_pem();
    let private_key = pem.lines().nth(1).unwrap();
    let backend = |name: &str, url: &str, priority: u32, auth: &str| {
        (
            format!("[[backends]]\nname = \"{name}\"\nkind = \"openai\"\nurl = \"{url}\"\nauth = {auth}\n\n"),
            format!("  {{ backend = \"{name}\", priority = {priority} }},\n"),
        )
    };
    let entra_auth = |scheme: &str| format!("{{ {scheme}, tenant_id = \"tenant\", client_id = \"client\", authority = \"{authority}\" }}");
    let parts = [
        backend("broken", &broken.url(), 1, "{ type = \"api-key\", key = { env = \"CANARY_KEY\" } }"),
        backend("refusing", &refusing.url(), 2, "{ type = \"managed-identity\" }"),
        backend("secret", &seen.url(), 3, &entra_auth("type = \"client-credentials\", secret = { env = \"CANARY_SECRET\" }")),
        backend("federated", &seen.url(), 3, &entra_auth(&format!("type = \"workload-identity\", token_file = \"{federated}\""))),
        backend("keyed", &seen.url(), 3, "{ type = \"api-key\", key = { env = \"CANARY_KEY\" } }"),
        backend("through", &seen.url(), 3, "{ type = \"passthrough\" }"),
    ];
    let backends: String = parts.iter().map(|(backend, _)| backend.as_str()).collect();
    let members: String = parts.iter().map(|(_, member)| member.as_str()).collect();
    let text = |tls: &str| {
        format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\nadmin_token = {{ file = \"{admin_token}\" }}\n{tls}\n{backends}[[pools]]\nname = \"pool\"\nmodels = [\"m\"]\nmembers = [\n{members}]\n\n[[consumers]]\nname = \"crm\"\nclaims = [\"app\"]\nkeys = [{{ hmac_sha256 = \"{}\" }}]\n\n[plugins.auth]\npepper = {{ env = \"CANARY_PEPPER\" }}\n\n[plugins.auth.jwt]\nissuer = \"{}\"\naudiences = [\"api://spillway\"]\n\n[redis]\nurl = {{ env = \"CANARY_REDIS\" }}\n\n[log]\nlevel = \"{LEVEL}\"\n",
            Pepper::new(b"CANARY-pepper").digest(b"CANARY-caller-key"),
            issuer.server.url(),
        )
    };
    let tls = format!("[server.tls]\ncert = \"{cert_file}\"\nkey = \"{key_file}\"\nclient_ca = \"{client_ca}\"\n");
    let identity_endpoint = format!("{}/msi/token", app.server.url());
    let environment: Vec<(&str, &Path)> = vec![
        ("CANARY_KEY", Path::new("CANARY-backend-key")),
        ("CANARY_SECRET", Path::new("CANARY-client-secret")),
        ("CANARY_PEPPER", Path::new("CANARY-pepper")),
        ("CANARY_REDIS", Path::new("redis://user:CANARY-redis@127.0.0.1:1")),
        ("IDENTITY_ENDPOINT", Path::new(&identity_endpoint)),
        ("IDENTITY_HEADER", Path::new("CANARY-identity-header")),
        ("SSL_CERT_FILE", Path::new(&ca_file)),
        ("SSL_CERT_DIR", Path::new("/nonexistent")),
    ];
    let token = signer.token("a", &issuer.claims("app"));
    let wrong_token = signer.token("unknown", &issuer.claims("CANARY-application"));
    let parts: Vec<&str> = token.split('.').collect();
    let canaries = ["CANARY", parts[2], private_key, wrong_token.rsplit('.').next().unwrap()];

    let process = Process::launch(&text(""), &environment).await;
    let mut shown = Vec::new();
    let body = chat(false).to_string();
    let query = [
        "/v1/chat/completions",
        "/v1/chat/completions?api-key=CANARY-in-query",
        "/v1/chat/completions?subscription-key=CANARY-caller-key",
        "/v1/nothing?api-key=CANARY-in-query&subscription-key=CANARY-in-query",
    ];
    for (index, headers) in [
        vec![("api-key", "CANARY-caller-key")],
        vec![("x-api-key", "CANARY-caller-key"), ("cookie", "session=CANARY-cookie"), ("proxy-authorization", "Basic CANARY")],
        vec![("ocp-apim-subscription-key", "CANARY-caller-key")],
        vec![("authorization", "Bearer CANARY-wrong-key")],
        vec![("authorization", "Basic CANARY-basic")],
        vec![("api-key", "CANARY-caller-key"), ("x-api-key", "CANARY-other-key")],
        vec![("authorization", token_header(&token))],
        vec![("authorization", token_header(&wrong_token))],
    ]
    .into_iter()
    .enumerate()
    {
        for path in query {
            let got = ask(process.address, post(path, &headers, body.as_bytes())).await.unwrap();
            shown.push((format!("answer {index} {path}"), format!("{:?} {}", got.head, got.text())));
        }
    }
    // All members of the last tier, and what they were shown.
    for _ in 0..40 {
        ask(process.address, post("/v1/chat/completions", &[("api-key", "CANARY-caller-key")], body.as_bytes())).await.unwrap();
    }
    for broken in [
        "GET /v1/models HTTP/1.1\r\nhost: g\r\napi-key: CANARY\r\napi-key: CANARY2\r\n\r\n",
        "CANARY CANARY CANARY\r\n\r\n",
        "GET /v1/realtime?model=m&api-key=CANARY&subscription-key=CANARY HTTP/1.1\r\nhost: g\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-key: CANARY\r\n\r\n",
    ] {
        if let Ok(got) = ask(process.address, broken).await {
            shown.push((format!("answer to {broken:?}"), format!("{:?} {}", got.head, got.text())));
        }
    }
    for path in
        ["/metrics", "/api/pools", "/api/keys", "/api/status", "/api/config", "/api/requests", "/api/limits", "/", "/nothing", "/readyz"]
    {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer CANARY-admin-token\r\nconnection: close\r\n\r\n");
        let got = ask(process.admin, request).await.unwrap();
        assert_ne!(got.status, 401, "{path}");
        shown.push((path.to_owned(), got.text()));
        shown.push((format!("{path} without token"), get(process.admin, path).await.unwrap().text()));
    }
    let lookup = "GET /v1/responses/resp_none HTTP/1.1\r\nhost: g\r\napi-key: CANARY-caller-key\r\n\r\n";
    let got = ask(process.address, lookup).await.unwrap();
    assert_eq!(got.status, 503, "Redis was asked");
    shown.push(("an answer without Redis".into(), got.text()));
    // It all arrived where it should, so silence means something.
    let credentials: Vec<String> =
        seen.received().iter().filter_map(|request| request.header("authorization").map(str::to_owned)).collect();
    for expected in ["Bearer CANARY-entra-token-1", "Bearer CANARY-entra-token-2", "Bearer CANARY-backend-key", "Bearer CANARY-caller-key"]
    {
        assert!(credentials.iter().any(|shown| shown == expected), "{expected} in {credentials:?}");
    }
    let forms: Vec<_> = entra.server.received().iter().flat_map(form).collect();
    for expected in [("client_secret", "CANARY-client-secret"), ("client_assertion", "CANARY-federated-token")] {
        assert!(forms.contains(&(expected.0.into(), expected.1.into())), "{forms:?}");
    }
    assert!(app.issued() > 0 && !refusing.received().is_empty() && !broken.received().is_empty());
    eventually("access log", async || process.stdout().lines().count() > 60).await;
    shown.push(("the access log".into(), process.stdout()));
    shown.push(("the log".into(), process.log()));
    assert!(process.log().contains("DEBUG"), "the log is talkative");
    for (place, text) in &shown {
        assert_silent(place, text, &canaries);
    }

    // An Arc agent's challenge, and an application's certificate.
    let arc_folder = directory.path().canonicalize().unwrap();
    let arc = TokenService::start(Flavour::Arc(arc_folder.clone()), "CANARY-arc-token").await;
    let rsa = rsa_pem();
    let application = file("application.pem", &rsa);
    let rsa_line = rsa.lines().filter(|line| line.len() == 64).nth(20).unwrap();
    let certificate = format!("type = \"client-credentials\", certificate = \"{application}\"");
    let members = [
        Member { name: "arc", backend: &seen, priority: 1, extra: "auth = { type = \"managed-identity\" }" },
        Member { name: "application", backend: &seen, priority: 1, extra: &format!("auth = {}", entra_auth(&certificate)) },
    ];
    let quiet = config(&members, "", "").replace("[log]", &format!("[log]\nlevel = \"{LEVEL}\""));
    let arc_endpoint = format!("{}/metadata/identity/oauth2/token", arc.server.url());
    let with_arc: Vec<(&str, &Path)> = vec![
        ("IDENTITY_ENDPOINT", Path::new(&arc_endpoint)),
        ("IMDS_ENDPOINT", Path::new("http://unused")),
        ("SPILLWAY_ARC_CHALLENGES", &arc_folder),
        ("SSL_CERT_FILE", Path::new(&ca_file)),
        ("SSL_CERT_DIR", Path::new("/nonexistent")),
    ];
    let process = Process::launch(&quiet, &with_arc).await;
    // So many that chance doesn't leave one member out.
    for _ in 0..40 {
        assert_eq!(process.chat().await.status, 200);
    }
    assert!(seen.received().iter().any(|request| request.header("authorization") == Some("Bearer CANARY-arc-token-1")));
    assert_silent("the log with Arc", &process.log(), &["CANARY", "arc-challenge-secret", rsa_line]);

    // With TLS on the listener, and what a panic or a log line could print of the live state.
    let process = Process::launch(&text(&tls), &environment).await;
    let _ = get(process.address, "/CANARY").await;
    assert_silent("the log with TLS", &process.log(), &canaries);
    let lookup: Vec<(String, String)> = environment.iter().map(|(name, value)| ((*name).to_owned(), value.display().to_string())).collect();
    let secrets = Secrets::with_env(move |name| lookup.iter().find(|(known, _)| known == name).map(|(_, value)| value.into()));
    let config = Config::parse(&text(&tls), Path::new("t.toml"), &secrets).unwrap();
    assert_silent("the config's Debug", &format!("{config:?}"), &canaries);
    let running = spillway::server::start(&config, spillway::clock::Clock::new()).await.unwrap();
    assert_silent("the state's Debug", &format!("{:?}", running.gateway.runtime.load()), &canaries);
    assert_silent("the state's Debug", &format!("{:?}", running.gateway.runtime.load().config), &canaries);
}

/// A certificate and its RSA key.
fn rsa_pem() -> String {
    let der = include_bytes!("../../../testkit/fixtures/rsa-a.der");
    let der = rustls_pki_types::PrivatePkcs8KeyDer::from(&der[..]);
    let key = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_RSA_SHA256).unwrap();
    rcgen::CertificateParams::new(vec!["app".to_owned()]).unwrap().self_signed(&key).unwrap().pem() + &key.serialize_pem()
}

/// As long as the test lives.
fn token_header(token: &str) -> &'static str {
    Box::leak(format!("Bearer {token}").into_boxed_str())
}

#[test]
fn errors_in_a_config_do_not_repeat_secrets() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.toml");
    for (text, expected) in [
        ("auth = { type = \"api-key\", key = \"CANARY-literal\" }", "a secret must not be written in this file"),
        ("auth = { type = \"api-key\", key = { env = \"CANARY_EMPTY\" } }", "the secret is empty"),
        ("auth = { type = \"api-key\", key = { env = \"CANARY_ODD\" } }", "not valid in a header"),
        ("auth = { type = \"api-key\", kee = \"CANARY-literal\" }", "unknown key"),
        ("auth = \"CANARY-literal\"", "auth"),
        ("url = \"http://user:CANARY@host:x\"", "user names and passwords in a URL are not supported"),
    ] {
        let url = if text.starts_with("url") { "" } else { "url = \"http://127.0.0.1:1\"\n" };
        let config = format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n\n[[backends]]\nname = \"a\"\nkind = \"openai\"\n{url}{text}\n\n[[pools]]\nname = \"p\"\nmodels = [\"m\"]\nmembers = [{{ backend = \"a\" }}]\n"
        );
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
        let output = command.args(["check", "-c"]).arg(&file).env("CANARY_EMPTY", "").env("CANARY_ODD", "CANARY\u{e9}-x").output().unwrap();
        let shown = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && shown.contains(expected), "{text}: {shown}");
        for canary in ["CANARY-literal", "CANARY@", "CANARY\u{e9}"] {
            assert_silent(text, &shown, &[canary]);
        }
    }
}
