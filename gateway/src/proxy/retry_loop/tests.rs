//! Whole requests over backends in memory.

mod rescued;

use std::time::Duration;

use spillway_plugins::api::Api;
use spillway_testkit::client::Response;

use super::*;
use crate::clock::Clock;
use crate::proxy::fixtures::{
    self, AND_SORRY, Backend, CHAT, DONE, SORRY, STREAM, Setup, Step, consumer, content, context, events, facts, facts_of, metric, plain,
    post, stop,
};
use crate::request::Facts;

const ANSWER: &str = r#"{"id":"c","choices":[{"index":0,"message":{"role":"assistant","content":"hello"}}]}"#;

/// What came of a request: its end, what the caller got, its attempts, and what the backends were asked.
struct Ran {
    end: End,
    got: Option<Response>,
    attempts: Vec<(String, &'static str)>,
    asked: [usize; 2],
    ctx: RequestCtx,
}

impl Ran {
    fn got(&self) -> &Response {
        self.got.as_ref().expect("the caller got something")
    }

    /// Status and code of a refusal.
    fn refused(&self) -> (u16, String) {
        (self.got().status, self.got().code())
    }

    fn attempts(&self) -> Vec<(&str, &str)> {
        self.attempts.iter().map(|(backend, outcome)| (backend.as_str(), *outcome)).collect()
    }
}

async fn ran(gateway: &Gateway, facts: Facts, text: &str, answers: [Vec<Vec<Step>>; 2]) -> Ran {
    let [a, b] = answers;
    let backends = [Backend::in_place_of(gateway, "a", a), Backend::in_place_of(gateway, "b", b)];
    let (mut session, caller) = fixtures::session(post("/v1/chat/completions", &[], "")).await;
    let mut ctx = context(gateway, facts, Api::Chat, text);
    let end = run(gateway, &mut session, &mut ctx).await;
    drop(session);
    let got = caller.answer_if_any().await;
    let attempts = ctx.attempts.records.iter().map(|made| (made.target.id.backend.to_string(), made.outcome.label())).collect();
    assert!(ctx.model_request.is_some(), "it is there for those who write it down");
    for member in ctx.model_request.as_ref().unwrap().model.route.members() {
        assert_eq!(member.target.in_flight(), 0, "every slot is free again");
    }
    Ran { end, got, attempts, asked: backends.map(|backend| backend.asked().len()), ctx }
}

/// The same of a gateway on a clock that runs.
async fn with(setup: Setup<'_>, text: &str, answers: [Vec<Vec<Step>>; 2]) -> Ran {
    let gateway = Setup { clock: Clock::new(), ..setup }.gateway();
    ran(&gateway, facts(&gateway), text, answers).await
}

fn throttled(seconds: u32) -> Vec<Step> {
    vec![Step::Send(format!("HTTP/1.1 429 X\r\nretry-after: {seconds}\r\ncontent-length: 2\r\n\r\n{{}}").into_bytes())]
}

#[tokio::test]
async fn the_first_answer_ends_it() {
    let ran = with(Setup::default(), CHAT, [vec![plain(200, ANSWER)], vec![plain(200, ANSWER)]]).await;
    assert_eq!((ran.end, ran.got().status, ran.got().text().as_str()), (End::Complete, 200, ANSWER));
    assert_eq!((ran.attempts(), ran.asked), (vec![("a", "ok")], [1, 0]));
    assert_eq!((ran.got().header("x-spillway-backend"), ran.got().header("x-spillway-attempts")), (Some("a"), Some("1")));
}

#[tokio::test]
async fn what_goes_wrong_at_one_goes_to_the_next_unseen() {
    let error = || {
        vec![Step::Send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: {\"error\":{\"code\":\"server_error\"}}\n\n".to_vec(),
        )]
    };
    for (text, first, outcome) in [
        (CHAT, vec![plain(500, "{}")], "failed"),
        (CHAT, vec![plain(507, "{}")], "failed"),
        (CHAT, vec![plain(524, "{}")], "failed"),
        (CHAT, vec![throttled(60)], "throttled"),
        (CHAT, vec![plain(401, "{}")], "misconfigured"),
        (CHAT, vec![plain(429, "{\"error\":{\"code\":\"insufficient_quota\"}}")], "out_of_quota"),
        (CHAT, vec![plain(200, "<html>")], "no_answer"),
        (CHAT, vec![], "connect"),
        (CHAT, vec![vec![]], "reset"),
        (STREAM, vec![error()], "failed"),
    ] {
        let ran = with(Setup::default(), text, [first, vec![plain(200, ANSWER)]]).await;
        assert_eq!((ran.end, ran.got().status, ran.attempts()), (End::Complete, 200, vec![("a", outcome), ("b", "ok")]));
        assert_eq!((ran.got().header("x-spillway-backend"), ran.got().header("x-spillway-attempts")), (Some("b"), Some("2")), "{outcome}");
    }
}

#[tokio::test]
async fn to_leave_a_member_that_cannot_be_reached_counts_for_nothing() {
    let none_left = "retry = { max_attempts = 1, budget = { percent = 0, floor_per_second = 0 } }";
    let setup = || Setup { pool: none_left, ..Setup::default() };
    let ran = with(setup(), CHAT, [vec![], vec![plain(200, ANSWER)]]).await;
    assert_eq!((ran.end, ran.got().status, ran.attempts()), (End::Complete, 200, vec![("a", "connect"), ("b", "ok")]));
    // Each is asked once; to ask one of them again is counted.
    let ran = with(setup(), CHAT, [vec![], vec![]]).await;
    assert_eq!((ran.refused().0, ran.attempts()), (502, vec![("a", "connect"), ("b", "connect")]));
    let thrice = Setup { pool: "retry = { max_attempts = 3 }", ..Setup::default() };
    let ran = with(thrice, CHAT, [vec![], vec![]]).await;
    assert_eq!(ran.attempts(), [("a", "connect"), ("b", "connect"), ("b", "connect"), ("b", "connect")]);
    // A failure that was counted stays so, whatever came before.
    let ran = with(setup(), CHAT, [vec![], vec![plain(500, "{}"), plain(200, ANSWER)]]).await;
    assert_eq!((ran.refused().0, ran.attempts()), (502, vec![("a", "connect"), ("b", "failed")]));
    let first = Setup { pool: "retry = { max_attempts = 1, same_target = 2 }", ..Setup::default() };
    let ran = with(first, CHAT, [vec![], vec![plain(200, ANSWER)]]).await;
    assert_eq!(ran.attempts(), [("a", "connect"), ("b", "ok")], "nothing is left to ask the same one first");
}

#[tokio::test]
async fn a_callers_own_fault_goes_nowhere_else() {
    let ran = with(Setup::default(), CHAT, [vec![plain(400, "{\"error\":{\"code\":\"x\"}}")], vec![plain(200, ANSWER)]]).await;
    assert_eq!((ran.end, ran.refused(), ran.attempts()), (End::Complete, (400, "x".to_owned()), vec![("a", "caller_fault")]));
}

#[tokio::test]
async fn where_all_are_throttled_the_caller_hears_when_to_come_back() {
    let gateway = Setup { clock: Clock::new(), ..Setup::default() }.gateway();
    let all = ran(&gateway, facts(&gateway), CHAT, [vec![throttled(60)], vec![throttled(30)]]).await;
    assert_eq!((all.end, all.refused()), (End::Refused("rate_limit_exceeded"), (429, "rate_limit_exceeded".to_owned())));
    let wait: u64 = all.got().header("retry-after").unwrap().parse().unwrap();
    assert!((20..=30).contains(&wait), "the first that reopens: {wait}");
    assert_eq!(all.attempts(), [("a", "throttled"), ("b", "throttled")]);
    assert_eq!(metric(&gateway, "spillway_rejections_total{code=\"rate_limit_exceeded\"}"), 1.0);
    let again = ran(&gateway, facts(&gateway), CHAT, [vec![plain(200, ANSWER)], vec![]]).await;
    assert_eq!((again.refused().0, again.asked), (429, [0, 0]), "nobody is asked before its time");
}

#[tokio::test]
async fn a_request_waits_for_a_target_where_the_pool_says_so() {
    let short = || vec![Step::Send(b"HTTP/1.1 429 X\r\nretry-after-ms: 700\r\ncontent-length: 2\r\n\r\n{}".to_vec())];
    let setup = Setup { pool: "retry = { wait = \"5s\" }", ..Setup::default() };
    let ran = with(setup, CHAT, [vec![short(), plain(200, ANSWER)], vec![throttled(60)]]).await;
    assert_eq!((ran.end, ran.attempts()), (End::Complete, vec![("a", "throttled"), ("b", "throttled"), ("a", "ok")]));
    let waited = ran.ctx.attempts.records[2].waited;
    assert!(waited > Duration::ZERO && ran.ctx.timing.waited >= waited, "the attempt had to wait for its slot");
}

#[tokio::test]
async fn where_all_fail_the_caller_hears_how_the_last_one_did() {
    let on_fire = || plain(500, "{\"error\":{\"message\":\"on fire\"}}");
    let thrice = Setup { pool: "retry = { max_attempts = 3 }", ..Setup::default() };
    let ran = with(thrice, CHAT, [vec![on_fire()], vec![on_fire(), on_fire()]]).await;
    assert_eq!((ran.end, ran.refused()), (End::Refused("upstream_error"), (502, "upstream_error".to_owned())));
    assert_eq!(ran.got().json()["error"]["upstream"], serde_json::json!({ "status": 500, "message": "on fire" }));
    assert_eq!(ran.attempts(), [("a", "failed"), ("b", "failed"), ("b", "failed")], "the last one is asked once more");
    let once = Setup { pool: "retry = { max_attempts = 1 }", ..Setup::default() };
    let ran = with(once, CHAT, [vec![on_fire()], vec![plain(200, ANSWER)]]).await;
    assert_eq!((ran.refused().0, ran.attempts()), (502, vec![("a", "failed")]));
}

#[tokio::test]
async fn a_member_may_be_asked_again_before_the_others_are() {
    let setup = Setup { pool: "retry = { same_target = 1 }", ..Setup::default() };
    let ran = with(setup, CHAT, [vec![plain(500, "{}"), plain(200, ANSWER)], vec![plain(200, ANSWER)]]).await;
    assert_eq!((ran.end, ran.attempts()), (End::Complete, vec![("a", "failed"), ("a", "ok")]));
}

#[tokio::test]
async fn the_last_resort_answers_where_nobody_else_can() {
    let sorry = || Setup { members: AND_SORRY, rest: SORRY, ..Setup::default() };
    let ran = with(sorry(), CHAT, [vec![throttled(60)], vec![throttled(60)]]).await;
    assert_eq!((ran.end, ran.got().status), (End::LastResort, 200));
    assert_eq!(ran.got().json()["choices"][0]["message"]["content"], "Back soon.");
    let served = with(sorry(), CHAT, [vec![throttled(60)], vec![plain(200, ANSWER)]]).await;
    assert_eq!(served.end, End::Complete, "never before a real one");
    let once = Setup { pool: "retry = { max_attempts = 1 }", ..sorry() };
    let used_up = with(once, CHAT, [vec![plain(500, "{}")], vec![plain(200, ANSWER)]]).await;
    assert_eq!((used_up.end, used_up.asked), (End::Refused("upstream_error"), [1, 0]), "nor where a real one was not asked");
}

#[tokio::test]
async fn what_the_last_one_refused_it_with_is_the_callers() {
    let refusal = "{\"error\":{\"code\":\"model_not_found\",\"message\":\"no such tool\"}}";
    let ran = with(Setup::default(), CHAT, [vec![plain(404, refusal)], vec![plain(404, refusal)]]).await;
    assert_eq!((ran.end, ran.got().status, ran.got().text().as_str()), (End::Complete, 404, refusal));
    assert_eq!(ran.attempts(), [("a", "misconfigured"), ("b", "misconfigured")]);
}

#[tokio::test]
async fn a_fence_keeps_a_request_in_its_place() {
    let rest = consumer("west", "locations = [\"north\"]");
    let gateway = Setup { rest: &rest, members: r#"{ backend = "b", priority = 1 }"#, ..Setup::default() }.gateway();
    let ran = ran(&gateway, facts_of(&gateway, "west"), CHAT, [vec![], vec![plain(200, ANSWER)]]).await;
    assert_eq!(
        (ran.end, ran.refused(), ran.asked),
        (End::Refused("location_not_allowed"), (403, "location_not_allowed".to_owned()), [0, 0])
    );
}

#[tokio::test]
async fn a_request_ends_at_its_deadline() {
    let setup = Setup { pool: "timeouts = { total = \"500ms\" }", ..Setup::default() };
    let ran = with(setup, CHAT, [vec![vec![Step::Hold]], vec![plain(200, ANSWER)]]).await;
    assert_eq!((ran.end, ran.refused()), (End::Refused("upstream_timeout"), (504, "upstream_timeout".to_owned())));
    assert_eq!((ran.attempts(), ran.asked), (vec![("a", "timeout")], [1, 0]));
}

#[tokio::test]
async fn an_answer_that_may_not_pass_is_refused() {
    let rest = "[plugins.guard]\nwords = [\"hello\"]\nanswers = true\n";
    let ran = with(Setup { rest, ..Setup::default() }, CHAT, [vec![plain(200, ANSWER)], vec![]]).await;
    assert_eq!((ran.end, ran.refused()), (End::Refused("content_blocked"), (403, "content_blocked".to_owned())));
    assert_eq!(ran.attempts(), [("a", "ok")]);
}

#[tokio::test]
async fn a_caller_that_leaves_ends_its_attempt() {
    let gateway = Setup::default().gateway();
    Backend::in_place_of(&gateway, "a", [vec![Step::Hold]]);
    let (mut session, caller) = fixtures::session(post("/v1/chat/completions", &[], "")).await;
    let mut ctx = context(&gateway, facts(&gateway), Api::Chat, CHAT);
    let leaves = async {
        tokio::task::yield_now().await;
        drop(caller);
    };
    let (end, ()) = tokio::join!(run(&gateway, &mut session, &mut ctx), leaves);
    let outcomes: Vec<_> = ctx.attempts.records.iter().map(|made| made.outcome.label()).collect();
    assert_eq!((end, outcomes, ctx.reply.status), (End::CallerLeft, vec!["cancelled"], None));
}
