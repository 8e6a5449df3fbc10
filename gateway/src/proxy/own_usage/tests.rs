//! A consumer's own numbers.

use super::*;
use crate::proxy::books::Books;
use crate::proxy::fixtures::{CHAT, Setup, consumer, context, facts, facts_of, gateway, get, ledger_in, session};
use crate::proxy::metering::book_judged;
use spillway_plugins::api::Api;

/// The answer to such a request; or the refusal's status and code.
async fn asked(gateway: &Gateway, facts: &Facts, target: &str) -> Result<serde_json::Value, (u16, &'static str)> {
    let (mut session, mut caller) = session(get(target, &[])).await;
    let (mut timing, mut reply) = (Timing::default(), Reply::default());
    match answer(gateway, &mut session, facts, &mut timing, &mut reply).await {
        Ok(outcome) => {
            assert_eq!((outcome, reply.status, reply.end), (IntakeOutcome::Answered, Some(200), End::Complete));
            let got = caller.answer().await;
            assert_eq!((got.status, got.header("x-request-id")), (200, Some("the-id")));
            Ok(got.json())
        }
        Err(IntakeError::Refuse(refusal)) => {
            assert_eq!(reply.status, None);
            Err((refusal.shape().status.as_u16(), refusal.shape().code))
        }
        Err(IntakeError::CallerLeft) => panic!("the caller is there"),
    }
}

#[tokio::test]
async fn numbers_are_for_known_callers_where_there_is_a_ledger() {
    let gateway = gateway(&(consumer("one", "") + "[plugins.auth]\nrequired = false\n"));
    assert_eq!(asked(&gateway, &facts(&gateway), "/v1/usage").await, Err((401, "invalid_api_key")));
    assert_eq!(asked(&gateway, &facts_of(&gateway, "one"), "/v1/usage").await, Err((404, "no_ledger")));
}

#[tokio::test]
async fn a_consumer_sees_its_own_numbers_whatever_it_asks_for() {
    let folder = tempfile::tempdir().unwrap();
    let (server, table) = ledger_in(folder.path());
    let rest = consumer("one", "") + &consumer("two", "") + table;
    let gateway = Setup { server: &server, rest: &rest, ..Setup::default() }.gateway();
    for (name, times) in [("one", 1), ("two", 3)] {
        for _ in 0..times {
            let mut ctx = context(&gateway, facts_of(&gateway, name), Api::Chat, CHAT);
            let asked = ctx.model_request.take().unwrap();
            let books: Books<'_> = ctx.books();
            book_judged(&gateway, books, &asked, "blocked").await;
        }
    }
    gateway.flush(std::time::Duration::from_secs(10)).await;
    for target in ["/v1/usage?by=consumer", "/v1/usage?by=consumer&consumer=two"] {
        let report = asked(&gateway, &facts_of(&gateway, "one"), target).await.expect("it is known");
        let rows = report["rows"].as_array().expect("rows").clone();
        assert_eq!(rows.len(), 1, "{report}");
        assert_eq!((&rows[0]["consumer"], &rows[0]["requests"]), (&"one".into(), &1.into()), "{report}");
    }
    let wrong = asked(&gateway, &facts_of(&gateway, "one"), "/v1/usage?by=nonsense").await;
    assert_eq!(wrong, Err((400, "invalid_query")));
}
