//! What a Foundry project asks of a gateway through a connection with the values of `docs/foundry.md`.

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{Response, ask, post};

use crate::support::*;

/// The parameters of the connection, as the page has them.
fn connection() -> Value {
    let page = include_str!("../../../docs/foundry.md");
    let block = page.split("```json\n").nth(1).unwrap().split("```").next().unwrap();
    serde_json::from_str::<Value>(block).unwrap()["parameters"].clone()
}

fn value<'p>(parameters: &'p Value, name: &str) -> &'p str {
    parameters[name]["value"].as_str().unwrap_or_else(|| panic!("the page has no {name}"))
}

/// The path of the target.
fn root(target: &str) -> &str {
    target.strip_prefix("https://gateway.contoso.example").unwrap()
}

const CONSUMER: &str = "[[consumers]]\nname = \"foundry\"\nmodels = [\"gpt-4o\"]\n\
     keys = [{ sha256 = \"2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683\" }]\n\n[plugins.auth]\nrequired = true\n";

async fn get(gateway: &Gateway, path: &str, key: &str) -> Response {
    ask(gateway.address, format!("GET {path} HTTP/1.1\r\nhost: gateway\r\napi-key: {key}\r\nconnection: close\r\n\r\n")).await.unwrap()
}

async fn started() -> (ScriptedBackend, Gateway) {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", CONSUMER)).await;
    (backend, gateway)
}

#[tokio::test]
async fn the_connection_of_the_page_finds_models_and_gets_answers() {
    let (backend, gateway) = started().await;
    let connection = connection();
    assert_eq!((value(&connection, "authType"), value(&connection, "deploymentProvider")), ("ApiKey", "OpenAI"));
    let target = root(value(&connection, "targetUrl"));
    // With and without the API version that a connection may have for discovery.
    for query in ["", "?api-version=2024-10-21"] {
        let list = get(&gateway, &format!("{target}{}{query}", value(&connection, "listModelsEndpoint")), "key").await;
        assert_eq!(list.status, 200, "{}", list.text());
        let models: Vec<Value> = list.json()["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect();
        assert_eq!(models, ["gpt-4o"], "only those that this key may use");
        let one = value(&connection, "getModelEndpoint").replace("{deploymentName}", "gpt-4o");
        let one = get(&gateway, &format!("{target}{one}{query}"), "key").await;
        assert!(one.status == 200 && one.json()["id"] == "gpt-4o" && one.json()["object"] == "model", "{}", one.text());
    }
    let list = format!("{target}{}", value(&connection, "listModelsEndpoint"));
    assert_eq!(get(&gateway, &list, "another key").await.status, 401);
    assert_eq!(value(&connection, "deploymentInPath"), "false");
    let version = value(&connection, "inferenceAPIVersion");
    assert_eq!(version, "");
    let body = json!({ "model": "gpt-4o", "messages": [{ "role": "user", "content": "hi" }], "tools": [] }).to_string();
    for query in ["", "?api-version=2024-10-21"] {
        let request = post(&format!("{target}/chat/completions{query}"), &[("api-key", "key")], body.as_bytes());
        let answered = ask(gateway.address, request).await.unwrap();
        assert_eq!(answered.status, 200, "{}", answered.text());
    }
    assert_eq!(backend.count(), 2);
}

#[tokio::test]
async fn the_dated_form_of_a_connection_works_without_a_model_in_the_body() {
    let (backend, gateway) = started().await;
    let body = json!({ "messages": [{ "role": "user", "content": "hi" }] }).to_string();
    let path = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21";
    let answered = ask(gateway.address, post(path, &[("api-key", "key")], body.as_bytes())).await.unwrap();
    assert_eq!((answered.status, backend.count()), (200, 1), "{}", answered.text());
    assert_eq!(get(&gateway, "/openai/models?api-version=2024-10-21", "key").await.json()["data"][0]["id"], "gpt-4o");
    // What the page says that the gateway doesn't have.
    assert_eq!(get(&gateway, "/openai/deployments?api-version=2024-10-21", "key").await.status, 404);
    assert_eq!(get(&gateway, "/v1/deployments/gpt-4o", "key").await.status, 404);
}
