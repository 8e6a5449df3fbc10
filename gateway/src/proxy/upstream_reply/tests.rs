//! What a target says, and what is made of it.

use spillway_plugins::api::{Api, Part};

use super::*;
use crate::proxy::fixtures::{self, Asking, Backend, CHAT, STREAM, Setup, Step, asking, facts, plain};
use crate::request::ModelRequest;

/// What came of asking, in short; and what is known after it.
struct Judged {
    what: String,
    state: RetryState,
    backend: Backend,
    status: Option<u16>,
    sent: bool,
    filtered: bool,
    said: Option<String>,
}

async fn judged(setup: Setup<'_>, api: Api, text: &str, answers: Vec<Vec<Step>>, change: impl FnOnce(&mut ModelRequest)) -> Judged {
    let gateway = setup.gateway();
    let backend = Backend::in_place_of(&gateway, "a", answers);
    let Asking { mut session, mut ctx, asked: mut request, mut state, caller: _caller } =
        asking(&gateway, facts(&gateway), api, text).await;
    change(&mut request);
    let mut attempt = fixtures::attempt(&gateway, &ctx.facts, &mut ctx.attempts, &request, &mut state);
    let came = send_and_judge(&mut session, &mut ctx.books(), &mut attempt, &mut state).await;
    let what = match came {
        Ok(UpstreamReply::Deliver(exchange, body)) => {
            format!("answer {} {}", exchange.head().unwrap().status.as_u16(), String::from_utf8_lossy(&body.concat()))
        }
        Ok(UpstreamReply::Failover(verdict, status)) => format!("{verdict:?} {}", status.as_u16()),
        Ok(UpstreamReply::Unfit) => "unfit".to_owned(),
        Ok(UpstreamReply::TooLong) => "too long".to_owned(),
        Err(SendError::Broken(broken)) => format!("{broken:?}"),
        Err(SendError::NoCredential) => "no credential".to_owned(),
        Err(SendError::Unsendable) => "unsendable".to_owned(),
    };
    let how = &attempt.state;
    let (status, filtered, said) = (how.status.map(|status| status.as_u16()), how.filtered, how.said.as_deref().map(str::to_owned));
    Judged { what, state, backend, status, sent: attempt.state.sent, filtered, said }
}

async fn chat(status: u16, body: &str) -> Judged {
    judged(Setup::default(), Api::Chat, CHAT, vec![plain(status, body)], |_| ()).await
}

#[tokio::test]
async fn each_status_is_an_answer_or_sends_the_request_elsewhere() {
    for (status, body, expected) in [
        (200, "{}", "answer 200 "),
        (400, "{\"error\":{}}", "answer 400 {\"error\":{}}"),
        (429, "{}", "RateLimited 429"),
        (429, "{\"error\":{\"code\":\"insufficient_quota\"}}", "OutOfQuota 429"),
        (401, "{}", "Misconfigured 401"),
        (404, "{\"error\":{\"code\":\"DeploymentNotFound\"}}", "Misconfigured 404"),
        (304, "", "Misconfigured 304"),
        (500, "{}", "Failed 500"),
        (503, "{}", "Failed 503"),
    ] {
        let judged = chat(status, body).await;
        assert_eq!((judged.what.as_str(), judged.status), (expected, Some(status)), "{body}");
        assert_eq!((judged.backend.asked().len(), judged.sent), (1, true));
    }
}

#[tokio::test]
async fn what_a_refusal_says_is_kept_for_whoever_gets_it() {
    let failed = chat(500, "{\"error\":{\"message\":\"on fire\"}}").await;
    assert_eq!((failed.said.as_deref(), failed.state.last_refusal.is_none()), (Some("on fire"), true));
    let missing = chat(404, "{\"error\":{\"code\":\"DeploymentNotFound\"}}").await;
    let (head, body) = *missing.state.last_refusal.expect("the caller may have it");
    assert_eq!((head.status.as_u16(), &body[..]), (404, &b"{\"error\":{\"code\":\"DeploymentNotFound\"}}"[..]));
    assert!(chat(401, "{}").await.state.last_refusal.is_none(), "what is said of the gateway's key is not for the caller");
    let filtered = chat(400, "{\"error\":{\"code\":\"content_filter\"}}").await;
    assert!(filtered.filtered && filtered.what.starts_with("answer 400"));
    assert!(!chat(400, "{\"error\":{}}").await.filtered);
}

#[tokio::test]
async fn a_refusal_that_breaks_is_not_delivered_as_the_whole() {
    let cut = || vec![Step::Send(b"HTTP/1.1 400 X\r\ncontent-length: 99\r\n\r\n{\"error\"".to_vec())];
    let judged = judged(Setup::default(), Api::Chat, CHAT, vec![cut()], |_| ()).await;
    assert_eq!(judged.what, "Upstream(Reset)");
    let none = self::judged(Setup::default(), Api::Chat, CHAT, vec![], |_| ()).await;
    assert_eq!((none.what.as_str(), none.sent), ("Unreached(Connect)", false), "nothing of it went there");
}

#[tokio::test]
async fn a_target_that_does_not_know_what_the_gateway_asks_for_is_asked_without_it() {
    let old =
        plain(400, "{\"error\":{\"message\":\"Unrecognized request argument supplied: stream_options\",\"param\":\"stream_options\"}}");
    let judged = judged(Setup::default(), Api::Chat, STREAM, vec![old.clone(), plain(200, "{}")], |_| ()).await;
    assert_eq!(judged.what, "answer 200 ");
    let asked: Vec<bool> =
        judged.backend.asked().iter().map(|asked| String::from_utf8_lossy(&asked.body).contains("include_usage")).collect();
    assert_eq!(asked, [true, false]);
    let plainly = self::judged(Setup::default(), Api::Chat, CHAT, vec![old, plain(200, "{}")], |_| ()).await;
    assert_eq!((plainly.status, plainly.backend.asked().len()), (Some(400), 1), "nothing was asked for that the caller didn't");
}

#[tokio::test]
async fn a_prompt_that_is_too_long_goes_to_a_larger_window() {
    let long = || vec![plain(400, "{\"error\":{\"code\":\"context_length_exceeded\",\"message\":\"too long\"}}")];
    let members = r#"{ backend = "a", priority = 1, context = 1000 }, { backend = "b", priority = 2, context = 2000 }"#;
    let judged = judged(Setup { members, ..Setup::default() }, Api::Chat, CHAT, long(), |_| ()).await;
    assert_eq!((judged.what.as_str(), judged.state.last_refusal.is_some()), ("too long", true));
    let alike = self::judged(Setup::default(), Api::Chat, CHAT, long(), |_| ()).await;
    assert!(alike.what.starts_with("answer 400"), "nobody is known to take more: {}", alike.what);
}

#[tokio::test]
async fn what_can_only_be_had_there_is_delivered_whatever_it_says() {
    let pinned = |request: &mut ModelRequest| (request.object, request.elsewhere) = (Some("responses/r".to_owned()), Some(vec![1]));
    for status in [429, 500] {
        let judged = judged(Setup::default(), Api::Responses, CHAT, vec![plain(status, "{}")], pinned).await;
        assert_eq!(judged.what, format!("answer {status} {{}}"));
    }
    let counts = |request: &mut ModelRequest| request.part = Some(Part::InputTokens);
    let judged = judged(Setup::default(), Api::Responses, CHAT, vec![plain(404, "{}")], counts).await;
    assert_eq!(judged.what, "unfit", "another may have that part of its API");
}

#[tokio::test]
async fn what_is_sealed_and_cannot_be_read_there_goes_to_the_others() {
    let refusal = "{\"error\":{\"code\":\"invalid_encrypted_content\",\"message\":\"The encrypted content could not be verified.\"}}";
    let sealed = |request: &mut ModelRequest| request.sealed = true;
    let judged = judged(Setup::default(), Api::Responses, CHAT, vec![plain(400, refusal)], sealed).await;
    assert_eq!((judged.what.as_str(), judged.state.unsealed), ("unfit", true));
    let open = self::judged(Setup::default(), Api::Responses, CHAT, vec![plain(400, refusal)], |_| ()).await;
    assert_eq!((open.status, open.state.unsealed), (Some(400), false));
    assert!(open.what.starts_with("answer"), "{}", open.what);
}

#[tokio::test]
async fn one_that_has_no_credential_is_not_asked() {
    let rest = "";
    let backend = "auth = { type = \"managed-identity\" }";
    let gateway = Setup { backend, rest, ..Setup::default() }.gateway();
    let upstream = gateway.runtime.load().backends[0].clone();
    upstream.upstream.as_ref().unwrap().credential.set(true);
    let fake = Backend::in_place_of(&gateway, "a", [plain(200, "{}")]);
    let Asking { mut session, mut ctx, asked: request, mut state, caller: _caller } =
        asking(&gateway, facts(&gateway), Api::Chat, CHAT).await;
    let mut attempt = fixtures::attempt(&gateway, &ctx.facts, &mut ctx.attempts, &request, &mut state);
    let came = send_and_judge(&mut session, &mut ctx.books(), &mut attempt, &mut state).await;
    assert!(matches!(came, Err(SendError::NoCredential)) && fake.asked().is_empty());
    assert!(!attempt.state.sent);
}
