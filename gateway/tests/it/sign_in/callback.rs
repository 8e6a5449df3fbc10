//! The way back from the issuer: answers that let nobody in.

use std::sync::Arc;
use std::time::Duration;

use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client;
use spillway_testkit::sign_in::SignInIssuer;
use tokio::sync::Notify;

use super::browser::*;
use crate::support::*;

/// The way back fails: the page says `text`, the failure is counted, and nobody is signed in.
async fn fails(scene: &Scene, browser: &mut Browser, back: &str, status: u16, result: &str, text: &str) {
    let before = scene.count(result).await;
    let answer = browser.get(back).await;
    assert_eq!(answer.status, status, "{result} {}", answer.text());
    let page = answer.text();
    assert!(page.contains(text), "{text} in {page}");
    assert!(page.contains(&format!("{URL}/sign-in\"")), "the page leads on");
    let policy = answer.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && policy.contains("frame-ancestors 'none'"), "{policy}");
    let fields = ["cache-control", "referrer-policy", "x-content-type-options"].map(|name| answer.header(name).unwrap());
    assert_eq!(fields, ["no-store", "no-referrer", "nosniff"]);
    assert_eq!(browser.session(), None, "{result}");
    assert_eq!(scene.count(result).await, before + 1.0, "{result}");
    assert!(browser.who().await["actor"].is_null());
}

/// A value of a query, replaced.
fn with(back: &str, name: &str, value: &str) -> String {
    let (path, query) = back.split_once('?').unwrap();
    let fields: Vec<String> = query
        .split('&')
        .map(|field| if field.starts_with(&format!("{name}=")) { format!("{name}={value}") } else { field.to_owned() })
        .collect();
    format!("{path}?{}", fields.join("&"))
}

#[tokio::test]
async fn an_answer_without_the_login_of_this_browser_is_refused() {
    let scene = Scene::start().await;
    let mut attacker = scene.browser();
    // Login CSRF: the attacker's own answer, in the browser of somebody else, with and without a login of its own.
    let planted = attacker.begin().await;
    let mut victim = scene.browser();
    fails(&scene, &mut victim, &planted, 400, "state", "No login is under way in this browser").await;
    let own = victim.begin().await;
    fails(&scene, &mut victim, &planted, 400, "state", "another login").await;
    assert_eq!(scene.issuer.exchanges(), 0, "no code was sent anywhere");
    assert_eq!(victim.get(&own).await.status, 303, "the victim's own login goes on");
}

#[tokio::test]
async fn a_wrong_missing_or_doubled_state_is_refused() {
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    let back = browser.begin().await;
    for (changed, result, text) in [
        (with(&back, "state", "0000000000000000000000000000000000000000000"), "state", "another login"),
        (with(&back, "state", ""), "state", "another login"),
        (back.replace("state=", "stat="), "state", "another login"),
        (format!("{back}&state=x"), "issuer_answer", "occurs twice"),
        (format!("{back}&code=x"), "issuer_answer", "occurs twice"),
        ("/sign-in/callback".to_owned(), "state", "another login"),
        (format!("/sign-in/callback?code={}", "x".repeat(17_000)), "issuer_answer", "too long"),
    ] {
        let mut copy = browser.clone();
        fails(&scene, &mut copy, &changed, 400, result, text).await;
    }
    assert_eq!(scene.issuer.exchanges(), 0);
}

#[tokio::test]
async fn a_login_is_over_after_ten_minutes() {
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    let back = browser.begin().await;
    scene.pass(Duration::from_secs(600)).await;
    fails(&scene, &mut browser, &back, 400, "state", "within ten minutes").await;
}

#[tokio::test]
async fn a_code_lets_in_once_even_if_the_issuer_forgets_that_it_was_used() {
    for forgets in [false, true] {
        let scene = Scene::start().await;
        if forgets {
            scene.issuer.forgets_codes();
        }
        let mut browser = scene.browser();
        let back = browser.begin().await;
        let mut copy = browser.clone();
        assert_eq!(browser.get(&back).await.status, 303);
        fails(&scene, &mut copy, &back, 400, "replayed", "finished before").await;
        assert_eq!(scene.issuer.exchanges(), 1);
        // The same code with a login of one's own.
        let own = with(&browser.begin().await, "code", "CANARY-code-1");
        browser.jar.remove("__Host-spillway");
        fails(&scene, &mut browser, &own, 400, "code", "doesn&#39;t accept the code").await;
    }
}

#[tokio::test]
async fn a_code_that_has_expired_or_was_made_up_is_refused() {
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    let back = with(&browser.begin().await, "code", "made-up");
    fails(&scene, &mut browser, &back, 400, "code", "invalid_grant (AADSTS70008)").await;
    let back = with(&browser.begin().await, "code", "");
    fails(&scene, &mut browser, &back, 400, "issuer_answer", "it has no code").await;
}

#[tokio::test]
async fn the_issuers_refusal_is_explained_and_not_repeated() {
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    scene.issuer.refuse(Some("error=access_denied&error_description=AADSTS65004%3A+User+declined"));
    let back = browser.begin().await;
    fails(&scene, &mut browser, &back, 403, "refused", "access_denied (AADSTS65004)").await;
    scene.issuer.refuse(Some("error=%3Cscript%3Ealert(1)%3C/script%3E&error_description=%3Cimg+src=x%3E"));
    let back = browser.begin().await;
    let page = browser.clone().get(&back).await.text();
    assert!(page.contains("an unknown error") && !page.contains("<script") && !page.contains("<img") && !page.contains("alert"), "{page}");
    // An error with a code beside it is an error.
    scene.issuer.refuse(Some("error=server_error&code=CANARY-code-1"));
    let back = browser.begin().await;
    fails(&scene, &mut browser, &back, 400, "refused", "server_error").await;
    assert_eq!(scene.issuer.exchanges(), 0);
}

#[tokio::test]
async fn an_answer_of_another_issuer_is_refused() {
    let issuer = SignInIssuer::start().await;
    issuer.names_itself();
    let scene = Scene::with(issuer, rules).await;
    let mut browser = scene.browser();
    for iss in ["https%3A%2F%2Fevil.example", ""] {
        let back = with(&browser.begin().await, "iss", iss);
        fails(&scene, &mut browser, &back, 400, "issuer", "another issuer").await;
    }
    // Its metadata promises the parameter.
    let back = browser.begin().await.replace("&iss=", "&other=");
    fails(&scene, &mut browser, &back, 400, "issuer", "another issuer").await;
    assert_eq!(scene.issuer.exchanges(), 0, "no code went to an issuer that it is not from");
    assert_eq!(browser.sign_in().await.status, 303);
    // One that doesn't promise it may still send it; then it must be right.
    let plain = Scene::start().await;
    let mut browser = plain.browser();
    let back = format!("{}&iss=https%3A%2F%2Fevil.example", browser.begin().await);
    fails(&plain, &mut browser, &back, 400, "issuer", "another issuer").await;
}

#[tokio::test]
async fn no_address_from_outside_is_followed() {
    let scene = Scene::start().await;
    for (given, path) in [
        ("/me", "/me"),
        ("/", "/"),
        ("https://evil.example/", "/"),
        ("//evil.example", "/"),
        ("/%5Cevil.example", "/"),
        ("%2F%2Fevil.example", "/"),
        ("/me/../api/upgrade", "/"),
        ("javascript:alert(1)", "/"),
    ] {
        let mut browser = scene.browser();
        browser.host = "evil.example";
        let begun = browser.get(&format!("/sign-in?return_to={given}")).await;
        let location = begun.header("location").unwrap();
        assert!(location.starts_with(&format!("{}/authorize?", scene.issuer.server.url())) && !location.contains("evil"), "{location}");
        let done = browser.get(&at_issuer(location).await).await;
        assert_eq!(done.header("location"), Some(format!("{URL}{path}").as_str()), "{given}");
    }
}

#[tokio::test]
async fn a_token_endpoint_that_fails_or_attacks_lets_nobody_in() {
    let elsewhere = ScriptedBackend::start(|_| Reply::json(200, "{}")).await;
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    let long = format!("{{\"id_token\":\"{}\"}}", "x".repeat(300_000));
    for (reply, status, result, text) in [
        (Reply::json(302, "").header("location", elsewhere.url()), 502, "issuer_answer", "a redirect (302), which is not followed"),
        (Reply::json(307, "").header("location", elsewhere.url()), 502, "issuer_answer", "a redirect (307)"),
        (Reply::json(500, "<html>"), 502, "issuer_answer", "status 500 without readable JSON"),
        (Reply::json(200, "{}"), 502, "issuer_answer", "status 200 without an ID token"),
        (Reply::json(400, r#"{"id_token":"x.y.z"}"#), 502, "issuer_answer", "status 400 without an ID token"),
        (Reply::json(200, long.clone()), 502, "issuer_answer", "an answer that is too long"),
        (Reply::json(200, long).chunked(), 502, "issuer_answer", "an answer that is too long"),
        (Reply::raw([Step::Reset]), 504, "issuer_unreachable", "token endpoint doesn't answer"),
        (
            Reply::json(400, r#"{"error":"invalid_client","error_description":"AADSTS7000222: The secret expired"}"#),
            502,
            "client",
            "invalid_client (AADSTS7000222)",
        ),
        (Reply::json(400, r#"{"error":"temporarily_unavailable"}"#), 400, "refused", "temporarily_unavailable"),
    ] {
        scene.issuer.token_endpoint(Some(reply));
        let back = browser.begin().await;
        fails(&scene, &mut browser, &back, status, result, &text.replace('\'', "&#39;")).await;
    }
    assert_eq!(elsewhere.count(), 0, "no code went elsewhere");
    scene.issuer.token_endpoint(None);
    assert_eq!(browser.sign_in().await.status, 303);
}

#[tokio::test]
async fn a_silent_token_endpoint_is_given_up() {
    let scene = Scene::start().await;
    scene.issuer.token_endpoint(Some(Reply::raw([Step::Hang])));
    let mut browser = scene.browser();
    let back = browser.begin().await;
    let waits = fails(&scene, &mut browser, &back, 504, "issuer_unreachable", "token endpoint");
    let passes = async {
        eventually("the exchange has begun", async || scene.issuer.exchanges() == 1).await;
        scene.pass(Duration::from_secs(5)).await;
    };
    tokio::join!(waits, passes);
}

#[tokio::test]
async fn few_exchanges_run_at_once_and_others_go_on() {
    let scene = Scene::start().await;
    let hold = Arc::new(Notify::new());
    // Its head is sent at once, and its end never.
    scene.issuer.token_endpoint(Some(Reply::json(200, "{}").header("content-length", "100").then(Step::Until(Arc::clone(&hold)))));
    let mut waiting = Vec::new();
    for _ in 0..8 {
        let mut browser = scene.browser();
        let back = browser.begin().await;
        waiting.push(tokio::spawn(async move { browser.get(&back).await.status }));
    }
    eventually("eight exchanges run", async || scene.issuer.exchanges() == 8).await;
    let mut ninth = scene.browser();
    let back = ninth.begin().await;
    fails(&scene, &mut ninth, &back, 503, "busy", "Wait a few seconds").await;
    assert_eq!(client::get(scene.admin(), "/healthz").await.unwrap().status, 200);
    assert_eq!(scene.issuer.exchanges(), 8);
    scene.issuer.token_endpoint(None);
    scene.pass(Duration::from_secs(5)).await;
    for status in waiting {
        assert_eq!(status.await.unwrap(), 504);
    }
    assert_eq!(ninth.get(&back).await.status, 303, "its login could still be finished");
}

#[tokio::test]
async fn codes_that_are_made_up_reach_the_issuer_at_a_bounded_pace() {
    let scene = Scene::start().await;
    let mut refused = 0;
    for _ in 0..60 {
        let mut stranger = scene.browser();
        let back = with(&stranger.begin().await, "code", "made-up");
        refused += usize::from(stranger.get(&back).await.status == 503);
    }
    assert_eq!((refused, scene.issuer.exchanges()), (20, 40));
    scene.pass(Duration::from_secs(1)).await;
    assert_eq!(scene.browser().sign_in().await.status, 303);
}

#[tokio::test]
async fn without_the_issuer_nobody_signs_in_and_the_page_says_so() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let issuer = SignInIssuer::start().await;
    let text = text(&backend, &rules(&issuer));
    drop(issuer);
    let gateway = Gateway::start(&text).await;
    let answer = gateway.admin("/sign-in").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("can&#39;t be reached"), "{}", answer.text());
    let bearer = format!("Bearer {TOKEN}");
    let status =
        client::ask(gateway.running.admin, client::post("/api/drain?backend=a", &[("authorization", &bearer)], b"")).await.unwrap();
    assert_eq!(status.status, 200, "the admin token works");

    let without = Gateway::start(&config(&[member("a", &backend, 1)], "", "")).await;
    assert_eq!((without.admin("/sign-in").await.status, without.admin("/sign-in/callback").await.status), (404, 404));
    let who = without.admin("/api/session").await.json();
    assert_eq!((who["actor"].as_str(), who["sign_in"].as_bool()), (Some("local"), Some(false)));
}
