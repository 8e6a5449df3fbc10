//! Whatever may have cost is booked: as reported, else at the bound that was reserved; limits and ledger agree.

use serde_json::json;
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, post};

use crate::support::*;

/// A chat whose completion has 100 tokens at most.
fn body() -> serde_json::Value {
    json!({ "model": "m", "max_tokens": 100, "messages": [{ "role": "user", "content": "hi" }] })
}

/// What is reserved for it.
fn bound() -> u64 {
    (body().to_string().len() as u64).div_ceil(4) + 100
}

async fn used(gateway: &Gateway) -> u64 {
    gateway.admin("/api/limits").await.json()["scopes"][0]["limits"]["tokens_per_minute"]["used"].as_u64().unwrap()
}

fn limited(tokens: u64) -> String {
    consumer("crm", &format!("[consumers.limits]\ntokens_per_minute = {tokens}\n"))
}

#[tokio::test]
async fn hanging_up_before_the_head_passes_no_limit() {
    let backend = ScriptedBackend::start(|_| Reply::raw([Step::Hang])).await;
    let folder = tempfile::tempdir().unwrap();
    let text = config(&[member("a", &backend, 1)], "", &limited(4 * bound())).replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    for sent in 1..=4 {
        let mut caller = Connection::open(gateway.address).await.unwrap();
        caller.send(post("/v1/chat/completions", &[("api-key", "crm")], body().to_string().as_bytes())).await.unwrap();
        eventually("it is sent", async || backend.count() == sent).await;
        drop(caller);
        ledger_of(folder.path(), sent).await;
    }
    for _ in 0..8 {
        assert_eq!(ask_as(gateway.address, "crm", &body()).await.status, 429);
    }
    assert_eq!((backend.count(), used(&gateway).await), (4, 4 * bound()));
    for row in ledger_rows(folder.path()) {
        let tokens = row["input_tokens"].as_u64().unwrap() + row["output_tokens"].as_u64().unwrap();
        assert_eq!((&row["source"], &row["outcome"], tokens), (&json!("estimated"), &json!("cancelled"), bound()), "{row:#}");
    }
}

#[tokio::test]
async fn each_of_several_attempts_counts_if_it_may_have_cost() {
    let slow = ScriptedBackend::start(|_| Reply::raw([Step::Hang])).await;
    let resets = ScriptedBackend::start(|_| Reply::raw([Step::Reset])).await;
    let refuses = ScriptedBackend::start(|_| Reply::json(503, "{}")).await;
    let folder = tempfile::tempdir().unwrap();
    let members = [member("slow", &slow, 1), member("resets", &resets, 2), member("refuses", &refuses, 3)];
    let text = config(&members, "[pools.timeouts]\nanswer = \"200ms\"\n", &limited(10_000)).replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    assert!(ask_as(gateway.address, "crm", &body()).await.status >= 502);
    assert_eq!((slow.count(), resets.count(), refuses.count()), (1, 1, 2), "the last one failed fast: once more");
    let rows = ledger_of(folder.path(), 2).await;
    assert!(rows.iter().all(|row| row["source"] == "estimated" && row["output_tokens"] == 100 && row["answered"] == false), "{rows:#?}");
    assert_eq!(used(&gateway).await, 2 * bound());
}

#[tokio::test]
async fn the_larger_of_two_caps_is_reserved() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &limited(900))).await;
    let both = json!({ "model": "m", "max_output_tokens": 1, "max_tokens": 900, "input": "hi" });
    let got =
        spillway_testkit::client::ask(gateway.address, post("/v1/responses", &[("api-key", "crm")], both.to_string().as_bytes())).await;
    assert_eq!((got.unwrap().status, backend.count()), (429, 0));
}

#[test]
fn a_budget_needs_prices() {
    let text = |rest: &str| {
        format!(
            "[server]\nlisten = [\"127.0.0.1:0\"]\n[[backends]]\nname = \"a\"\nkind = \"openai\"\nurl = \"http://127.0.0.1:9\"\n\
             [[pools]]\nname = \"p\"\nmodels = [\"m\"]\nmembers = [{{ backend = \"a\" }}]\n\
             [[consumers]]\nname = \"crm\"\nlimits = {{ budget = {{ usd = 1.0, period = \"day\" }} }}\n{rest}"
        )
    };
    let check = |rest: &str| {
        spillway::config::Config::parse(&text(rest), std::path::Path::new("t"), &spillway::config::Secrets::default())
            .map_err(|error| error.to_string())
    };
    let error = check("").unwrap_err();
    for part in ["pools[0].members[0].backend", "no price is known for 'm' at 'a'", "consumer 'crm'", "prices.unknown"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(check("[prices]\nunknown = \"free\"\n").is_ok());
    assert!(check("models = []\n").is_ok(), "it may not use it");
}

#[tokio::test]
async fn a_compressed_answer_after_attempts_that_broke_is_booked_as_reported() {
    let resets = ScriptedBackend::start(|_| Reply::raw([Step::Reset])).await;
    let cuts = ScriptedBackend::start(|_| Reply::sse([""; 0]).then(Step::Reset)).await;
    let packs = ScriptedBackend::start(|_| {
        let usage = json!({ "input_tokens": 14_996, "output_tokens": 19_366, "total_tokens": 34_362 });
        let done = json!({ "type": "response.completed", "response": { "id": "resp_1", "status": "completed", "usage": usage } });
        let text = format!("event: response.completed\ndata: {done}\n\n");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, text.as_bytes()).unwrap();
        Reply::sse([packed.finish().unwrap()]).header("content-encoding", "gzip")
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let members = [member("resets", &resets, 1), member("cuts", &cuts, 2), member("packs", &packs, 3)];
    let text = config(&members, "", &limited(1_000_000)).replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    for options in [json!(null), json!(7)] {
        let body = json!({ "model": "m", "input": "hi", "stream": true, "stream_options": options });
        let request = post("//openai/v1/responses", &[("api-key", "crm")], body.to_string().as_bytes());
        let got = spillway_testkit::client::ask(gateway.address, request).await.unwrap();
        assert_eq!(got.status, 200, "{}", got.text());
    }
    gateway.running.gateway.flush(std::time::Duration::from_secs(5)).await;
    let rows = ledger_rows(folder.path());
    let reported: Vec<_> = rows.iter().filter(|row| row["source"] == "reported").map(|row| row["output_tokens"].as_u64()).collect();
    assert_eq!(reported, [Some(19_366), Some(19_366)], "{rows:#?}");
}
