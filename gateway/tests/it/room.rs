//! What the guard, the last resort and the cache hold of bodies and answers is inside the room for bodies.

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{Connection, ask, post};
use spillway_testkit::safety::{ContentSafety, KEY};

use crate::support::*;

const MIB: usize = 1 << 20;

/// A request whose tree would take fifty times its length.
fn lists(model: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}],"x":[{}[]]}}"#, "[],".repeat(MIB / 3))
}

fn server(room: usize, body: usize) -> String {
    format!("max_buffered = \"{room}B\"\nmax_body = \"{body}B\"")
}

fn guard(service: &ContentSafety) -> String {
    format!(
        "[plugins.guard]\nanswers = true\n[plugins.guard.content_safety]\nurl = \"{}/\"\nauth = {{ type = \"api-key\", key = \"{KEY}\" }}\ntimeout = \"1m\"\n",
        service.backend.url()
    )
}

#[tokio::test]
async fn while_a_service_is_asked_the_texts_have_their_place() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("fine"))).await;
    let service = ContentSafety::start().await;
    service.down(Some(Reply::raw([Step::Hang])));
    let body = lists("m");
    for (room, asks) in [(3 * MIB, true), (MIB + MIB / 2, false)] {
        let text = config(&[member("a", &backend, 1)], "", &guard(&service)).replace("#server", &server(room, MIB + 4096));
        let gateway = Gateway::start(&text).await;
        let before = service.backend.count();
        let mut caller = Connection::open(gateway.address).await.unwrap();
        caller.send(post("/v1/chat/completions", &[], body.as_bytes())).await.unwrap();
        if asks {
            eventually("the service is asked", async || service.backend.count() > before).await;
            assert_eq!(gateway.metric("spillway_buffered_bytes").await, 2.0 * body.len() as f64);
            drop(caller);
        } else {
            assert_eq!(caller.answer_head().await.unwrap().0, 503);
            assert_eq!(service.backend.count(), before);
        }
        eventually("all is given back", async || gateway.metric("spillway_buffered_bytes").await == 0.0).await;
    }
    assert_eq!(backend.count(), 0);
}

#[tokio::test]
async fn rules_of_ones_own_and_the_last_resort_need_no_more_than_the_body() {
    let throttled = ScriptedBackend::start(|_| Reply::throttled(60_000)).await;
    let rest = "[plugins.guard]\nwords = [\"project heron\"]\n[[backends]]\nname = \"sorry\"\nkind = \"mock\"\nreply = \"Back soon.\"\n";
    let body = lists("m");
    let server = server(body.len() + 4096, body.len() + 4096);
    let gateway = Gateway::start(&config(&[member("a", &throttled, 1)], "", rest).replace("#server", &server)).await;
    let got = ask(gateway.address, post("/v1/chat/completions", &[], body.as_bytes())).await.unwrap();
    assert_eq!((got.status, got.json()["choices"][0]["message"]["content"].as_str()), (200, Some("Back soon.")));
    // Vectors that take more than there is room for aren't made.
    let alone = config(&[], "", rest).replace("#server", &server);
    let gateway = Gateway::start(&alone).await;
    let embed = |inputs: usize, dimensions: usize| json!({ "model": "m", "input": vec!["a"; inputs], "dimensions": dimensions });
    for (inputs, dimensions, status) in [(2, 1536, 200), (2048, 4096, 503), (3000, 1, 503)] {
        assert_eq!(gateway.post("/v1/embeddings", &embed(inputs, dimensions)).await.status, status, "{inputs} × {dimensions}");
    }
    eventually("all is given back", async || gateway.metric("spillway_buffered_bytes").await == 0.0).await;
}

#[tokio::test]
async fn an_answer_for_which_there_is_no_room_is_neither_judged_nor_kept() {
    // Its tree would take a hundred times its length.
    let mut large: Value = serde_json::from_str(&answer("fine")).unwrap();
    large["choices"][0]["logprobs"] = json!({ "content": vec![json!({ "a": 1 }); 20_000] });
    let large = large.to_string();
    let long = large.len();
    let backend = ScriptedBackend::start(move |_| Reply::json(200, large.clone())).await;
    let kept =
        |room: usize| config(&[member("a", &backend, 1)], "", "[plugins.cache]\nexact = {}\n").replace("#server", &server(room, 16 * 1024));
    for (room, asked) in [(64 * MIB, 1), (MIB, 2)] {
        let before = backend.count();
        let gateway = Gateway::start(&kept(room)).await;
        for _ in 0..2 {
            assert_eq!(gateway.chat().await.status, 200);
        }
        assert_eq!(backend.count() - before, asked, "{room}");
    }
    let guarded = |room: usize| {
        config(&[member("a", &backend, 1)], "", "[plugins.guard]\nwords = [\"heron\"]\nanswers = true\n")
            .replace("#server", &server(room, 16 * 1024))
    };
    for (room, status) in [(long + 32 * 1024, 200), (long - 1024, 503)] {
        let gateway = Gateway::start(&guarded(room)).await;
        assert_eq!(gateway.chat().await.status, status, "{room}");
        eventually("all is given back", async || gateway.metric("spillway_buffered_bytes").await == 0.0).await;
    }
}
