//! A session: its cookie, its limits, and what ends it.

use std::time::Duration;

use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client;
use spillway_testkit::sign_in::{CLIENT, SignInIssuer};

use super::browser::*;
use crate::support::*;

#[tokio::test]
async fn a_person_signs_in_and_out() {
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    let before = browser.who().await;
    assert_eq!((before["actor"].is_null(), before["sign_in"].as_bool(), before["token"].as_bool()), (true, Some(true), Some(true)));
    assert!(before["csrf"].is_null());
    assert_eq!(browser.get("/api/status").await.status, 401);
    let done = browser.sign_in().await;
    assert_eq!((done.status, done.header("location")), (303, Some("https://gateway.example.com/")), "{}", done.text());
    let who = browser.who().await;
    let shown = ["actor", "name", "subject", "role"].map(|name| who[name].as_str().unwrap().to_owned());
    assert_eq!(shown, ["person", "Ada Lovelace", "ada-subject", "operator"]);
    assert_eq!(browser.get("/api/status").await.status, 200);
    assert_eq!((scene.count("ok").await, scene.issuer.exchanges()), (1.0, 1));
    assert_eq!(metric_with_token(scene.admin(), "spillway_sign_in_sessions").await, 1.0);

    let stolen = browser.clone();
    let out = browser.post("/sign-out").await;
    assert_eq!((out.status, browser.session()), (200, None), "{}", out.text());
    assert_eq!(out.header("clear-site-data"), Some("\"cache\", \"storage\""));
    assert_eq!(stolen.clone().get("/api/status").await.status, 401, "a copy of the cookie is worth nothing");
    assert_eq!(metric_with_token(scene.admin(), "spillway_sign_in_sessions").await, 0.0);
}

#[tokio::test]
async fn cookies_are_for_this_host_over_https_and_no_script() {
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    browser.sign_in().await;
    let login = browser.lines.iter().find(|line| line.starts_with("__Host-spillway-sign-in=") && !line.contains("Max-Age=0")).unwrap();
    assert!(login.ends_with("; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=600"), "{login}");
    let session = browser.lines.iter().find(|line| line.starts_with("__Host-spillway=")).unwrap();
    let (token, attributes) = session.strip_prefix("__Host-spillway=").unwrap().split_once("; ").unwrap();
    assert_eq!((token.len(), attributes), (43, "Path=/; Secure; HttpOnly; SameSite=Lax"));
    assert!(!browser.jar.contains_key("__Host-spillway-sign-in"), "the login is over");
    assert!(browser.lines.iter().all(|line| !line.contains("Domain")));
}

#[tokio::test]
async fn a_session_that_somebody_planted_is_never_taken_over() {
    let scene = Scene::start().await;
    let mut attacker = scene.browser();
    attacker.sign_in().await;
    let planted = attacker.session().unwrap().clone();
    let mut victim = scene.browser();
    for planted in [planted.as_str(), "chosen-by-the-attacker-0000000000000000000"] {
        victim.jar.insert("__Host-spillway".to_owned(), planted.to_owned());
        scene.issuer.claims(serde_json::json!({ "sub": "victim" }));
        assert_eq!(victim.sign_in().await.status, 303);
        assert_ne!(victim.session().unwrap(), planted);
        assert_eq!(victim.who().await["subject"], "victim");
    }
    assert_eq!(attacker.get("/api/status").await.status, 401, "the session that this browser had before has ended");
}

#[tokio::test]
async fn a_session_ends_when_it_is_idle_and_at_its_end() {
    let scene = Scene::start().await;
    let [mut idle, mut busy, mut quiet, mut present] = [(); 4].map(|()| scene.browser());
    for browser in [&mut idle, &mut busy, &mut quiet, &mut present] {
        browser.sign_in().await;
    }
    scene.pass(Duration::from_secs(29 * 60)).await;
    // What a page asks by itself is no use; that somebody is there is one.
    assert_eq!(quiet.who().await["role"], "operator");
    assert_eq!(present.get("/api/session?present=true").await.status, 200);
    assert_eq!(busy.get("/api/status").await.status, 200);
    scene.pass(Duration::from_secs(61)).await;
    assert_eq!((idle.get("/api/status").await.status, busy.get("/api/status").await.status), (401, 200));
    assert_eq!((quiet.who().await["actor"].is_null(), present.who().await["role"].as_str()), (true, Some("operator")));
    for _ in 0..17 {
        assert_eq!(busy.get("/api/status").await.status, 200);
        scene.pass(Duration::from_secs(28 * 60)).await;
    }
    assert_eq!(busy.get("/api/status").await.status, 401, "eight hours are over");
}

#[tokio::test]
async fn an_open_page_is_no_use_and_ends_with_its_session() {
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    browser.sign_in().await;
    let (status, mut stream) = browser.events().await;
    assert_eq!(status, 200);
    stream.chunk().await.unwrap().unwrap();
    scene.pass(Duration::from_secs(30 * 60)).await;
    while stream.chunk().await.unwrap().is_some_and(|chunk| !chunk.is_empty()) {}
    assert_eq!(browser.events().await.0, 401);

    browser.sign_in().await;
    let (_, mut stream) = browser.events().await;
    assert_eq!(browser.post("/sign-out").await.status, 200);
    while stream.chunk().await.unwrap().is_some_and(|chunk| !chunk.is_empty()) {}
}

#[tokio::test]
async fn signing_out_everywhere_ends_ones_own_sessions_and_an_administrator_ends_others() {
    let scene = Scene::start().await;
    let [mut here, mut there, mut other, mut admin] = [(); 4].map(|()| scene.browser());
    here.sign_in().await;
    there.sign_in().await;
    scene.issuer.claims(serde_json::json!({ "sub": "bob", "name": "Bob" }));
    other.sign_in().await;
    assert_eq!(here.post("/sign-out?all=true").await.json()["sessions"], 2);
    assert_eq!((there.get("/api/status").await.status, other.get("/api/status").await.status), (401, 200));

    scene.issuer.claims(serde_json::json!({ "sub": "root", "name": "Root", "roles": ["Gateway.Admin"] }));
    admin.sign_in().await;
    assert_eq!(other.post("/api/sessions/end?subject=root").await.status, 403);
    let list = admin.get("/api/sessions").await.json();
    let mut names: Vec<&str> = list["sessions"].as_array().unwrap().iter().map(|session| session["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["Bob", "Root"]);
    assert_eq!(admin.post("/api/sessions/end").await.status, 400, "whose sessions must be named");
    assert_eq!(admin.post("/api/sessions/end?subject=bob").await.json()["sessions"], 1);
    assert_eq!((other.get("/api/status").await.status, admin.get("/api/status").await.status), (401, 200));
    assert_eq!(admin.post("/api/sessions/end?all=true").await.json()["sessions"], 1);
    assert_eq!(admin.get("/api/status").await.status, 401);
}

#[tokio::test]
async fn a_reload_keeps_sessions_and_gives_them_the_roles_of_the_new_config() {
    let issuer = SignInIssuer::start().await;
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let process = Process::launch(&text(&backend, &rules(&issuer)), &[]).await;
    ready(process.admin).await;
    let mut browser = Browser::at(process.admin);
    browser.sign_in().await;
    let written = process.text();
    let reload = async |text: &str| {
        process.write_config(text);
        let bearer = format!("Bearer {TOKEN}");
        let answer = client::ask(process.admin, client::post("/api/reload", &[("authorization", &bearer)], b"")).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    };
    reload(&format!("{written}\n# another text\n[usage]\non_disconnect = \"cancel\"\n")).await;
    assert_eq!(browser.who().await["role"], "operator");
    let fewer = "viewer = [\"viewers\", \"Gateway.Operator\"]";
    reload(&written.replace("operator = [\"Gateway.Operator\"], viewer = [\"viewers\"]", fewer)).await;
    assert_eq!(browser.who().await["role"], "viewer");
    assert_eq!(browser.post("/api/drain?backend=a").await.status, 403);
    reload(&written.replace("operator = [\"Gateway.Operator\"], ", "")).await;
    assert!(browser.who().await["actor"].is_null(), "no role is left");
    reload(&written).await;
    assert_eq!(browser.who().await["role"], "operator", "the session was there all the time");
    reload(&written.replace(CLIENT, "another-app")).await;
    assert!(browser.who().await["actor"].is_null(), "a session of another application is none");
}

#[tokio::test]
async fn an_upgrade_keeps_sessions_and_logins_under_way() {
    let issuer = SignInIssuer::start().await;
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let process = Process::launch(&text(&backend, &rules(&issuer)), &[]).await;
    ready(process.admin).await;
    let [mut signed_in, mut under_way, mut gone] = [(); 3].map(|()| Browser::at(process.admin));
    signed_in.sign_in().await;
    gone.sign_in().await;
    let stolen = gone.clone();
    gone.post("/sign-out").await;
    let back = under_way.begin().await;
    process.upgrade_as(TOKEN).await;
    ready(process.admin).await;
    assert_eq!(signed_in.who().await["name"], "Ada Lovelace");
    assert_eq!(signed_in.post("/api/drain?backend=a").await.status, 200, "the CSRF token is valid, too");
    assert_eq!(under_way.get(&back).await.status, 303);
    assert_eq!(under_way.who().await["name"], "Ada Lovelace");
    assert_eq!(stolen.clone().get("/api/status").await.status, 401);
    assert_eq!(under_way.get(&back).await.status, 400, "the login is finished here, too");
}

#[tokio::test]
async fn a_public_client_and_one_with_a_header_sign_in_too() {
    let issuer = SignInIssuer::start().await;
    issuer.public_client();
    let public =
        Scene::with(issuer, |issuer| rules(issuer).lines().filter(|line| !line.contains("secret")).collect::<Vec<_>>().join("\n") + "\n")
            .await;
    assert_eq!(public.browser().sign_in().await.status, 303);

    let issuer = SignInIssuer::start().await;
    issuer.methods(&["client_secret_basic"]);
    let basic = Scene::with(issuer, rules).await;
    assert_eq!(basic.browser().sign_in().await.status, 303);
    let exchange = basic.issuer.server.received().into_iter().find(|request| request.path() == "/token").unwrap();
    assert!(
        exchange.header("authorization").unwrap().starts_with("Basic ")
            && !String::from_utf8_lossy(&exchange.body).contains("client_secret")
    );
}
