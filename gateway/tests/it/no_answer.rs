//! Members that can't be reached, or whose success holds no answer: the next one is asked, unseen.

use serde_json::json;
use spillway_testkit::backend::{Received, Reply, ScriptedBackend};

use crate::support::*;

/// From a backend that has an answer, in the form that is asked for.
fn served(request: &Received) -> Reply {
    if request.json()["stream"] == json!(true) { Reply::sse(whole_stream("from b")) } else { Reply::json(200, answer("from b")) }
}

#[tokio::test]
async fn a_success_without_an_answer_is_asked_elsewhere() {
    let filters = "data: {\"choices\":[],\"prompt_filter_results\":[{\"prompt_index\":0}]}\n\n";
    let role = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}]}\n\n";
    let streams = [vec![DONE], vec![filters, DONE], vec![role, DONE]];
    let plain = ["{\"id\":", "{}", "{\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":0}}"];
    let replies = streams
        .into_iter()
        .map(|events| (true, Reply::sse(events.into_iter().map(str::to_owned))))
        .chain(plain.into_iter().map(|text| (false, Reply::json(200, text))));
    for (stream, reply) in replies {
        let told = format!("{reply:?}");
        let empty = ScriptedBackend::start(move |_| reply.clone()).await;
        let good = ScriptedBackend::start(served).await;
        let gateway = Gateway::start(&config(&[member("a", &empty, 1), member("b", &good, 2)], "", "")).await;
        let got = gateway.post("/v1/chat/completions", &chat(stream)).await;
        assert_eq!((got.status, got.header("x-spillway-backend")), (200, Some("b")), "{told}");
        assert!(got.text().contains("from b"), "{told}: {}", got.text());
        let counted = "spillway_attempts_total{backend=\"a\",deployment=\"m\",outcome=\"no_answer\",pool=\"pool\"}";
        assert_eq!(gateway.metric(counted).await, 1.0, "{told}");
    }
}

#[tokio::test]
async fn a_burst_at_a_tier_that_is_not_there_is_served_by_the_next() {
    let gone = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let good = ScriptedBackend::start(served).await;
    // Without a budget, and with no failure allowed.
    let rules = "retry = { max_attempts = 1, budget = { percent = 0, floor_per_second = 0 } }";
    let text = config(&[member("gone", &gone, 1), member("good", &good, 2)], rules, "");
    let address = gone.address();
    drop(gone);
    eventually("nobody listens", async || tokio::net::TcpStream::connect(address).await.is_err()).await;
    let gateway = std::sync::Arc::new(Gateway::start(&text).await);
    let asked: Vec<_> = (0..50)
        .map(|_| {
            let gateway = std::sync::Arc::clone(&gateway);
            tokio::spawn(async move { gateway.chat().await.status })
        })
        .collect();
    for one in asked {
        assert_eq!(one.await.unwrap(), 200);
    }
}
