//! Questions that mean the same.

use tokio::io::DuplexStream;
use tokio::sync::mpsc::Receiver;

use super::*;
use crate::clock::Clock;
use crate::proxy::fixtures::{answer_own, with_own_requests};

const RULES: &str = "[[backends]]\nname = \"embeds\"\nkind = \"openai\"\nurl = \"http://e.test\"\n\
                     [[pools]]\nname = \"embeddings\"\nmodels = [\"e\"]\nmembers = [{ backend = \"embeds\" }]\n\
                     [plugins.cache]\nexact = {}\n[plugins.cache.semantic]\nembeddings = \"embeddings\"\nthreshold = 0.9\nlimit = \"5s\"\n";

fn embedded(vector: &str) -> String {
    let body = format!("{{\"data\":[{{\"embedding\":{vector}}}]}}");
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// What looking for the answer to this leads to, where the question is embedded like this.
async fn asked(gateway: &Gateway, own: &mut Receiver<DuplexStream>, text: &str, vector: &str) -> (Asking, LookedUp) {
    let mut ctx = context(gateway, facts_of(gateway, "one"), Api::Chat, &CHAT.replace("hi", text));
    let embedding = embedded(vector);
    let (found, embedding) = tokio::join!(looked_up(gateway, &mut ctx, &[]), answer_own(own, &embedding));
    let body: serde_json::Value = serde_json::from_slice(&embedding.body).unwrap();
    assert_eq!(
        (&embedding.head.line[1][..], &body["model"], embedding.head.header("x-request-id")),
        ("/v1/embeddings", &"e".into(), Some("the-id"))
    );
    (ctx, found.unwrap())
}

#[tokio::test]
async fn a_question_that_is_near_enough_to_one_that_was_answered_gets_its_answer() {
    let rest = RULES.to_owned() + &consumer("one", "");
    let (gateway, mut own) = with_own_requests(&Setup { rest: &rest, ..Setup::default() }.text(), Clock::standing());
    let (mut first, found) = asked(&gateway, &mut own, "how do i get in", "[1.0, 0.0]").await;
    assert_eq!((found.cached.result, found.answer.is_none(), found.cached.lesson.is_some()), (CacheResult::Miss, true, true));
    first.copies.cached = Some(found.cached);
    answered(&gateway, &mut first, 200, &answer()).await;
    let (_, near) = asked(&gateway, &mut own, "how can i get in", "[0.99, 0.05]").await;
    assert_eq!((near.cached.result, near.answer.as_ref().map(|entry| &*entry.backend)), (CacheResult::Semantic, Some("a")));
    assert!(near.cached.score.is_some_and(|score| (0.9..1.0).contains(&score)) && near.cached.flight.is_none(), "{:?}", near.cached.score);
    let (_, far) = asked(&gateway, &mut own, "what is for lunch", "[0.0, 1.0]").await;
    assert_eq!((far.cached.result, far.answer.is_none()), (CacheResult::Miss, true));
    assert_eq!(gateway.metrics.cache.questions.get(), 1);
}

#[tokio::test]
async fn without_an_embedding_the_model_is_asked() {
    let rest = RULES.to_owned() + &consumer("one", "");
    let (gateway, mut own) = with_own_requests(&Setup { rest: &rest, ..Setup::default() }.text(), Clock::standing());
    let (_, found) = asked(&gateway, &mut own, "how do i get in", "[]").await;
    assert_eq!((found.cached.result, found.answer.is_none(), found.cached.lesson.is_none()), (CacheResult::Miss, true, true));
    assert_eq!(gateway.metrics.cache.embedding_failures.get(), 1);
}
