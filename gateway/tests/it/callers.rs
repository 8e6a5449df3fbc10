//! Who may call, and what: keys, tokens, rights; and what everybody else gets.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use spillway_plugins::auth::{Pepper, digest};
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{Response, ask, post};
use spillway_testkit::identity::{FakeIssuer, seconds_now};
use spillway_testkit::tokens::{SigningKey, hmac_token};

use crate::support::*;

async fn backend() -> ScriptedBackend {
    ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await
}

fn consumer(name: &str, more: &str) -> String {
    format!("[[consumers]]\nname = \"{name}\"\n{more}\n")
}

fn key(text: &str) -> String {
    format!("keys = [{{ sha256 = \"{}\" }}]", digest(text.as_bytes()))
}

async fn call(gateway: &Gateway, headers: &[(&str, &str)]) -> Response {
    ask(gateway.address, post("/v1/chat/completions", headers, chat(false).to_string().as_bytes())).await.unwrap()
}

async fn bearer(gateway: &Gateway, token: &str) -> Response {
    call(gateway, &[("authorization", &format!("Bearer {token}"))]).await
}

fn rfc3339(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0).unwrap().to_rfc3339()
}

#[tokio::test]
async fn several_keys_are_good_at_once_each_for_its_time() {
    let backend = backend().await;
    let hash = |text: &str| digest(text.as_bytes());
    let now = seconds_now();
    let keys = format!(
        "keys = [{{ sha256 = \"{}\" }}, {{ sha256 = \"{}\", expires = \"{}\" }}, {{ sha256 = \"{}\", expires = \"{}\" }}, {{ sha256 = \"{}\", not_before = \"{}\" }}, {{ hmac_sha256 = \"{}\" }}]",
        hash("for-ever"),
        hash("still"),
        rfc3339(now + 3600),
        hash("over"),
        rfc3339(now - 1),
        hash("tomorrow"),
        rfc3339(now + 86_400),
        Pepper::new(b"the-pepper").digest(b"peppered"),
    );
    let rest = format!("{}\n[plugins.auth]\npepper = \"the-pepper\"\n", consumer("crm", &keys));
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    for name in ["api-key", "x-api-key"] {
        assert_eq!(call(&gateway, &[(name, "for-ever")]).await.status, 200, "{name}");
    }
    for good in ["for-ever", "still", "peppered"] {
        assert_eq!(bearer(&gateway, good).await.status, 200, "{good}");
    }
    for bad in ["over", "tomorrow", "unknown", ""] {
        assert_eq!(bearer(&gateway, bad).await.status, 401, "{bad}");
    }
    let two = call(&gateway, &[("api-key", "for-ever"), ("authorization", "Bearer still")]).await;
    assert_eq!((two.status, two.code()), (400, "ambiguous_credentials".into()));
    assert_eq!(gateway.metric("spillway_auth_failures_total{reason=\"key\"}").await, 3.0);
    assert_eq!(gateway.metric("spillway_auth_failures_total{reason=\"no_credential\"}").await, 1.0);
    assert_eq!(backend.count(), 5);
}

#[tokio::test]
async fn every_refused_key_gets_the_same_answer() {
    let backend = backend().await;
    let now = seconds_now();
    let keys = format!("keys = [{{ sha256 = \"{}\", expires = \"{}\" }}]", digest(b"over"), rfc3339(now - 5));
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &consumer("crm", &keys))).await;
    let mut seen = Vec::new();
    for headers in [
        vec![],
        vec![("api-key", "over")],
        vec![("api-key", "unknown")],
        vec![("authorization", "Basic b3Zlcg==")],
        vec![("authorization", "Bearer a.b.c")],
        vec![("x-api-key", "spw_000000000000000000000000000000000000000000000")],
    ] {
        let mut got = call(&gateway, &headers).await;
        assert_eq!((got.status, got.header("www-authenticate")), (401, Some("Bearer")));
        got.head.headers.retain(|(name, _)| name != "x-request-id" && name != "date");
        seen.push((got.head.headers.clone(), got.text()));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:?}");
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn no_path_and_no_host_gets_past_authentication() {
    let backend = backend().await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &consumer("crm", &key("k")))).await;
    let body = chat(false).to_string();
    for path in [
        "/v1/chat/completions",
        "//v1/chat/completions",
        "/v1//chat/completions",
        "/v1/./chat/completions",
        "/v1/%63hat/completions",
        "/v1/chat%2fcompletions",
        "/%2e%2e/v1/chat/completions",
        "/healthz/..;/v1/chat/completions",
        "/v1/models/..;/chat/completions",
        "/v1/chat/completions;a=b",
        "/v1/chat/completions?x=/healthz",
        "/v1/chat/completions#/healthz",
        "/metrics",
        "/api/pools",
        "/healthz",
        "/",
        "http://other/v1/chat/completions",
    ] {
        for host in ["gateway", "127.0.0.1:9090", "localhost", "admin", "metadata.internal"] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nhost: {host}\r\nx-original-url: /healthz\r\nx-forwarded-host: admin\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let got = ask(gateway.address, request).await.unwrap();
            assert!(matches!(got.status, 400 | 401), "{path} at {host}: {}", got.status);
        }
    }
    for method in ["GET", "HEAD", "OPTIONS", "PUT", "TRACE", "PROPFIND"] {
        let request = format!("{method} /v1/models HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n");
        let got = ask(gateway.address, request).await.unwrap();
        assert!(matches!(got.status, 401 | 405), "{method}: {}", got.status);
    }
    assert_eq!(backend.count(), 0);
}

/// An issuer with key `a`, and a gateway that takes its tokens.
pub async fn with_issuer(backend: &ScriptedBackend, pool: &str, jwt: &str, rest: &str) -> (FakeIssuer, SigningKey, Gateway) {
    let key = SigningKey::rsa("a");
    let issuer = FakeIssuer::start(vec![key.jwk("a")]).await;
    let jwt = if jwt.is_empty() { "unlisted = {}" } else { jwt };
    let rest = format!(
        "{rest}\n[plugins.auth.jwt]\nissuer = \"{}\"\naudiences = [\"api://spillway\"]\nalgorithms = [\"RS256\", \"ES256\"]\n{jwt}\n",
        issuer.server.url()
    );
    let gateway = Gateway::start(&config(&[member("a", backend, 1)], pool, &rest)).await;
    (issuer, key, gateway)
}

#[tokio::test]
async fn tokens_name_consumers_and_wrong_ones_are_told_apart_in_metrics_only() {
    let backend = backend().await;
    let rest = consumer("crm", &format!("claims = [\"app-1\"]\nmodels = [\"m\"]\n{}", key("k")));
    let (issuer, key, gateway) = with_issuer(&backend, "", "", &rest).await;
    let claims = issuer.claims("app-1");
    let with = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        claims
    };
    assert_eq!(bearer(&gateway, &key.token("a", &claims)).await.status, 200);
    assert_eq!(bearer(&gateway, "k").await.status, 200, "a bearer that is no token is a key");
    assert_eq!(call(&gateway, &[("api-key", &key.token("a", &claims))]).await.status, 401, "a token is a bearer");
    let other = ask(
        gateway.address,
        post("/v1/chat/completions", &[("authorization", &format!("Bearer {}", key.token("a", &claims)))], br#"{"model":"gpt-4o"}"#),
    )
    .await
    .unwrap();
    assert_eq!((other.status, other.code()), (403, "model_not_allowed".into()), "the consumer's rights hold for its tokens");
    let now = seconds_now();
    let rsa_b = SigningKey::rsa("b");
    let mut answers = Vec::new();
    for (reason, token) in [
        ("token_audience", key.token("a", &with("aud", "api://other".into()))),
        ("token_issuer", key.token("a", &with("iss", "https://evil.example".into()))),
        ("token_expired", key.token("a", &with("exp", (now - 400).into()))),
        ("token_not_yet_valid", key.token("a", &with("nbf", (now + 400).into()))),
        ("token_signature", rsa_b.token("a", &claims)),
        ("token_algorithm", hmac_token("a", &key.public_bytes(), &claims)),
        ("token_algorithm", key.sign(&json!({ "alg": "RS512", "kid": "a" }), &claims)),
        ("token_no_claim", key.token("a", &with("azp", Value::Null))),
    ] {
        let before = gateway.metric(&format!("spillway_auth_failures_total{{reason=\"{reason}\"}}")).await;
        let got = bearer(&gateway, &token).await;
        assert_eq!(got.status, 401, "{reason}");
        assert_eq!(gateway.metric(&format!("spillway_auth_failures_total{{reason=\"{reason}\"}}")).await, before + 1.0, "{reason}");
        answers.push(got.text());
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "what is wrong is not told");
    // A clock that is a little off is forgiven.
    for claims in [with("exp", (now - 200).into()), with("nbf", (now + 200).into())] {
        assert_eq!(bearer(&gateway, &key.token("a", &claims)).await.status, 200);
    }
    assert_eq!(issuer.fetches(), 1);
}

#[tokio::test]
async fn a_tenant_that_is_not_listed_is_refused() {
    let backend = backend().await;
    let tenant = "11111111-2222-3333-4444-555555555555";
    let (issuer, key, gateway) = with_issuer(&backend, "", &format!("tenants = [\"{tenant}\"]\nunlisted = {{}}"), "").await;
    let mut claims = issuer.claims("app");
    assert_eq!(bearer(&gateway, &key.token("a", &claims)).await.status, 401);
    claims["tid"] = "99999999-2222-3333-4444-555555555555".into();
    assert_eq!(bearer(&gateway, &key.token("a", &claims)).await.status, 401);
    claims["tid"] = tenant.into();
    assert_eq!(bearer(&gateway, &key.token("a", &claims)).await.status, 200);
    assert_eq!(gateway.metric("spillway_auth_failures_total{reason=\"token_tenant\"}").await, 2.0);
}

#[tokio::test]
async fn keys_rotate_at_once_and_an_outage_keeps_the_last_good_ones() {
    let backend = backend().await;
    let (issuer, a, gateway) = with_issuer(&backend, "", "", "").await;
    let old = a.token("a", &issuer.claims("app"));
    assert_eq!(bearer(&gateway, &old).await.status, 200);
    let new = SigningKey::ec();
    issuer.publish(vec![a.jwk("a"), new.jwk("n")]);
    assert_eq!(bearer(&gateway, &new.token("n", &issuer.claims("app"))).await.status, 200, "the very request that brings the new key");
    assert_eq!((bearer(&gateway, &old).await.status, issuer.fetches()), (200, 2));
    issuer.down(Some(Reply::json(500, "{}")));
    assert_eq!(bearer(&gateway, &SigningKey::rsa("b").token("b", &issuer.claims("app"))).await.status, 401);
    for token in [&old, &new.token("n", &issuer.claims("other"))] {
        assert_eq!(bearer(&gateway, token).await.status, 200, "the last good keys stay");
    }
}

#[tokio::test]
async fn withdrawn_keys_take_what_they_vouched_for_with_them() {
    let backend = backend().await;
    let (issuer, a, gateway) = with_issuer(&backend, "", "", "").await;
    let old = a.token("a", &issuer.claims("app"));
    assert_eq!(bearer(&gateway, &old).await.status, 200);
    let b = SigningKey::rsa("b");
    issuer.publish(vec![b.jwk("b")]);
    assert_eq!(bearer(&gateway, &b.token("b", &issuer.claims("app"))).await.status, 200);
    assert_eq!(bearer(&gateway, &old).await.status, 401, "though it was checked before");
}

#[tokio::test]
async fn a_storm_of_unknown_keys_is_one_fetch() {
    let backend = backend().await;
    let (issuer, key, gateway) = with_issuer(&backend, "", "", "").await;
    let gateway = Arc::new(gateway);
    let began = Instant::now();
    let callers: Vec<_> = (0..200)
        .map(|n| {
            let (gateway, token) = (Arc::clone(&gateway), key.token(&format!("unknown-{n}"), &issuer.claims("app")));
            tokio::spawn(async move { bearer(&gateway, &token).await.status })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap(), 401);
    }
    assert!(began.elapsed() < Duration::from_secs(60));
    assert_eq!(issuer.fetches(), 2, "the first one, and one for all of them");
    assert_eq!(bearer(&gateway, &key.token("a", &issuer.claims("app"))).await.status, 200);
}

#[tokio::test]
async fn an_issuer_that_is_down_at_the_start_is_asked_again() {
    let backend = backend().await;
    let key = SigningKey::rsa("a");
    let issuer = FakeIssuer::start(vec![key.jwk("a")]).await;
    issuer.down(Some(Reply::json(503, "{}")));
    let rest = format!("[plugins.auth.jwt]\nissuer = \"{}\"\naudiences = [\"api://spillway\"]\nunlisted = {{}}\n", issuer.server.url());
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    let token = key.token("a", &issuer.claims("app"));
    assert_eq!(bearer(&gateway, &token).await.status, 401);
    issuer.down(None);
    // Not by the request itself: nobody may make us fetch more than once in five minutes.
    eventually("its keys came", async || gateway.metric("spillway_key_set_fetches_total{outcome=\"fetched\"}").await > 0.0).await;
    assert_eq!(bearer(&gateway, &token).await.status, 200);
}

#[tokio::test]
async fn unlisted_applications_become_consumers_within_bounds() {
    let backend = backend().await;
    let (issuer, key, gateway) = with_issuer(&backend, "", "unlisted = { max = 2, models = [\"m\"] }", "").await;
    let statuses = async |azp: &str| {
        let got = bearer(&gateway, &key.token("a", &issuer.claims(azp))).await;
        (got.status, if got.status == 200 { String::new() } else { got.code() })
    };
    assert_eq!(statuses("one").await.0, 200);
    assert_eq!(statuses("two").await.0, 200);
    assert_eq!(statuses("three").await, (403, "too_many_applications".into()));
    assert_eq!(statuses("one").await.0, 200, "who is in stays in");
    let header = format!("Bearer {}", key.token("a", &issuer.claims("one")));
    let other = ask(gateway.address, post("/v1/chat/completions", &[("authorization", &header)], br#"{"model":"gpt-4o"}"#)).await.unwrap();
    assert_eq!(other.code(), "model_not_allowed");
    for jwt in ["unlisted = { accept = false }", "# Nothing is said of them."] {
        let (issuer, key, gateway) = with_issuer(&backend, "", jwt, &consumer("crm", "claims = [\"listed\"]")).await;
        assert_eq!(bearer(&gateway, &key.token("a", &issuer.claims("listed"))).await.status, 200);
        let refused = bearer(&gateway, &key.token("a", &issuer.claims("other"))).await;
        assert_eq!((refused.status, refused.code()), (403, "application_not_listed".into()), "{jwt}");
    }
}

#[tokio::test]
async fn roles_and_scopes_are_needed_where_the_config_says_so() {
    let backend = backend().await;
    let rest = consumer("crm", "claims = [\"app\"]\nroles = [\"caller\", \"admin\"]") + &consumer("key-holder", &key("k"));
    let (issuer, signer, gateway) = with_issuer(&backend, "scopes = [\"models.use\"]", "", &rest).await;
    let with = async |roles: Value, scopes: &str| {
        let mut claims = issuer.claims("app");
        claims["roles"] = roles;
        claims["scp"] = scopes.into();
        bearer(&gateway, &signer.token("a", &claims)).await
    };
    assert_eq!(with(json!(["caller"]), "models.use other").await.status, 200);
    let no_role = with(json!(["reader"]), "models.use").await;
    assert_eq!((no_role.status, no_role.code()), (403, "grant_missing".into()));
    assert!(no_role.text().contains("the role 'caller' or 'admin'"), "{}", no_role.text());
    let no_scope = with(json!(["caller"]), "models.used").await;
    assert!(no_scope.status == 403 && no_scope.text().contains("the scope 'models.use'"), "{}", no_scope.text());
    assert_eq!(call(&gateway, &[("api-key", "k")]).await.code(), "grant_missing", "a key grants no scope");
}

#[tokio::test]
async fn rights_say_which_was_missing() {
    let backend = backend().await;
    let second = "[[pools]]\nname = \"other\"\nmodels = [\"o\"]\nmembers = [{ backend = \"a\" }]\n".to_owned();
    let rest = second + &consumer("crm", &format!("pools = [\"pool\"]\napis = [\"chat\"]\n{}", key("k")));
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rest)).await;
    let code = async |path: &str, model: &str| {
        let body = json!({ "model": model, "messages": [], "input": "x" }).to_string();
        let got = ask(gateway.address, post(path, &[("api-key", "k")], body.as_bytes())).await.unwrap();
        if got.status == 200 { "ok".to_owned() } else { format!("{} {}", got.status, got.code()) }
    };
    assert_eq!(code("/v1/chat/completions", "m").await, "ok");
    assert_eq!(code("/v1/chat/completions", "o").await, "403 pool_not_allowed");
    assert_eq!(code("/v1/embeddings", "m").await, "403 api_not_allowed");
    let listed = ask(gateway.address, "GET /v1/models HTTP/1.1\r\nhost: g\r\napi-key: k\r\n\r\n").await.unwrap().json();
    let names: Vec<&str> = listed["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert!(names.contains(&"m") && !names.contains(&"o"), "{names:?}");
    let head = "GET /v1/models HTTP/1.1\r\nhost: g\r\napi-key: k\r\nanthropic-version: 2023-06-01\r\n\r\n";
    let listed = ask(gateway.address, head).await.unwrap().json();
    assert_eq!((&listed["data"][0]["type"], &listed["data"][0]["display_name"]), (&json!("model"), &json!("m")));
    assert_eq!((&listed["has_more"], &listed["first_id"]), (&json!(false), &json!("m")));
}
