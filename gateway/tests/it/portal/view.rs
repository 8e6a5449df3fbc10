//! What people see of their consumers, and that they see nothing of others.

use serde_json::{Value, json};

use super::scene::*;
use crate::sign_in::browser::TOKEN;
use crate::support::*;

/// The limits of a consumer, by what they are of and their kind.
fn limit<'v>(consumer: &'v Value, of: &str, kind: &str) -> &'v Value {
    let limits = consumer["limits"].as_array().unwrap();
    limits.iter().find(|limit| limit["of"] == of && limit["kind"] == kind).unwrap_or_else(|| panic!("no {of} {kind} in {consumer}"))
}

#[tokio::test]
async fn an_owner_sees_what_is_left_used_and_allowed() {
    let portal = Portal::start().await;
    let mut kim = portal.member("kim", &["crm-team"]).await;
    let (_, key) = kim.key("crm").await;
    assert_eq!((portal.call(&key).await, portal.call(&key).await), (200, 200));
    let bearer = [("authorization", format!("Bearer {TOKEN}"))];
    eventually("the ledger has both", async || {
        let request = format!(
            "GET /api/usage?by=consumer HTTP/1.1\r\nhost: localhost\r\n{}: {}\r\nconnection: close\r\n\r\n",
            bearer[0].0, bearer[0].1
        );
        let rows = spillway_testkit::client::ask(portal.gateway.running.admin, request).await.unwrap().json();
        rows["rows"][0]["requests"] == 2
    })
    .await;
    let me = kim.me().await;
    assert_eq!((&me["person"]["subject"], &me["person"]["role"]), (&json!("kim"), &json!("member")));
    assert_eq!((&me["gateway_url"], &me["sees_status"]), (&json!("https://api.example.com"), &json!(false)));
    assert_eq!(me["all_nodes"], json!(false), "its sums are shipped nowhere");
    let crm = &me["consumers"][0];
    assert_eq!(
        (&crm["name"], &crm["group"], &crm["models"]),
        (&json!("crm"), &json!("sales"), &json!(["m", "gpt-4o", "text-embedding-3-small"]))
    );
    let minute = limit(crm, "consumer", "requests_per_minute");
    assert_eq!((&minute["limit"], &minute["left"], &minute["period"]), (&json!(60), &json!(58), &Value::Null));
    let month = limit(crm, "consumer", "token_quota");
    assert_eq!((&month["left"], &month["period"]), (&json!(100_000 - 24), &json!("month")));
    assert!(month["resets_at"].as_i64().unwrap() > me["now"].as_i64().unwrap());
    assert_eq!(limit(crm, "model", "tokens_per_minute")["name"], "m");
    let usage = &crm["usage"];
    for span in ["today", "month"] {
        assert_eq!(
            (&usage[span]["requests"], &usage[span]["input_tokens"], &usage[span]["output_tokens"]),
            (&json!(2), &json!(20), &json!(4))
        );
    }
    assert_eq!((usage["days"].as_array().unwrap().len(), &usage["days"][0]["model"]), (1, &json!("m")));
    assert_eq!(crm["making"], json!({ "possible": true, "why": null, "max": 3, "valid": 1, "max_lifetime_s": 30 * 86_400 }));
}

#[tokio::test]
async fn nothing_of_another_consumer_is_shown() {
    let portal = Portal::start().await;
    let (mut kim, mut lea) = (portal.member("kim", &["crm-team"]).await, portal.member("lea", &["sales-leads"]).await);
    let mut olu = portal.member("olu", &["ops-team"]).await;
    let (id, key) = olu.key("ops").await;
    let (_, of_leads) = lea.key("leads").await;
    assert_eq!((portal.call(&key).await, portal.call(&of_leads).await), (200, 200));
    let text = kim.me().await.to_string();
    for of_others in ["ops", "leads\"", "robots", "olu", &id, "sales-leads"] {
        assert!(!text.contains(of_others), "{of_others} in {text}");
    }
    let crm = kim.consumer("crm").await;
    let group = limit(&crm, "group", "requests_per_minute");
    assert_eq!((&group["limit"], &group["left"], &group["resets_at"]), (&json!(1000), &Value::Null, &Value::Null), "others use it, too");
    // Who owns the group may know.
    let names: Vec<Value> = lea.me().await["consumers"].as_array().unwrap().iter().map(|consumer| consumer["name"].clone()).collect();
    assert_eq!(names, ["crm", "leads"]);
    assert_eq!(limit(&lea.consumer("crm").await, "group", "requests_per_minute")["left"], 999);
}

#[tokio::test]
async fn owners_are_known_by_subject_group_role_and_verified_address() {
    let portal = Portal::with(|text| text.replace("\"crm-team\"", "\"crm-team\", \"subject-7\", \"Crm.Owner\"")).await;
    let sees_crm = async |claims: Value| {
        portal.issuer.claims(json!({ "email": null, "email_verified": null, "preferred_username": null, "upn": null }));
        portal.issuer.claims(claims.clone());
        let mut browser = crate::sign_in::browser::Browser::at(portal.gateway.running.admin);
        assert_eq!(browser.sign_in().await.status, 303);
        let me = browser.get("/api/me").await.json();
        me["consumers"].as_array().unwrap().iter().any(|consumer| consumer["name"] == "crm")
    };
    let members = json!(["members"]);
    for (claims, is_owner) in [
        (json!({ "sub": "subject-7", "groups": members }), true),
        (json!({ "sub": "x", "groups": ["members", "crm-team"] }), true),
        (json!({ "sub": "x", "groups": members, "roles": ["Crm.Owner"] }), true),
        (json!({ "sub": "x", "groups": members, "roles": null, "email": "Kim@example.com", "email_verified": true }), true),
        (json!({ "sub": "x", "groups": members, "email": "kim@example.com", "email_verified": false }), false),
        (json!({ "sub": "x", "groups": members, "preferred_username": "kim@example.com" }), false),
        (json!({ "sub": "x", "groups": members, "name": "crm-team" }), false),
        (json!({ "sub": "SUBJECT-7", "groups": members }), false),
    ] {
        assert_eq!(sees_crm(claims.clone()).await, is_owner, "{claims}");
    }
}

#[tokio::test]
async fn somebody_who_owns_nothing_hears_whom_to_ask() {
    let portal = Portal::start().await;
    let mut eve = portal.member("eve", &[]).await;
    let me = eve.me().await;
    assert_eq!((&me["count"], &me["contact"]), (&json!(0), &json!("the platform team (ai@example.com)")));
}

#[tokio::test]
async fn the_admin_token_owns_nothing_and_without_sign_in_there_is_no_page() {
    let portal = Portal::start().await;
    let with_token = format!("GET /api/me HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n\r\n");
    let refused = spillway_testkit::client::ask(portal.gateway.running.admin, with_token).await.unwrap();
    assert_eq!(refused.status, 403);
    let backend = backend().await;
    let plain = Gateway::start(&config(&[member("a", &backend, 1)], "", "")).await;
    assert_eq!((plain.admin("/me").await.status, plain.admin("/api/me").await.status), (404, 403));
}
