//! What is said on a realtime socket, in both directions.

use spillway_testkit::client::frame;

use super::*;

/// A socket of this consumer's that stands.
async fn standing(rest: &str, name: &str) -> Line {
    let gateway = gateway(rest);
    let facts = facts_of(&gateway, name);
    let mut socket = line(gateway, facts, Api::Realtime, &get("/v1/realtime?model=m", &ASKS), Tunnel::web_socket()).await;
    let asked = socket.ctx.model_request.as_ref().unwrap();
    let admitted = crate::proxy::admit::admit(&socket.gateway, &socket.ctx.facts, asked, &mut socket.ctx.timing, &[], 0).await;
    admitted.expect("there is room").reserve(&mut socket.ctx.body, &mut socket.ctx.metering);
    socket.member().await;
    socket.judge(101).unwrap();
    socket
}

impl Line {
    /// What becomes of bytes of the caller's.
    async fn say(&mut self, bytes: Vec<u8>) -> (pingora::Result<()>, Option<Bytes>) {
        let mut piece = Some(Bytes::from(bytes));
        let said = body(&self.gateway, &mut self.session, &mut piece, false, self.ctx.tunnelled().unwrap()).await;
        (said, piece)
    }

    /// What becomes of bytes of the backend's.
    fn hear(&mut self, text: &str) -> (pingora::Result<()>, Option<Bytes>) {
        let mut frame = spillway_plugins::frames::frame_head(0x81, text.len());
        frame.extend_from_slice(text.as_bytes());
        let mut piece = Some(Bytes::from(frame));
        let heard = answer(&self.gateway, &mut self.session, &mut piece, false, self.ctx.tunnelled().unwrap());
        (heard, piece)
    }
}

const CREATED: &str = r#"{"type":"response.created","response":{"id":"resp_1"}}"#;
const ENDED: &str = r#"{"type":"response.done","response":{"id":"resp_1","status":"completed","usage":{"input_tokens":30,"output_tokens":40,"total_tokens":70}}}"#;

#[tokio::test]
async fn each_turn_is_booked_when_it_ends_and_passes_as_it_is() {
    let mut socket = standing(&consumer("one", "limits = { tokens_per_minute = 100000 }"), "one").await;
    for text in [CREATED, ENDED] {
        let (heard, piece) = socket.hear(text);
        assert!(heard.is_ok() && piece.is_some_and(|piece| piece.ends_with(text.as_bytes())));
    }
    let usage = socket.ctx.metering.usage.unwrap().usage;
    assert_eq!((usage.input, usage.output, socket.ctx.metering.booked), (30, 40, true));
    assert!(socket.ctx.metering.permit.is_some() && socket.tunnel().ended.is_none());
}

#[tokio::test]
async fn a_socket_that_its_backend_breaks_off_is_no_whole_one() {
    let lost = || Error::explain(ErrorType::ReadError, "reset").into_up();
    let close = Bytes::from_static(&[0x88, 2, 3, 232]);
    for (backend_closes, caller_ends, error, expected) in [
        (false, false, Some(lost()), End::Cut),
        (false, false, None, End::Cut),
        (true, false, None, End::Complete),
        (true, false, Some(lost()), End::Complete),
        (false, true, Some(lost()), End::Complete),
    ] {
        let mut socket = standing(&consumer("one", ""), "one").await;
        let said = frame(r#"{"type":"x"}"#);
        socket.say(said.clone()).await.0.unwrap();
        assert_eq!(socket.ctx.body.bytes, said.len());
        if backend_closes {
            answer(&socket.gateway, &mut socket.session, &mut Some(close.clone()), false, socket.ctx.tunnelled().unwrap()).unwrap();
        }
        if caller_ends {
            body(&socket.gateway, &mut socket.session, &mut None, true, socket.ctx.tunnelled().unwrap()).await.unwrap();
        }
        if error.is_none() {
            answer(&socket.gateway, &mut socket.session, &mut None, true, socket.ctx.tunnelled().unwrap()).unwrap();
        }
        let outcome = if expected == End::Complete { "ok" } else { "reset" };
        assert_eq!((socket.finish(error.as_deref()), socket.outcomes()), (expected, vec![outcome]), "{backend_closes} {caller_ends}");
    }
}

#[tokio::test]
async fn a_socket_ends_with_its_quota() {
    let limits = "limits = { token_quota = { tokens = 60, period = \"day\" } }\n";
    let mut socket = standing(&(consumer("one", limits) + "[usage]\nassume_completion = 10\n"), "one").await;
    socket.hear(CREATED).0.unwrap();
    let (heard, piece) = socket.hear(ENDED);
    let text = String::from_utf8_lossy(&piece.unwrap()).into_owned();
    assert!(heard.is_ok() && text.contains("response.done") && text.contains("quota_exceeded"), "{text}");
    assert_eq!(socket.tunnel().ended, Some("quota_exceeded"));
    assert_eq!(socket.hear(CREATED).1, None, "behind a close frame nothing may come");
    let (said, _) = socket.say(frame("{\"type\":\"response.create\"}")).await;
    assert!(said.is_err(), "what its caller sends goes nowhere");
    assert_eq!(socket.finish(None), End::Refused("quota_exceeded"));
}

#[tokio::test]
async fn what_a_caller_may_not_say_is_not_sent_on() {
    let mut socket = standing(&consumer("one", "models = [\"m\"]"), "one").await;
    let (said, piece) = socket.say(frame(r#"{"type":"session.update","session":{"model":"m"}}"#)).await;
    assert!(said.is_ok() && piece.is_some_and(|piece| !piece.is_empty()));
    let (_, piece) = socket.say(frame(r#"{"type":"session.update","session":{"model":"n"}}"#)).await;
    assert_eq!(piece, Some(Bytes::new()), "without its end nobody acts on a message");
    assert_eq!(crate::proxy::fixtures::metric(&socket.gateway, "spillway_rejections_total{code=\"model_not_allowed\"}"), 1.0);
    let told = socket.tunnel().ended.or_else(|| socket.tunnel().refusal.as_ref().map(|refusal| refusal.shape().code));
    assert_eq!(told, Some("model_not_allowed"));
}

#[tokio::test]
async fn frames_that_cannot_be_read_end_a_socket() {
    let mut socket = standing(&consumer("one", ""), "one").await;
    let mut piece = Some(Bytes::from_static(&[0xff, 0xff, 0xff, 0xff]));
    let heard = answer(&socket.gateway, &mut socket.session, &mut piece, false, socket.ctx.tunnelled().unwrap());
    assert!(heard.is_err(), "nobody could count what it uses");
    let mut socket = standing(&consumer("one", ""), "one").await;
    let (_, piece) = socket.say(vec![0x81, 0x02, b'{', b'}']).await;
    assert_eq!(piece, Some(Bytes::new()), "a caller masks what it says");
}
