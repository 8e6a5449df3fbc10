//! What each role may do, and that no page of another origin does it.

use serde_json::json;
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client;
use spillway_testkit::sign_in::SignInIssuer;

use super::browser::*;
use crate::support::*;

#[tokio::test]
async fn each_role_may_do_what_it_says_and_no_more() {
    let scene = Scene::start().await;
    let roles = [
        ("member", json!({ "roles": [], "groups": ["members"] })),
        ("viewer", json!({ "roles": [], "groups": ["viewers", "members"] })),
        ("operator", json!({ "roles": ["Gateway.Operator"], "groups": ["viewers"] })),
        ("administrator", json!({ "roles": ["Gateway.Operator", "Gateway.Admin"] })),
    ];
    // The least role, as a number; a wrong parameter shows that a change would be made.
    let paths = [
        ("GET", "/api/session", 0, 200),
        ("GET", "/api/status", 1, 200),
        ("GET", "/metrics", 1, 200),
        ("GET", "/api/keys", 1, 200),
        ("GET", "/api/requests", 1, 200),
        ("POST", "/api/drain?backend=none", 2, 404),
        ("POST", "/api/undrain?backend=none", 2, 404),
        ("POST", "/api/reset?backend=none", 2, 404),
        ("POST", "/api/log?level=loud%21", 2, 400),
        ("POST", "/api/reload", 2, 422),
        ("GET", "/api/sessions", 3, 200),
        ("POST", "/api/sessions/end", 3, 400),
    ];
    for (number, (role, claims)) in roles.iter().enumerate() {
        scene.issuer.claims(claims.clone());
        let mut browser = scene.browser();
        browser.sign_in().await;
        assert_eq!(browser.who().await["role"], *role);
        for (method, path, least, expected) in paths {
            let answer = if method == "GET" { browser.get(path).await } else { browser.post(path).await };
            let expected = if number >= least { expected } else { 403 };
            assert_eq!(answer.status, expected, "{role} {path}: {}", answer.text());
            if expected == 403 {
                assert!(answer.text().contains(&format!("yours is {role}")), "{}", answer.text());
            }
        }
        if number < 3 {
            let upgrade = browser.post("/api/upgrade").await;
            assert_eq!((upgrade.status, upgrade.text().contains("administrator")), (403, true), "{role}");
        }
    }
}

#[tokio::test]
async fn everybody_may_be_a_member() {
    let scene = Scene::with(SignInIssuer::start().await, |issuer| rules(issuer) + "everyone = \"member\"\n").await;
    scene.issuer.claims(json!({ "roles": null }));
    let mut browser = scene.browser();
    browser.sign_in().await;
    assert_eq!(browser.who().await["role"], "member");
    assert_eq!(browser.get("/api/status").await.status, 403);
}

#[tokio::test]
async fn a_change_needs_the_sessions_own_csrf_token() {
    let scene = Scene::start().await;
    let (mut browser, mut other) = (scene.browser(), scene.browser());
    browser.sign_in().await;
    other.sign_in().await;
    let csrf = browser.who().await["csrf"].as_str().unwrap().to_owned();
    let foreign = other.who().await["csrf"].as_str().unwrap().to_owned();
    let session = browser.session().unwrap().clone();
    let path = "/api/drain?backend=a";
    for headers in [
        vec![],
        vec![("x-spillway-csrf", "")],
        vec![("x-spillway-csrf", foreign.as_str())],
        vec![("x-spillway-csrf", session.as_str())],
        vec![("x-spillway-csrf", csrf.as_str()), ("origin", "https://evil.example"), ("x-spillway-admin", "1")],
        vec![("x-spillway-csrf", csrf.as_str()), ("origin", "null"), ("x-spillway-admin", "1")],
        vec![("x-spillway-csrf", csrf.as_str()), ("origin", URL)],
        vec![("x-spillway-csrf", csrf.as_str()), ("sec-fetch-site", "cross-site")],
        vec![("x-spillway-csrf", csrf.as_str()), ("sec-fetch-site", "same-site")],
    ] {
        assert_eq!(browser.send("POST", path, &headers).await.status, 403, "{headers:?}");
        assert_eq!(browser.send("POST", "/sign-out", &headers).await.status, 403, "{headers:?}");
    }
    let pools = browser.get("/api/pools").await.json();
    assert_eq!(pools["pools"][0]["models"][0]["members"][0]["state"], "ready");
    let good = [("x-spillway-csrf", csrf.as_str()), ("origin", URL), ("x-spillway-admin", "1"), ("sec-fetch-site", "same-origin")];
    assert_eq!(browser.send("POST", path, &good).await.status, 200);
}

#[tokio::test]
async fn pages_of_others_read_nothing_with_a_session() {
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    browser.sign_in().await;
    for path in ["/api/status", "/api/session", "/metrics"] {
        for headers in [[("sec-fetch-site", "cross-site")], [("origin", "https://evil.example")]] {
            assert_eq!(browser.send("GET", path, &headers).await.status, 403, "{path} {headers:?}");
        }
    }
}

#[tokio::test]
async fn with_sign_in_nobody_is_let_in_for_being_on_this_machine() {
    let issuer = SignInIssuer::start().await;
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &rules(&issuer))).await;
    for path in ["/api/status", "/metrics", "/api/events"] {
        let answer = gateway.admin(path).await;
        assert_eq!(answer.status, 401, "{path}");
        assert!(answer.text().contains("for programs, set server.admin_token"), "{}", answer.text());
    }
    assert_eq!(client::ask(gateway.running.admin, client::post("/api/drain?backend=a", &[], b"")).await.unwrap().status, 401);
    for path in ["/healthz", "/readyz", "/", "/api/session"] {
        assert_eq!(gateway.admin(path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_token_that_is_sent_must_be_right_though_there_is_a_session() {
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    browser.sign_in().await;
    assert_eq!(browser.send("GET", "/api/status", &[("authorization", "Bearer wrong")]).await.status, 401);
    let bearer = format!("Bearer {TOKEN}");
    assert_eq!(browser.send("GET", "/api/sessions", &[("authorization", &bearer)]).await.status, 200);
    assert_eq!(browser.send("POST", "/sign-out", &[("authorization", &bearer)]).await.status, 400, "a token has no session");
}

#[tokio::test]
async fn sign_in_paths_take_one_method_each() {
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    for (method, path) in [("POST", "/sign-in"), ("POST", "/sign-in/callback"), ("GET", "/sign-out"), ("POST", "/api/session")] {
        assert_eq!(browser.send(method, path, &[]).await.status, 405, "{method} {path}");
    }
}
