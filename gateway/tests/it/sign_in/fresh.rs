//! Changes need a fresh sign-in.

use std::time::Duration;

use serde_json::{Value, json};
use spillway_testkit::identity::seconds_now;
use spillway_testkit::sign_in::SignInIssuer;

use super::browser::*;

const MINUTE: u64 = 60;
const DRAIN: &str = "/api/drain?backend=a";

/// The scene a while later, where the issuer's clock shows the same time as the gateway's.
async fn later(scene: &Scene, minutes: u64, so_far: &mut i64) {
    scene.pass(Duration::from_secs(minutes * MINUTE)).await;
    *so_far += i64::try_from(minutes * MINUTE).unwrap();
    let now = seconds_now() + *so_far;
    scene.issuer.claims(json!({ "auth_time": now, "iat": now, "nbf": now - 10, "exp": now + 3600 }));
}

/// Signs in at this address; returns the gateway's last answer.
async fn sign_in_at(browser: &mut Browser, path: &str) -> spillway_testkit::client::Response {
    let begun = browser.get(path).await;
    let back = at_issuer(begun.header("location").unwrap()).await;
    browser.get(&back).await
}

#[tokio::test]
async fn a_session_that_is_old_changes_nothing_until_the_person_signs_in_afresh() {
    let scene = Scene::start().await;
    let (mut browser, mut passed) = (scene.browser(), 0);
    browser.sign_in().await;
    assert_eq!(browser.post(DRAIN).await.status, 200);
    later(&scene, 14, &mut passed).await;
    assert_eq!(browser.post("/api/undrain?backend=a").await.status, 200);
    assert_eq!(browser.who().await["fresh_for_ms"].as_u64().unwrap().div_ceil(60_000), 1);
    later(&scene, 1, &mut passed).await;
    let refused = browser.post(DRAIN).await;
    assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (403, Some("fresh_sign_in")), "{}", refused.text());
    assert!(refused.text().contains("at most 15 minutes ago"), "{}", refused.text());
    assert_eq!((browser.who().await["fresh_for_ms"].as_u64(), browser.get("/api/status").await.status), (Some(0), 200), "looking goes on");
    assert_eq!(metric_with_token(scene.admin(), "spillway_admin_refusals_total{reason=\"stale\"}").await, 1.0);
    let pools = browser.get("/api/pools").await.json();
    assert_eq!(pools["pools"][0]["models"][0]["members"][0]["state"], "ready", "nothing was drained");

    let before = browser.session().unwrap().clone();
    let begun = browser.get("/sign-in?fresh=true&return_to=/").await;
    let location = begun.header("location").unwrap();
    assert!(location.contains("&prompt=login&max_age=900"), "{location}");
    let back = at_issuer(location).await;
    assert_eq!(browser.get(&back).await.header("location"), Some("https://gateway.example.com/"));
    assert_ne!(*browser.session().unwrap(), before);
    assert_eq!(browser.post(DRAIN).await.status, 200);
}

#[tokio::test]
async fn each_change_of_operators_and_administrators_needs_it_and_no_other_request() {
    let scene = Scene::start().await;
    scene.issuer.claims(json!({ "roles": ["Gateway.Admin"], "auth_time": seconds_now() - 3600 }));
    let mut browser = scene.browser();
    browser.sign_in().await;
    for path in [
        DRAIN,
        "/api/undrain?backend=a",
        "/api/reset?backend=a",
        "/api/reload",
        "/api/upgrade",
        "/api/log?level=debug",
        "/api/sessions/end?all=true",
        "/api/keys",
        "/api/keys/k/rotate",
        "/api/something-new",
    ] {
        let refused = browser.post(path).await;
        assert_eq!((refused.status, refused.json()["error"]["code"].as_str()), (403, Some("fresh_sign_in")), "{path}");
    }
    let csrf = browser.who().await["csrf"].as_str().unwrap().to_owned();
    assert_eq!(browser.send("DELETE", "/api/keys/k", &[("x-spillway-csrf", &csrf)]).await.json()["error"]["code"], "fresh_sign_in");
    for path in ["/api/status", "/api/keys", "/api/audit", "/api/sessions", "/api/config", "/metrics"] {
        assert_ne!(browser.get(path).await.status, 403, "{path}");
    }
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(browser.send("POST", DRAIN, &[("authorization", &bearer)]).await.status, 200, "the token has no session");
    assert_eq!(browser.post("/sign-out").await.status, 200, "one may always sign out");
}

#[tokio::test]
async fn a_single_sign_on_of_this_morning_is_no_fresh_sign_in() {
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    // A browser that drops `prompt` and `max_age` gets the issuer's session of this morning.
    scene.issuer.claims(json!({ "auth_time": seconds_now() - 2 * 3600 }));
    browser.sign_in().await;
    let session = browser.session().cloned();
    let answer = sign_in_at(&mut browser, "/sign-in?fresh=true").await;
    assert_eq!((answer.status, scene.count("not_fresh").await), (403, 1.0), "{}", answer.text());
    assert!(answer.text().contains("You must show again who you are") && answer.text().contains("reauthenticate_after"));
    assert_eq!((browser.session().cloned(), browser.get("/api/status").await.status), (session, 200), "the session before goes on");
    assert_eq!(browser.post(DRAIN).await.status, 403);
}

#[tokio::test]
async fn without_auth_time_nobody_is_fresh_and_the_page_says_what_the_issuer_lacks() {
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    for auth_time in [Value::Null, json!("now"), json!(seconds_now() + 4000)] {
        scene.issuer.claims(json!({ "auth_time": auth_time }));
        assert_eq!(browser.sign_in().await.status, 303, "an ordinary sign-in needs no such claim");
        assert_eq!(browser.post(DRAIN).await.status, 403);
        let answer = sign_in_at(&mut browser, "/sign-in?fresh=true").await;
        assert_eq!(answer.status, 403);
        assert!(answer.text().contains("Add optional claim, ID, auth_time"), "{}", answer.text());
    }
}

#[tokio::test]
async fn as_long_as_a_session_may_last_no_change_needs_a_fresh_sign_in() {
    let issuer = SignInIssuer::start().await;
    issuer.claims(json!({ "auth_time": null }));
    let scene = Scene::with(issuer, |issuer| rules(issuer) + "reauthenticate_after = \"8h\"\n").await;
    let mut browser = scene.browser();
    browser.sign_in().await;
    assert_eq!((browser.who().await["fresh_for_ms"].is_null(), browser.post(DRAIN).await.status), (true, 200));
    assert_eq!(sign_in_at(&mut browser, "/sign-in?fresh=true").await.status, 303);
}
