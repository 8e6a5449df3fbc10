//! What strangers, other pages and pages that are left open can't do with sign-in.

use std::time::Duration;

use serde_json::json;
use spillway_testkit::client;
use spillway_testkit::sign_in::SignInIssuer;

use super::browser::*;

#[tokio::test]
async fn a_page_that_is_left_open_keeps_no_session() {
    // What changes count as use, however long ago somebody has signed in.
    let scene = Scene::with(SignInIssuer::start().await, |issuer| rules(issuer) + "reauthenticate_after = \"8h\"\n").await;
    let [mut searching, mut reconnecting, mut present, mut changing] = [(); 4].map(|()| scene.browser());
    for browser in [&mut searching, &mut reconnecting, &mut present, &mut changing] {
        browser.sign_in().await;
    }
    let mut streams = Vec::new();
    for _ in 0..3 {
        scene.pass(Duration::from_secs(9 * 60)).await;
        // A text in the search box is searched again and again.
        assert_eq!(searching.get("/api/status?consumer=crm").await.status, 200);
        assert_eq!(searching.get("/api/limits?rows=25").await.status, 200);
        // A stream that breaks begins again, and first asks who is signed in.
        assert_eq!(reconnecting.who().await["role"], "operator");
        let (status, stream) = reconnecting.events().await;
        assert_eq!(status, 200);
        streams.push(stream);
        assert_eq!(present.get("/api/session?present=true").await.status, 200);
        assert_eq!(changing.post("/api/undrain?backend=a").await.status, 200);
    }
    scene.pass(Duration::from_secs(4 * 60)).await;
    assert_eq!(searching.get("/api/status?consumer=crm").await.status, 401);
    assert!(reconnecting.who().await["actor"].is_null());
    assert_eq!((present.get("/api/status").await.status, changing.get("/api/status").await.status), (200, 200));
}

#[tokio::test]
async fn cookies_of_other_applications_hide_none_of_these() {
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    let back = browser.begin().await;
    let cookie = |browser: &Browser| {
        let own: Vec<String> = browser.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        [&b"theme=gr\xc3\xb6\xc3\x9fe; x=\xff; y; =z; "[..], own.join("; ").as_bytes(), &b"; last=\xe4"[..]].concat()
    };
    let request = |path: &str, cookie: Vec<u8>| {
        let head = format!("GET {path} HTTP/1.1\r\nhost: gateway.example.com\r\nconnection: close\r\ncookie: ");
        [head.into_bytes(), cookie, b"\r\n\r\n".to_vec()].concat()
    };
    let done = client::ask(scene.admin(), request(&back, cookie(&browser))).await.unwrap();
    assert_eq!(done.status, 303, "{}", done.text());
    let line = done.head.headers.iter().find(|(name, value)| name == "set-cookie" && value.starts_with("__Host-spillway=")).unwrap();
    browser.jar.insert("__Host-spillway".to_owned(), line.1.split(['=', ';']).nth(1).unwrap().to_owned());
    assert_eq!(client::ask(scene.admin(), request("/api/status", cookie(&browser))).await.unwrap().status, 200);
    // Two of the same name are none, also next to such ones.
    let doubled = [cookie(&browser), b"; __Host-spillway=x".to_vec()].concat();
    assert_eq!(client::ask(scene.admin(), request("/api/status", doubled)).await.unwrap().status, 401);
}

#[tokio::test]
async fn a_page_of_others_begins_no_login() {
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    for site in ["cross-site", "same-site"] {
        for (path, page) in [("/sign-in", "/"), ("/sign-in?return_to=/me", "/me")] {
            let answer = browser.send("GET", path, &[("sec-fetch-site", site)]).await;
            assert_eq!((answer.status, answer.header("location")), (303, Some(format!("{URL}{page}").as_str())), "{site} {path}");
            assert!(browser.jar.is_empty(), "no login is under way");
        }
    }
    for site in ["same-origin", "none"] {
        let answer = browser.send("GET", "/sign-in", &[("sec-fetch-site", site)]).await;
        assert!(answer.header("location").unwrap().starts_with(&scene.issuer.server.url()), "{site}");
        assert!(!answer.header("location").unwrap().contains("prompt="));
    }
    // After a sign-out the issuer asks again who it is.
    let again = browser.get("/sign-in?again=true").await;
    assert!(again.header("location").unwrap().contains("&prompt=login"), "{:?}", again.header("location"));
}

#[tokio::test]
async fn one_that_sends_finished_logins_again_keeps_nobody_from_signing_in() {
    let scene = Scene::start().await;
    let mut stranger = scene.browser();
    let back = stranger.begin().await;
    let before = stranger.clone();
    assert_eq!(stranger.get(&back).await.status, 303);
    let state = back.split(['?', '&']).find(|pair| pair.starts_with("state=")).unwrap();
    for _ in 0..60 {
        assert_eq!(before.clone().get(&back).await.status, 400);
    }
    let mut other = scene.browser();
    other.begin().await;
    let open = other.begin().await;
    let own = open.split(['?', '&']).find(|pair| pair.starts_with("state=")).unwrap().to_owned();
    for path in [format!("/sign-in/callback?{own}&error=access_denied"), format!("/sign-in/callback?{own}")] {
        for _ in 0..60 {
            other.clone().get(&path).await;
        }
    }
    assert_eq!(before.clone().get(&format!("/sign-in/callback?{state}&error=x")).await.status, 400);
    assert_eq!(scene.count("busy").await, 0.0);
    assert_eq!(scene.issuer.exchanges(), 1, "none of it went to the issuer");
    let mut honest = scene.browser();
    assert_eq!(honest.sign_in().await.status, 303);
}

#[tokio::test]
async fn operators_and_administrators_sign_in_every_twelve_hours() {
    let scene =
        Scene::with(spillway_testkit::sign_in::SignInIssuer::start().await, |issuer| rules(issuer) + "session = \"13h\"\nidle = \"13h\"\n")
            .await;
    let [mut operator, mut viewer] = [(); 2].map(|()| scene.browser());
    operator.sign_in().await;
    let (status, mut stream) = operator.events().await;
    assert_eq!(status, 200);
    assert!(operator.who().await["ends_in_ms"].as_u64().unwrap() <= 12 * 3_600_000);
    scene.issuer.claims(json!({ "sub": "vera", "roles": null, "groups": ["viewers"] }));
    viewer.sign_in().await;
    scene.pass(Duration::from_secs(12 * 3600)).await;
    assert_eq!((operator.get("/api/status").await.status, viewer.get("/api/status").await.status), (401, 200));
    while stream.chunk().await.unwrap().is_some_and(|chunk| !chunk.is_empty()) {}
    scene.pass(Duration::from_secs(3600)).await;
    assert_eq!(viewer.get("/api/status").await.status, 401, "thirteen hours are over");
}

#[tokio::test]
async fn the_cookie_of_a_session_that_has_ended_goes() {
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    browser.sign_in().await;
    let stolen = browser.clone();
    browser.post("/sign-out").await;
    let mut stolen = stolen;
    assert_eq!(stolen.send("POST", "/sign-out", &[]).await.status, 401);
    assert_eq!(stolen.session(), None, "it is of no use to the browser");
    // A refusal for another reason leaves it.
    browser.sign_in().await;
    assert_eq!(browser.send("POST", "/sign-out", &[]).await.status, 403);
    assert!(browser.session().is_some());
}

#[tokio::test]
async fn with_a_session_only_the_configured_origin_is_the_pages_own() {
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    browser.sign_in().await;
    let csrf = browser.who().await["csrf"].as_str().unwrap().to_owned();
    for (origin, status) in [("http://gateway.example.com", 403), ("https://gateway.example.com:8443", 403), (URL, 200)] {
        let headers = [("origin", origin), ("x-spillway-admin", "1"), ("x-spillway-csrf", csrf.as_str())];
        assert_eq!(browser.send("POST", "/api/drain?backend=a", &headers).await.status, status, "{origin}");
    }
}

#[tokio::test]
async fn one_person_has_at_most_eight_pages_that_are_kept_up_to_date() {
    let scene = Scene::start().await;
    let [mut browser, mut other] = [(); 2].map(|()| scene.browser());
    browser.sign_in().await;
    let mut streams = Vec::new();
    for _ in 0..8 {
        let (status, mut stream) = browser.events().await;
        assert_eq!(status, 200);
        stream.chunk().await.unwrap().unwrap();
        streams.push(stream);
    }
    assert_eq!(browser.events().await.0, 503);
    scene.issuer.claims(json!({ "sub": "bob" }));
    other.sign_in().await;
    assert_eq!(other.events().await.0, 200, "others have their own");
}
