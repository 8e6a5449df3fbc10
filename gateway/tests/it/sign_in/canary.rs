//! Nothing secret of a sign-in is ever shown.

use std::path::Path;

use serde_json::json;
use spillway::config::{Config, Secrets};
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::sign_in::{CODE, SECRET, SignInIssuer};

use super::browser::*;
use crate::support::*;

/// Everything at its most talkative, crates below us included.
const LEVEL: &str = "trace,pingora_core=trace,hyper=trace,hyper_util=trace,rustls=trace,reqwest=trace";

#[tokio::test]
async fn no_secret_of_a_sign_in_is_shown() {
    let issuer = SignInIssuer::start().await;
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let text = text(&backend, &rules(&issuer)).replace("[log]", &format!("[log]\nlevel = \"{LEVEL}\""));
    let process = Process::launch(&text, &[]).await;
    ready(process.admin).await;
    let (mut browser, mut shown) = (Browser::at(process.admin), Vec::new());
    let mut secrets = vec!["CANARY".to_owned()];
    // One that succeeds, one without a role, one whose code is refused, one whose endpoint repeats what it got.
    for (number, claims) in [json!({}), json!({ "roles": [] }), json!({ "roles": ["Gateway.Admin"] })].into_iter().enumerate() {
        issuer.claims(claims);
        let begun = browser.get("/sign-in").await;
        let location = begun.header("location").unwrap().to_owned();
        for name in ["state", "nonce"] {
            secrets.push(
                location.split(&format!("&{name}=")).nth(1).unwrap().split('&').next().unwrap().replace("%2D", "-").replace("%5F", "_"),
            );
        }
        secrets.push(browser.jar["__Host-spillway-sign-in"].clone());
        let mut back = at_issuer(&location).await;
        if number == 2 {
            back = back.replace(CODE, "CANARY-made-up");
        }
        let mut replay = browser.clone();
        let answer = browser.get(&back).await;
        shown.push(("the answer", answer.text()));
        shown.push(("a replay", replay.get(&back).await.text()));
        secrets.extend(browser.session().cloned());
    }
    assert!(browser.who().await["actor"].is_string(), "somebody is signed in");
    for path in ["/metrics", "/api/status", "/api/config", "/api/keys", "/api/requests", "/api/limits", "/nothing", "/"] {
        shown.push((path, browser.get(path).await.text()));
    }
    let csrf = browser.who().await["csrf"].as_str().unwrap().to_owned();
    secrets.push(csrf);
    browser.post("/sign-out").await;
    let exchanged: Vec<String> = issuer
        .server
        .received()
        .iter()
        .filter(|request| request.path() == "/token")
        .map(|request| String::from_utf8_lossy(&request.body).into_owned())
        .collect();
    for body in &exchanged {
        secrets.push(body.split("code_verifier=").nth(1).unwrap().split('&').next().unwrap().replace("%2D", "-").replace("%5F", "_"));
    }
    // It all arrived where it should, so silence means something.
    assert!(
        exchanged.len() == 3 && exchanged[0].contains("CANARY%2Dclient%26secret") && exchanged[0].contains("CANARY%2Dcode%2D1"),
        "{exchanged:?}"
    );
    shown.push(("the log", process.log()));
    assert!(process.log().contains("DEBUG") && process.log().contains("ada-subject"), "the log is talkative");
    let config = Config::parse(&text, Path::new("t.toml"), &Secrets::default()).unwrap();
    shown.push(("the config's Debug", format!("{config:?}")));
    assert!(secrets.len() > 10 && SECRET.contains("CANARY"));
    for (place, text) in &shown {
        for secret in &secrets {
            assert!(!text.contains(secret.as_str()), "{secret} in {place}");
        }
    }
}
