//! Configs that were made of another gateway's: they pass the check, and behave as the source would.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{ask, post};

use crate::support::*;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/import/fixtures")
}

/// What `spillway import` prints, and what it says.
fn import(kind: &str, files: &[PathBuf]) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_spillway")).args(["import", kind]).args(files).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    (String::from_utf8(output.stdout).unwrap(), said)
}

#[test]
fn every_output_passes_the_check() {
    let folder = tempfile::tempdir().unwrap();
    for (kind, files) in [
        ("apim", vec!["listing.json"]),
        ("apim", vec!["listing.json", "policy.xml"]),
        ("apim", vec!["template.json", "policy.xml"]),
        ("apim", vec!["bare.json"]),
        ("apim-policy", vec!["policy.xml"]),
        ("aca-lb", vec!["aca.env"]),
        ("aca-lb", vec!["aca.json"]),
        ("litellm", vec!["litellm.yaml"]),
    ] {
        let paths: Vec<PathBuf> = files.iter().map(|file| fixtures().join(file)).collect();
        let (text, said) = import(kind, &paths);
        assert!(said.contains("findings"), "{said}");
        let file = folder.path().join("imported.toml");
        std::fs::write(&file, &text).unwrap();
        let mut check = Command::new(env!("CARGO_BIN_EXE_spillway"));
        check.args(["check", "-c"]).arg(&file);
        // The head of the file says which variables it needs.
        check.envs(text.split("{ env = \"").skip(1).filter_map(|rest| Some((rest.split('"').next()?, "x"))));
        let output = check.output().unwrap();
        assert!(output.status.success(), "{kind} {files:?}: {}\n{text}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn what_cannot_be_read_says_where_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("loop.json");
    let looped = json!({ "resources": [{
        "type": "Microsoft.ApiManagement/service/backends", "name": "[format('{0}/b{1}', 'apim', copyIndex())]",
        "copy": { "name": "backends", "count": 3 }, "properties": { "url": "https://x.openai.azure.com", "protocol": "http" },
    }] });
    std::fs::write(&file, looped.to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_spillway")).args(["import", "apim"]).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("loop.json") && said.contains("copy"), "{said}");
}

/// API Management: a pool of a PTU and a pay-as-you-go backend, a breaker that opens on the first 429, texts for
/// numbers, nulls for what is not set, and both forms of ids.
#[tokio::test]
async fn an_imported_pool_spills_over_and_trips_as_the_source_would() {
    let ptu = ScriptedBackend::start(|_| Reply::json(500, "{}")).await;
    let payg = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let backend = |name: &str, of: &ScriptedBackend| {
        json!({
            "type": "Microsoft.ApiManagement/service/backends", "name": format!("apim/{name}"),
            "properties": {
                "url": format!("{}/openai/deployments/gpt-4o", of.url()), "protocol": "http", "title": null, "proxy": null,
                "credentials": { "header": { "api-key": ["{{key}}"] } },
                "circuitBreaker": { "rules": [{
                    "name": "r", "acceptRetryAfter": false, "tripDuration": "PT1H",
                    "failureCondition": { "count": "2", "interval": "PT1M", "statusCodeRanges": [{ "min": "500", "max": 599 }], "errorReasons": null },
                }] },
            },
        })
    };
    let template = json!({
        "parameters": { "apim": { "type": "string", "defaultValue": "apim" } },
        "resources": [
            backend("ptu", &ptu),
            backend("payg", &payg),
            {
                "type": "Microsoft.ApiManagement/service/backends", "name": "[concat(parameters('apim'), '/chat')]",
                "properties": { "type": "Pool", "circuitBreaker": null, "pool": { "services": [
                    { "id": "[resourceId('Microsoft.ApiManagement/service/backends', parameters('apim'), 'ptu')]", "priority": "1", "weight": null },
                    { "id": "/subscriptions/0/resourceGroups/r/providers/Microsoft.ApiManagement/service/apim/backends/payg", "priority": 2 },
                ] } },
            },
        ],
    });
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("template.json");
    std::fs::write(&file, template.to_string()).unwrap();
    let (text, _) = import("apim", &[file]);
    let table: toml::Table = text.parse().unwrap();
    let member = |at: usize| table["pools"][0]["members"][at].clone();
    assert_eq!((member(0)["backend"].as_str(), member(0)["priority"].as_integer()), (Some("ptu"), Some(1)), "{text}");
    assert_eq!((member(1)["backend"].as_str(), member(1)["priority"].as_integer()), (Some("payg"), Some(2)), "{text}");
    let mut table = table;
    let server: toml::Table = "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n[log]\naccess = \"off\"\n".parse().unwrap();
    table.extend(server);
    let process = Process::launch(&table.to_string(), &[("KEY", Path::new("secret"))]).await;
    let chat = async || {
        let body = json!({ "model": "gpt-4o", "messages": [{ "role": "user", "content": "hi" }] });
        ask(process.address, post("/v1/chat/completions", &[], body.to_string().as_bytes())).await.unwrap()
    };
    for _ in 0..5 {
        let answer = chat().await;
        assert_eq!((answer.status, answer.header("x-spillway-backend")), (200, Some("payg")), "{}", answer.text());
    }
    assert_eq!(ptu.count(), 2, "the second failure within a minute opens the breaker");
    assert_eq!(ptu.received()[0].header("api-key"), Some("secret"));
    assert_eq!(process.state("ptu").await, "tripped");
}
