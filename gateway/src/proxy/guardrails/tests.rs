//! Prompts that are allowed, and others.

use super::*;
use crate::proxy::fixtures::{CHAT, Setup, body, consumer, facts, facts_of, gateway, model_request, post, session};

const WORDS: &str = "[plugins.guard]\nwords = [\"heron\"]\n";

fn chat(text: &str) -> String {
    format!("{{\"model\":\"m\",\"messages\":[{{\"role\":\"user\",\"content\":\"{text}\"}}]}}")
}

/// Whether a prompt passes.
async fn judged(gateway: &Gateway, facts: &Facts, text: &str) -> Result<(), Option<Refusal>> {
    let (mut session, _caller) = session(post("/v1/chat/completions", &[], "")).await;
    let asked = model_request(gateway, Api::Chat, text);
    let body = body(gateway, text);
    let judged = prompt(gateway, &mut session, facts, &body, &mut Timing::default(), &asked).await;
    judged.map_err(|error| match error {
        IntakeError::Refuse(refusal) => Some(refusal),
        IntakeError::CallerLeft => None,
    })
}

#[tokio::test]
async fn a_prompt_is_looked_at_for_those_who_are_guarded() {
    let gateway = gateway(&(WORDS.to_owned() + &consumer("bound", "") + &consumer("free", "guard = false")));
    let blocked = Err(Some(Refusal::ContentBlocked { what: "rule 'words'".to_owned() }));
    let text = chat("see the Heron");
    assert_eq!(judged(&gateway, &facts_of(&gateway, "bound"), &text).await, blocked);
    assert_eq!(judged(&gateway, &facts(&gateway), &text).await, blocked, "a caller without a name is guarded");
    assert_eq!(judged(&gateway, &facts_of(&gateway, "bound"), &chat("see the crane")).await, Ok(()));
    assert_eq!(judged(&gateway, &facts_of(&gateway, "free"), &text).await, Ok(()));
    let mut own = facts_of(&gateway, "bound");
    own.internal = true;
    assert_eq!(judged(&gateway, &own, &text).await, Ok(()), "the gateway's own requests were judged already");
}

#[tokio::test]
async fn without_a_guard_or_a_body_there_is_nothing_to_look_at() {
    let plain = gateway("");
    assert_eq!(judged(&plain, &facts(&plain), &chat("heron")).await, Ok(()));
    let gateway = gateway(WORDS);
    let (mut session, _caller) = session(post("/v1/chat/completions", &[], "")).await;
    let (facts, asked) = (facts(&gateway), model_request(&gateway, Api::Chat, CHAT));
    let none = prompt(&gateway, &mut session, &facts, &RequestBody::default(), &mut Timing::default(), &asked).await;
    assert!(none.is_ok());
}

#[tokio::test]
async fn while_a_service_is_asked_the_texts_need_room_of_their_own() {
    let text = chat("hi");
    let server = format!("max_body = \"{0}B\"\nmax_buffered = \"{0}B\"", text.len() + 10);
    let rest = "[plugins.guard.content_safety]\nurl = \"http://127.0.0.1:9\"\n";
    let gateway = Setup { server: &server, rest, ..Setup::default() }.gateway();
    let busy = Err(Some(Refusal::Overloaded { what: "request bodies" }));
    assert_eq!(judged(&gateway, &facts(&gateway), &text).await, busy);
    assert_eq!(gateway.metrics.buffered.get(), 0);
}

#[test]
fn what_cannot_be_looked_at_does_not_pass() {
    let gateway = gateway(&(WORDS.to_owned() + &consumer("free", "guard = false")));
    for api in [Api::Realtime, Api::Files, Api::Batches, Api::Conversations, Api::ImageEdits] {
        let refusal = may_pass_unread(&facts(&gateway), api).expect_err("it is not read");
        assert_eq!((refusal.shape().status.as_u16(), refusal.shape().code), (403, "content_blocked"), "{api}");
        assert_eq!(may_pass_unread(&facts_of(&gateway, "free"), api), Ok(()), "{api}");
    }
    let open = crate::proxy::fixtures::gateway("[plugins.guard]\nwords = [\"heron\"]\npass_unread = true\n");
    assert_eq!(may_pass_unread(&facts(&open), Api::Realtime), Ok(()));
}

#[test]
fn what_is_kept_is_for_those_under_the_same_rules() {
    let answers = |more: &str| gateway(&(WORDS.to_owned() + more + &consumer("free", "guard = false")));
    let (one, other) = (answers("answers = true\n"), gateway("[plugins.guard]\nwords = [\"crane\"]\nanswers = true\n"));
    assert!(fingerprint(&facts(&one)).is_some());
    assert_ne!(fingerprint(&facts(&one)), fingerprint(&facts(&other)));
    assert_eq!(fingerprint(&facts_of(&one, "free")), None);
    assert_eq!(fingerprint(&facts(&answers(""))), None, "answers are not looked at");
}

#[test]
fn only_what_was_judged_is_booked() {
    assert_eq!(booked_as(&Refusal::ContentBlocked { what: String::new() }), Some("blocked"));
    assert_eq!(booked_as(&Refusal::ContentUnchecked), Some("unchecked"));
    assert_eq!(booked_as(&Refusal::Overloaded { what: "request bodies" }), None);
}
