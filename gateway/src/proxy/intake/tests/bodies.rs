//! Bodies: JSON, forms, those that are judged and those whose answer is known.

use super::*;

const FORM: (&str, &str) = ("content-type", "multipart/form-data; boundary=XX");

/// A form with these fields, and a file of so many bytes.
fn form(fields: &[(&str, &str)], file: usize) -> String {
    let field = |(name, value): &(&str, &str)| format!("--XX\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    let fields: String = fields.iter().map(field).collect();
    format!("{fields}--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\n\r\n{}\r\n--XX--\r\n", "x".repeat(file))
}

fn upload(body: &str) -> String {
    let length = body.len().to_string();
    get("/v1/audio/transcriptions", &[FORM, ("content-length", &length)]).replacen("GET", "POST", 1) + body
}

#[tokio::test]
async fn a_short_form_is_held_and_a_long_one_passes_through_once_its_model_is_known() {
    let gateway = Setup { server: "max_body = \"1KiB\"", ..Setup::default() }.gateway();
    let short = taken(&gateway, &upload(&form(&[("model", "m")], 10))).await;
    assert_eq!((short.outcome.as_ref(), short.model(), short.ctx.body.kept.is_some()), (Some(&IntakeOutcome::Attempt), Some("m"), true));
    let long = form(&[("model", "m")], 500);
    let chunked = format!(
        "POST /v1/audio/transcriptions HTTP/1.1\r\nhost: gateway\r\n{}: {}\r\ntransfer-encoding: chunked\r\n\r\n{}",
        FORM.0,
        FORM.1,
        fixtures::chunked(&long[..200])
    );
    let passes = taken(&gateway, &chunked).await;
    assert_eq!((passes.outcome.as_ref(), passes.model(), passes.ctx.body.kept.is_none()), (Some(&IntakeOutcome::Tunnel), Some("m"), true));
    assert!(passes.ctx.tunnel.is_some());
    drop(short);
    assert_eq!(gateway.metrics.requests.buffered.get(), 200, "what came waits there");
}

#[tokio::test]
async fn a_form_that_cannot_be_read_is_refused() {
    let gateway = gateway("");
    let refused = async |request: &str| taken(&gateway, request).await.answered();
    assert_eq!(refused(&upload(&form(&[], 10))).await, (400, "model_missing".to_owned()));
    let open = form(&[("model", "m")], 10).replace("--XX--", "");
    assert_eq!(refused(&upload(&open)).await, (400, "invalid_form".to_owned()));
    let twice = form(&[("model", "m"), ("model", "n")], 10);
    assert_eq!(refused(&upload(&twice)).await, (400, "invalid_form".to_owned()));
    let json = post("/v1/audio/transcriptions", &[], CHAT);
    assert_eq!(refused(&json).await, (415, "unsupported_media_type".to_owned()));
}

#[tokio::test]
async fn a_compressed_body_is_taken_in_as_what_it_is() {
    use std::io::Write as _;
    let gateway = gateway("");
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(CHAT.as_bytes()).unwrap();
    let bytes = encoder.finish().unwrap();
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bytes.len());
    let (mut session, _caller) = fixtures::session([head.as_bytes(), &bytes].concat()).await;
    let in_flight = InFlight::new(&gateway.metrics.requests.in_flight);
    let mut ctx = RequestCtx::new(gateway.clock.now(), gateway.clock.wall(), gateway.runtime.load_full(), in_flight);
    assert_eq!(take_in(&gateway, &mut session, &mut ctx).await.ok(), Some(IntakeOutcome::Attempt));
    assert_eq!(ctx.body.kept.as_ref().map(|body| &body.bytes()[..]), Some(CHAT.as_bytes()));
    let unknown = taken(&gateway, &post("/v1/chat/completions", &[("content-encoding", "br")], CHAT)).await;
    assert_eq!(unknown.answered(), (415, "unsupported_media_type".to_owned()));
}

#[tokio::test]
async fn a_prompt_that_is_not_allowed_is_refused_and_booked() {
    let folder = tempfile::tempdir().unwrap();
    let (server, table) = fixtures::ledger_in(folder.path());
    let rest = format!("{table}[plugins.guard]\nwords = [\"heron\"]\n");
    let gateway = Setup { server: &server, rest: &rest, ..Setup::default() }.gateway();
    let blocked = taken(&gateway, &post("/v1/chat/completions", &[], &CHAT.replace("hi", "a heron"))).await;
    assert_eq!(blocked.answered(), (403, "content_blocked".to_owned()));
    let rows = fixtures::booked(&gateway).await;
    let told: Vec<_> = rows.iter().map(|row| (row["outcome"].as_str(), row["model"].as_str(), row["output_tokens"].as_u64())).collect();
    assert_eq!(told, [(Some("blocked"), Some("m"), Some(0))]);
}

#[tokio::test]
async fn a_limit_refuses_before_the_prompt_is_judged() {
    let rest = consumer("one", "limits = { requests_per_minute = 1 }") + "[plugins.guard]\nwords = [\"heron\"]\n";
    let gateway = gateway(&rest);
    let request = |text: &str| post("/v1/chat/completions", &[("api-key", "one")], &CHAT.replace("hi", text));
    let first = taken(&gateway, &request("a crane")).await;
    assert!(first.ctx.metering.permit.is_some() && first.ctx.metering.remaining.requests.is_some());
    let second = taken(&gateway, &request("a heron")).await;
    assert_eq!(second.answered(), (429, "rate_limit_exceeded".to_owned()));
    assert_eq!(second.got.as_ref().unwrap().header("x-ratelimit-remaining-requests"), Some("0"));
}

#[tokio::test]
async fn an_answer_that_is_known_is_given_at_once() {
    let gateway = gateway("[plugins.cache]\nexact = {}\n");
    let request = post("/v1/chat/completions", &[], CHAT);
    let mut first = taken(&gateway, &request).await;
    assert_eq!(first.outcome, Some(IntakeOutcome::Attempt));
    let answer = r#"{"choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hello"}}]}"#;
    first.ctx.reply.status = Some(200);
    cached::record_whole(&mut first.ctx.copies, &answer.into());
    let ctx = &mut first.ctx;
    let whole = cached::Whole { facts: &ctx.facts, metering: &ctx.metering, reply: &ctx.reply, api: Api::Chat, backend: &"a".into() };
    cached::keep(&gateway, whole, &mut ctx.copies, None).await;
    let second = taken(&gateway, &request).await;
    assert_eq!((second.answered().0, second.got.as_ref().unwrap().text().as_str()), (200, answer));
    assert_eq!((second.ctx.reply.end, second.ctx.metering.booked), (End::Complete, true));
}

#[tokio::test]
async fn a_body_goes_on_as_its_pool_wants_it_and_where_what_it_refers_to_is() {
    let rest = consumer("one", "") + "[ledger]\ntags = [\"x-team\"]\n";
    let folder = tempfile::tempdir().unwrap();
    let (server, _) = fixtures::ledger_in(folder.path());
    let gateway =
        Setup { server: &server, pool: "transform = { cap = { max_output_tokens = 10 } }", rest: &rest, ..Setup::default() }.gateway();
    let request = |previous: &str| {
        let body = format!("{{\"model\":\"m\",\"input\":\"hi\",\"previous_response_id\":\"{previous}\"}}");
        post("/v1/responses", &[("api-key", "one"), ("x-team", "blue")], &body)
    };
    assert_eq!(taken(&gateway, &request("resp_none")).await.answered(), (404, "object_not_found".to_owned()));
    let pin = crate::objects::ObjectLocation { backend: "b".into(), consumer: Some("one".into()) };
    gateway.objects.pin("resp_1", pin, gateway.clock.now());
    let taken = taken(&gateway, &request("resp_1")).await;
    assert_eq!(taken.outcome, Some(IntakeOutcome::Attempt));
    let asked = taken.ctx.model_request.as_ref().unwrap();
    assert_eq!((asked.elsewhere.as_deref(), asked.fields.max_output_tokens), (Some(&[0][..]), Some(10)));
    let kept: serde_json::Value = serde_json::from_slice(taken.ctx.body.kept.as_ref().unwrap().bytes()).unwrap();
    assert_eq!((&kept["max_output_tokens"], taken.ctx.facts.tags.as_deref()), (&10.into(), Some("{\"x-team\":\"blue\"}")));
}
