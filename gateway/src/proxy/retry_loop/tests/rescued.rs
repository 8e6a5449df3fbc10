//! Streams that break after their first output.

use spillway_testkit::wire::Ended;

use super::*;

const RESCUE: &str = "streams = { rescue = \"verified\" }";

fn closing(pieces: &[&str]) -> Vec<Step> {
    let mut steps = events(pieces);
    steps.pop();
    steps
}

#[tokio::test]
async fn a_broken_stream_is_cut_where_nothing_may_continue_it() {
    let one = content("hello");
    let ran = with(Setup::default(), STREAM, [vec![closing(&[&one])], vec![events(&[&one, &stop(), DONE])]]).await;
    assert_eq!((ran.end, ran.got().ended, ran.attempts()), (End::Cut, Ended::Cut, vec![("a", "reset")]));
    assert_eq!((ran.asked, ran.ctx.reply.rescued), ([1, 0], None));
}

#[tokio::test]
async fn another_answer_that_repeats_what_was_sent_continues_it() {
    let again = [content("hel"), content("lo there"), stop()];
    let again: Vec<&str> = again.iter().map(String::as_str).chain([DONE]).collect();
    let rescue = Setup { pool: RESCUE, ..Setup::default() };
    let ran = with(rescue, STREAM, [vec![closing(&[&content("hello")])], vec![events(&again)]]).await;
    let text = ran.got().text();
    assert_eq!((ran.end, ran.got().ended, ran.ctx.reply.rescued), (End::Complete, Ended::Whole, Some("ok")));
    assert_eq!((text.matches("hello").count(), text.matches(" there").count()), (1, 1), "{text}");
    assert!(text.contains(DONE) && text.contains("x-spillway-rescued"), "{text}");
    assert_eq!(ran.attempts(), [("a", "reset"), ("b", "ok")]);
    assert!(ran.ctx.metering.booked);
}

#[tokio::test]
async fn one_that_says_something_else_ends_it_as_broken() {
    let rescue = Setup { pool: RESCUE, ..Setup::default() };
    let other = events(&[&content("good morning"), &stop(), DONE]);
    let ran = with(rescue, STREAM, [vec![closing(&[&content("hello")])], vec![other]]).await;
    let text = ran.got().text();
    assert_eq!((ran.end, ran.got().ended, ran.ctx.reply.rescued), (End::Cut, Ended::Cut, Some("differs")));
    assert!(text.contains("upstream_error") && !text.contains("good morning"), "{text}");
}

#[tokio::test]
async fn one_that_fails_in_its_turn_ends_it_as_broken() {
    let (one, error) = (content("hello"), "data: {\"error\":{\"code\":\"server_error\",\"message\":\"on fire\"}}\n\n");
    let rescue = Setup { pool: RESCUE, ..Setup::default() };
    let ran = with(rescue, STREAM, [vec![closing(&[&one])], vec![events(&[&one, &content(" there"), error, DONE])]]).await;
    assert_eq!((ran.end, ran.got().ended, ran.ctx.reply.rescued), (End::Cut, Ended::Cut, Some("failed")));
    assert!(!ran.got().text().contains("on fire") && !ran.got().text().contains(DONE), "{}", ran.got().text());
    assert_eq!(ran.attempts(), [("a", "reset"), ("b", "reset")]);
}

#[tokio::test]
async fn what_does_not_answer_cannot_continue_it() {
    for (answer, outcome) in [(vec![plain(500, "{}")], "failed"), (vec![], "connect"), (vec![plain(400, "{}")], "caller_fault")] {
        let rescue = Setup { pool: RESCUE, ..Setup::default() };
        let ran = with(rescue, STREAM, [vec![closing(&[&content("hello")])], answer]).await;
        assert_eq!((ran.end, ran.ctx.reply.rescued, ran.attempts()), (End::Cut, Some("failed"), vec![("a", "reset"), ("b", outcome)]));
        assert!(ran.got().text().contains("upstream_error"), "{}", ran.got().text());
    }
}

#[tokio::test]
async fn nobody_continues_what_there_is_no_budget_for() {
    let pool = format!("{RESCUE}\nretry = {{ max_attempts = 1 }}");
    let setup = Setup { pool: &pool, ..Setup::default() };
    let ran = with(setup, STREAM, [vec![closing(&[&content("hello")])], vec![events(&[])]]).await;
    assert_eq!((ran.end, ran.ctx.reply.rescued, ran.asked), (End::Cut, Some("failed"), [1, 0]));
}

#[tokio::test]
async fn the_rest_of_a_response_in_the_background_is_read_on_where_it_runs() {
    let event = |number: u32, kind: &str, more: &str| {
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\",\"sequence_number\":{number}{more}}}\n\n")
    };
    let created = event(0, "response.created", ",\"response\":{\"id\":\"resp_1\"}");
    let (one, two) =
        (event(1, "response.output_text.delta", ",\"delta\":\"hel\""), event(2, "response.output_text.delta", ",\"delta\":\"lo\""));
    let last = event(
        3,
        "response.completed",
        ",\"response\":{\"id\":\"resp_1\",\"status\":\"completed\",\"output\":[],\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}",
    );
    let gateway = Setup { pool: RESCUE, clock: Clock::new(), ..Setup::default() }.gateway();
    let backend = Backend::in_place_of(&gateway, "a", [closing(&[&created, &one]), events(&[&one, &two, &last])]);
    let (mut session, mut caller) = fixtures::session(post("/v1/responses", &[], "")).await;
    let mut ctx = context(&gateway, facts(&gateway), Api::Responses, r#"{"model":"m","stream":true,"background":true,"input":"hi"}"#);
    let asked = ctx.model_request.as_mut().unwrap();
    (asked.stores, asked.fields.references.background) = (true, true);
    let end = run(&gateway, &mut session, &mut ctx).await;
    drop(session);
    let got = caller.answer().await;
    assert_eq!((end, ctx.reply.rescued, got.ended), (End::Complete, Some("ok"), Ended::Whole));
    assert!(got.text().starts_with(&format!("{created}{one}{two}{last}")), "{}", got.text());
    let lines: Vec<_> = backend.asked().iter().map(|asked| format!("{} {}", asked.head.line[0], asked.head.line[1])).collect();
    assert_eq!(lines, ["POST /v1/responses", "GET /v1/responses/resp_1?stream=true&starting_after=1"]);
    let outcomes: Vec<_> = ctx.attempts.made.iter().map(|made| (made.member, made.outcome.label())).collect();
    assert_eq!(outcomes, [(0, "reset"), (0, "ok")]);
}
