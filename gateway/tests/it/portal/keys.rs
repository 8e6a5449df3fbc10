//! Owners make, rotate and revoke keys, within what the config allows.

use serde_json::{Value, json};
use spillway_testkit::client;

use super::scene::*;
use crate::sign_in::browser::URL;

#[tokio::test]
async fn one_who_sends_no_bodies_keeps_nobody_else_out() {
    let portal = Portal::start().await;
    let (mut eve, mut ada) = (portal.member("eve", &[]).await, portal.member("ada", &[]).await);
    let csrf = eve.browser.who().await["csrf"].as_str().unwrap().to_owned();
    let headers = [("origin", URL), ("x-spillway-admin", "1"), ("x-spillway-csrf", csrf.as_str())];
    let request = eve.browser.request("POST", "/api/me/keys", &headers).replace("content-length: 0", "content-length: 10");
    let mut open = Vec::new();
    for _ in 0..80 {
        let mut connection = client::Connection::open(portal.gateway.running.admin).await.unwrap();
        connection.send(&request).await.unwrap();
        open.push(connection);
    }
    // Those that find no place are answered at once.
    assert_eq!(open.last_mut().unwrap().answer().await.unwrap().status, 429);
    assert!(ada.me().await["consumers"].is_array());
}

#[tokio::test]
async fn an_owner_makes_rotates_and_revokes_a_key() {
    let portal = Portal::start().await;
    let mut kim = portal.member("kim", &["crm-team"]).await;
    let made = kim.make(json!({ "consumer": "crm", "label": "CI", "expires": "7d", "models": ["m"] })).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let (id, key) = (made.json()["id"].as_str().unwrap().to_owned(), made.json()["key"].as_str().unwrap().to_owned());
    assert_eq!((portal.call(&key).await, portal.call_model(&key, "gpt-4o").await), (200, 403), "the key is for one model only");
    let shown = kim.consumer("crm").await["keys"][0].clone();
    assert_eq!(
        (&shown["id"], &shown["label"], &shown["models"], &shown["owner"]),
        (&json!(id), &json!("CI"), &json!(["m"]), &json!(format!("kim at {}", portal.issuer.server.url())))
    );
    assert!(shown["last_use"].is_i64() && shown["source"] == "issued", "{shown}");

    let path = format!("/api/me/keys/{id}/rotate");
    let rotated = kim.change("POST", &path, Some(json!({ "grace": "1d" }))).await;
    assert_eq!(rotated.status, 201, "{}", rotated.text());
    let (second, new) = (rotated.json()["id"].as_str().unwrap().to_owned(), rotated.json()["key"].as_str().unwrap().to_owned());
    assert_eq!((portal.call(&key).await, portal.call(&new).await), (200, 200), "both, for a day");
    assert_eq!(kim.change("POST", &path, None).await.status, 409, "it was replaced already");

    let revoked = kim.change("DELETE", &format!("/api/me/keys/{second}"), None).await;
    assert_eq!(revoked.status, 200, "{}", revoked.text());
    assert_eq!((portal.call(&key).await, portal.call(&new).await), (200, 401), "at once, and only that one");
    assert_eq!(portal.backend.count(), 4, "what is refused reaches no backend");
    let acts: Vec<(Value, Value, Value)> =
        portal.audit().into_iter().map(|act| (act["what"].clone(), act["object"].clone(), act["who"].clone())).collect();
    let kim = json!("kim (Name of kim)");
    assert_eq!(
        acts,
        [
            (json!("key.issue"), json!(id), kim.clone()),
            (json!("key.rotate"), json!(id), kim.clone()),
            (json!("key.revoke"), json!(second), kim)
        ]
    );
}

#[tokio::test]
async fn who_owns_and_made_a_key_is_shown_to_administrators_only() {
    let portal = Portal::start().await;
    let mut kim = portal.member("kim", &["crm-team"]).await;
    let (id, _) = kim.key("crm").await;
    let mut vera = portal.member("vera", &["viewers"]).await;
    let shown = vera.browser.get("/api/keys").await.json();
    let key = shown["keys"].as_array().unwrap().iter().find(|key| key["id"] == id.as_str()).unwrap();
    assert_eq!((key["consumer"].as_str(), &key["owner"], &key["by"]), (Some("crm"), &Value::Null, &Value::Null));
    let bearer = format!("Bearer {}", crate::sign_in::browser::TOKEN);
    let whole = vera.browser.send("GET", "/api/keys", &[("authorization", &bearer)]).await.json();
    let key = whole["keys"].as_array().unwrap().iter().find(|key| key["id"] == id.as_str()).unwrap();
    assert_eq!(key["by"], "kim (Name of kim)");
}

#[tokio::test]
async fn what_belongs_to_others_does_not_exist() {
    let portal = Portal::start().await;
    let (mut kim, mut olu) = (portal.member("kim", &["crm-team"]).await, portal.member("olu", &["ops-team"]).await);
    let (id, key) = kim.key("crm").await;
    let of_others = olu.make(json!({ "consumer": "crm" })).await;
    let of_nobody = olu.make(json!({ "consumer": "no-such-consumer" })).await;
    assert_eq!((of_others.status, of_others.text()), (404, of_nobody.text()), "nothing tells them apart");
    assert_eq!(of_others.json()["error"]["field"], "consumer");
    for (method, path) in [("DELETE", format!("/api/me/keys/{id}")), ("POST", format!("/api/me/keys/{id}/rotate"))] {
        let of_others = olu.change(method, &path, None).await;
        let of_nobody = olu.change(method, &path.replace(&id, "key-0000000000000000"), None).await;
        assert_eq!((of_others.status, of_others.text()), (404, of_nobody.text()), "{method}");
    }
    assert_eq!(portal.call(&key).await, 200);
    assert_eq!(portal.audit().len(), 1, "what is not done is no act");
    // An administrator's own page is no way around it.
    portal.issuer.claims(json!({ "roles": ["Gateway.Admin"] }));
    let mut admin = portal.member("root", &[]).await;
    assert_eq!(admin.make(json!({ "consumer": "crm" })).await.status, 404);
}

#[tokio::test]
async fn more_keys_or_longer_lives_than_allowed_are_refused() {
    let portal = Portal::start().await;
    let mut kim = portal.member("kim", &["crm-team"]).await;
    for (body, status, field, text) in [
        (json!({ "consumer": "crm", "expires": "31d" }), 422, "expires", "at most 30 days"),
        (json!({ "consumer": "crm", "expires": "2999-01-01" }), 422, "expires", "at most 30 days"),
        (json!({ "consumer": "crm", "expires": "2001-01-01" }), 422, "expires", "never be valid"),
        (json!({ "consumer": "crm", "expires": "soon" }), 400, "expires", "must be a duration"),
        (json!({ "consumer": "crm", "models": ["gpt-9"] }), 422, "models", "no model 'gpt-9'"),
        (json!({ "consumer": "crm", "models": [] }), 422, "models", "1 to"),
        (json!({ "consumer": "crm", "label": "a\nb" }), 422, "label", "control characters"),
        (json!({ "consumer": "crm", "owner": "somebody-else" }), 400, "owner", "is you"),
    ] {
        let refused = kim.make(body.clone()).await;
        assert_eq!((refused.status, &refused.json()["error"]["field"]), (status, &json!(field)), "{body}: {}", refused.text());
        assert!(refused.text().contains(text), "{text} in {}", refused.text());
    }
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(kim.key("crm").await.0);
    }
    let refused = kim.make(json!({ "consumer": "crm" })).await;
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("has 3 valid keys"), "{}", refused.text());
    let long = kim.change("POST", &format!("/api/me/keys/{}/rotate", ids[0]), Some(json!({ "grace": "30d" }))).await;
    assert_eq!((long.status, &long.json()["error"]["field"]), (422, &json!("grace")));
    kim.change("DELETE", &format!("/api/me/keys/{}", ids[0]), None).await;
    assert_eq!(kim.make(json!({ "consumer": "crm" })).await.status, 201, "a revoked key makes room");
    // One that an administrator made for a longer time is not renewed here.
    let new = spillway::issued_keys::NewKey { consumer: "crm".into(), ..Default::default() };
    let long = portal.gateway.running.gateway.keys.issue(new, "root").await.unwrap();
    let refused = kim.change("POST", &format!("/api/me/keys/{}/rotate", long.id), None).await;
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("an administrator made this key"), "{}", refused.text());
    let full = kim.make(json!({ "consumer": "crm" })).await;
    assert!(full.status == 409 && full.text().contains("has 4 valid keys, those that administrators made included"), "{}", full.text());
    assert!(full.text().contains("fewer than 3") && full.text().contains("revoke 2 first"), "{}", full.text());
}

#[tokio::test]
async fn the_number_holds_when_many_ask_at_once() {
    let portal = Portal::start().await;
    let kim = portal.member("kim", &["crm-team"]).await;
    let asking = (0..8).map(|_| {
        let mut kim = kim.clone();
        tokio::spawn(async move { kim.make(json!({ "consumer": "crm" })).await.status })
    });
    let mut statuses = Vec::new();
    for answer in asking.collect::<Vec<_>>() {
        statuses.push(answer.await.unwrap());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [[201; 3].as_slice(), [409; 5].as_slice()].concat());
}

#[tokio::test]
async fn a_consumer_that_takes_only_tokens_gets_no_keys() {
    let portal = Portal::start().await;
    let mut ann = portal.member("ann", &["robot-team"]).await;
    let refused = ann.make(json!({ "consumer": "robots" })).await;
    assert_eq!(refused.status, 409);
    assert!(refused.text().contains("accepts only tokens"), "{}", refused.text());
    let robots = ann.consumer("robots").await;
    assert_eq!((&robots["making"]["possible"], &robots["models"]), (&json!(false), &json!([])));
}

#[tokio::test]
async fn a_change_needs_the_sessions_csrf_token_and_a_body_that_can_be_read() {
    let portal = Portal::start().await;
    let mut kim = portal.member("kim", &["crm-team"]).await;
    let body = || Some(json!({ "consumer": "crm" }));
    let csrf = kim.browser.who().await["csrf"].as_str().unwrap().to_owned();
    for (headers, status) in [
        (vec![], 403),
        (vec![("x-spillway-csrf", "guess")], 403),
        (vec![("x-spillway-csrf", csrf.as_str()), ("origin", "https://evil.example"), ("x-spillway-admin", "1")], 403),
        (vec![("x-spillway-csrf", csrf.as_str()), ("sec-fetch-site", "cross-site")], 403),
        (vec![("x-spillway-csrf", csrf.as_str())], 201),
    ] {
        assert_eq!(kim.send("POST", "/api/me/keys", &headers, body()).await.status, status, "{headers:?}");
    }
    for (body, status, text) in [
        (json!({ "consumer": "crm", "role": "administrator" }), 400, "unknown field 'role'"),
        (json!({ "label": "x" }), 400, "'consumer' is missing"),
        (json!({ "consumer": "crm", "label": "x".repeat(70_000) }), 413, "64 KiB"),
    ] {
        let refused = kim.make(body).await;
        assert_eq!(refused.status, status, "{}", refused.text());
        assert!(refused.text().contains(text), "{}", refused.text());
    }
    let mut gone = kim.clone();
    kim.browser.post("/sign-out").await;
    assert_eq!(gone.send("POST", "/api/me/keys", &[("x-spillway-csrf", &csrf)], body()).await.status, 401);
}
