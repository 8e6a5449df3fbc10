//! The issuer ends sessions.

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{self, Response};
use spillway_testkit::sign_in::SignInIssuer;
use spillway_testkit::tokens::{SigningKey, hmac_token, unsigned};

use super::browser::*;
use crate::support::*;

const PATH: &str = "/sign-out/back-channel";

/// A form, as issuers send it.
fn form(body: &str) -> String {
    let kind = "application/x-www-form-urlencoded; charset=utf-8";
    format!("POST {PATH} HTTP/1.1\r\nhost: gateway.example.com\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

async fn send(scene: &Scene, body: &str) -> Response {
    client::ask(scene.admin(), form(body)).await.unwrap()
}

async fn log_out(scene: &Scene, claims: Value) -> Response {
    send(scene, &format!("logout_token={}", scene.issuer.logout_token(&claims))).await
}

async fn signed_in(scene: &Scene, claims: Value) -> Browser {
    scene.issuer.claims(claims);
    let mut browser = scene.browser();
    assert_eq!(browser.sign_in().await.status, 303);
    browser
}

async fn is_in(browser: &mut Browser) -> bool {
    browser.get("/api/status").await.status == 200
}

async fn logouts(scene: &Scene, channel: &str, result: &str) -> f64 {
    let name = format!("spillway_sign_in_logouts_total{{channel=\"{channel}\",result=\"{result}\"}}");
    metric_with_token(scene.admin(), &name).await
}

#[tokio::test]
async fn the_issuer_ends_one_session_by_its_id_and_all_of_a_person_by_the_subject() {
    let scene = Scene::start().await;
    let mut here = signed_in(&scene, json!({ "sid": "one" })).await;
    let mut there = signed_in(&scene, json!({ "sid": "two" })).await;
    let mut bob = signed_in(&scene, json!({ "sub": "bob", "sid": "three" })).await;
    let (status, mut page) = here.events().await;
    assert_eq!(status, 200);
    page.chunk().await.unwrap().unwrap();
    let done = log_out(&scene, json!({ "sid": "one" })).await;
    assert_eq!((done.status, done.header("cache-control"), done.text().as_str()), (200, Some("no-store"), ""));
    while page.chunk().await.unwrap().is_some_and(|chunk| !chunk.is_empty()) {}
    assert_eq!((is_in(&mut here).await, is_in(&mut there).await, is_in(&mut bob).await), (false, true, true));
    assert_eq!(log_out(&scene, json!({ "sub": "ada-subject" })).await.status, 200);
    assert_eq!((is_in(&mut there).await, is_in(&mut bob).await), (false, true));
    assert_eq!(log_out(&scene, json!({ "sub": "nobody" })).await.status, 200, "one who isn't signed in is signed out");
    assert_eq!((logouts(&scene, "back", "ok").await, logouts(&scene, "back", "none").await), (2.0, 1.0));
}

#[tokio::test]
async fn a_logout_token_works_once() {
    let scene = Scene::start().await;
    let mut browser = signed_in(&scene, json!({ "sid": "one" })).await;
    let body = format!("logout_token={}", scene.issuer.logout_token(&json!({ "sub": "ada-subject", "jti": "x" })));
    assert_eq!(send(&scene, &body).await.status, 200);
    assert!(!is_in(&mut browser).await);
    browser.sign_in().await;
    let again = send(&scene, &body).await;
    assert_eq!((again.status, again.json()["error"].as_str()), (400, Some("invalid_request")));
    assert!(again.text().contains("used before") && is_in(&mut browser).await);
}

#[tokio::test]
async fn what_is_no_logout_token_of_the_issuer_ends_nothing() {
    let scene = Scene::start().await;
    let mut browser = signed_in(&scene, json!({ "sid": "one" })).await;
    let sub = || json!({ "sub": "ada-subject" });
    for (claims, text) in [
        (json!({ "iss": "https://evil.example" }), "another issuer"),
        (json!({ "aud": "another-app" }), "another audience"),
        (json!({ "aud": null }), "another audience"),
        (json!({ "exp": 1000 }), "expired"),
        (json!({ "exp": null }), "can't be read"),
        (json!({ "iat": null }), "'iat'"),
        (json!({ "iat": 1000 }), "'iat'"),
        (json!({ "jti": null }), "'jti'"),
        (json!({ "events": null }), "'events'"),
        (json!({ "events": { "http://schemas.openid.net/event/backchannel-logout": "yes" } }), "'events'"),
        (json!({ "nonce": "n" }), "nonce"),
        (json!({ "sub": null }), "'sid'"),
    ] {
        let mut all = sub();
        for (name, value) in claims.as_object().unwrap() {
            all[name.as_str()] = value.clone();
        }
        let answer = log_out(&scene, all).await;
        assert_eq!((answer.status, answer.text().contains(text)), (400, true), "{claims}: {}", answer.text());
    }
    let claims = sub();
    let honest = scene.issuer.logout_token(&claims);
    for (name, forge) in [
        (
            "none",
            Box::new(|_: &SigningKey, claims: &Value| unsigned(&json!({ "alg": "none" }), claims) + ".")
                as Box<dyn Fn(&_, &_) -> _ + Send + Sync>,
        ),
        ("hmac", Box::new(|signer: &SigningKey, claims: &Value| hmac_token("a", &signer.public_bytes(), claims))),
        ("another key", Box::new(|_: &SigningKey, claims: &Value| SigningKey::rsa("b").token("a", claims))),
    ] {
        scene.issuer.sign_with(forge);
        assert_eq!(log_out(&scene, sub()).await.status, 400, "{name}");
    }
    for body in ["", "logout_token=", "token=x", "logout_token=a.b.c", &format!("logout_token={honest}&logout_token={honest}")] {
        assert_eq!(send(&scene, body).await.status, 400, "{body:.40}");
    }
    let json = client::post(PATH, &[], format!("logout_token={honest}").as_bytes());
    assert_eq!(client::ask(scene.admin(), json).await.unwrap().status, 400);
    assert_eq!(browser.get(PATH).await.status, 405);
    assert!(is_in(&mut browser).await);
    assert_eq!((logouts(&scene, "back", "ok").await, logouts(&scene, "back", "none").await), (0.0, 0.0));
    assert_eq!(send(&scene, &format!("x=y&logout_token={honest}")).await.status, 200, "the honest one was not used up");
    assert!(!is_in(&mut browser).await);
}

#[tokio::test]
async fn an_id_token_is_no_logout_token_and_the_other_way_round() {
    let scene = Scene::start().await;
    let mut browser = signed_in(&scene, json!({ "sid": "one" })).await;
    scene.issuer.claims(json!({ "events": { "http://schemas.openid.net/event/backchannel-logout": {} }, "jti": "id-token" }));
    let kept = std::sync::Arc::new(parking_lot::Mutex::new(String::new()));
    let keep = std::sync::Arc::clone(&kept);
    scene.issuer.sign_with(move |signer, claims| {
        let token = signer.token("a", claims);
        keep.lock().clone_from(&token);
        token
    });
    browser.sign_in().await;
    let id_token = kept.lock().clone();
    let answer = send(&scene, &format!("logout_token={id_token}")).await;
    assert_eq!((answer.status, answer.text().contains("nonce")), (400, true), "{}", answer.text());
    scene.issuer.claims(json!({ "nonce": null }));
    assert_eq!(browser.sign_in().await.status, 502, "without a nonce nobody gets in");
}

#[tokio::test]
async fn in_a_frame_of_the_issuers_page_its_session_is_named() {
    let scene = Scene::start().await;
    let mut browser = signed_in(&scene, json!({ "sid": "a b" })).await;
    let issuer = scene.issuer.server.url();
    // As a frame on another site, without a cookie.
    let frame = [("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "iframe")];
    let mut other = scene.browser();
    for query in [
        "",
        "?sid=a+b",
        "?iss=https%3A%2F%2Fevil.example&sid=a+b",
        &format!("?iss={issuer}"),
        &format!("?iss={issuer}&sid="),
        &format!("?iss={issuer}/&sid=a+b"),
    ] {
        assert_eq!(other.send("GET", &format!("/sign-out/front-channel{query}"), &frame).await.status, 400, "{query}");
    }
    assert_eq!(other.send("GET", &format!("/sign-out/front-channel?iss={issuer}&sid=another"), &frame).await.status, 200);
    assert!(is_in(&mut browser).await);
    let done = other.send("GET", &format!("/sign-out/front-channel?iss={issuer}&sid=a%20b"), &frame).await;
    assert_eq!((done.status, done.header("content-security-policy")), (200, Some("default-src 'none'")), "it may be in a frame");
    assert!(!is_in(&mut browser).await);
    assert_eq!(
        [logouts(&scene, "front", "refused").await, logouts(&scene, "front", "none").await, logouts(&scene, "front", "ok").await],
        [6.0, 1.0, 1.0]
    );
}

#[tokio::test]
async fn what_the_issuer_ended_stays_ended_and_used_through_an_upgrade() {
    let issuer = SignInIssuer::start().await;
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let folder = tempfile::tempdir().unwrap();
    let text = text(&backend, &rules(&issuer)).replace("admin_token", &format!("{}\nadmin_token", state_dir(folder.path())));
    let process = Process::launch(&text, &[]).await;
    ready(process.admin).await;
    issuer.claims(json!({ "sid": "one" }));
    let [mut gone, mut later] = [(); 2].map(|()| Browser::at(process.admin));
    gone.sign_in().await;
    let body = format!("logout_token={}", issuer.logout_token(&json!({ "sub": "ada-subject" })));
    let log_out = async || client::ask(process.admin, form(&body)).await.unwrap().status;
    assert_eq!(log_out().await, 200);
    issuer.claims(json!({ "sid": "two" }));
    later.sign_in().await;
    process.upgrade_as(TOKEN).await;
    ready(process.admin).await;
    assert_eq!(log_out().await, 400, "the token is used");
    assert_eq!((gone.get("/api/status").await.status, later.get("/api/status").await.status), (401, 200));
    let sid = issuer.logout_token(&json!({ "sid": "two", "jti": "another" }));
    assert_eq!(client::ask(process.admin, form(&format!("logout_token={sid}"))).await.unwrap().status, 200);
    assert_eq!(later.get("/api/status").await.status, 401, "the issuer's session is known there, too");
    let request = format!("GET /api/audit HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n");
    let audit = client::ask(process.admin, request).await.unwrap().text();
    assert_eq!(audit.matches("session.end-by-issuer").count(), 2, "{audit}");
}
