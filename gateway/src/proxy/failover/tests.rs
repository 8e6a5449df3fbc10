//! Ends of attempts without an answer.

use http::StatusCode;
use spillway_plugins::api::Api;

use super::*;
use crate::balance::circuit::ErrorKind;
use crate::balance::target::Unavailable;
use crate::proxy::exchange::Broken;
use crate::proxy::fixtures::{CHAT, attempt, context, facts, gateway, retry_state};
use crate::request::End;

/// What an attempt is written down as, how its target stands, and what comes next.
fn ends(asked: Result<UpstreamReply, SendError>) -> (&'static str, Option<&'static str>, &'static str) {
    let gateway = gateway("");
    let mut ctx = context(&gateway, facts(&gateway), Api::Chat, CHAT);
    let request = ctx.model_request.take().unwrap();
    let mut state = retry_state(&ctx.facts, &request);
    let attempt = attempt(&gateway, &ctx.facts, &mut ctx.attempts, &request, &mut state);
    let next = match fail_over(ctx.books(), &mut state, attempt, asked) {
        AttemptEnd::Over(End::CallerLeft) => "over",
        AttemptEnd::Over(_) => "over in another way",
        AttemptEnd::Throttled => "throttled",
        AttemptEnd::Failed => "failed",
        AttemptEnd::Unreached => "unreached",
        AttemptEnd::Elsewhere => "elsewhere",
    };
    let closed = request.model.route.members()[0].target.closed_for(state.key, gateway.clock.now()).map(|closed| match closed {
        Unavailable::Throttled(_) => "throttled",
        Unavailable::Out(..) => "out",
        _ => "closed",
    });
    let [made] = &ctx.attempts.records[..] else { panic!("one attempt was made") };
    (made.outcome.label(), closed, next)
}

#[test]
fn each_end_is_written_down_tells_its_target_and_says_what_comes_next() {
    let elsewhere = |verdict, status: u16| Ok(UpstreamReply::Failover(verdict, StatusCode::from_u16(status).unwrap()));
    let broken = |kind| Err(SendError::Broken(Broken::Upstream(kind)));
    for (asked, expected) in [
        (elsewhere(Verdict::RateLimited, 429), ("throttled", Some("throttled"), "throttled")),
        (elsewhere(Verdict::FlexUnavailable, 429), ("flex_unavailable", None, "elsewhere")),
        (elsewhere(Verdict::OutOfQuota, 429), ("out_of_quota", Some("out"), "elsewhere")),
        (elsewhere(Verdict::Misconfigured, 401), ("misconfigured", Some("out"), "elsewhere")),
        (elsewhere(Verdict::Failed, 500), ("failed", None, "failed")),
        (Ok(UpstreamReply::Unfit), ("caller_fault", None, "elsewhere")),
        (Ok(UpstreamReply::TooLong), ("caller_fault", None, "elsewhere")),
        (Err(SendError::NoCredential), ("no_credential", None, "elsewhere")),
        (Err(SendError::Unsendable), ("cancelled", None, "elsewhere")),
        (broken(ErrorKind::Connect), ("connect", None, "failed")),
        (Err(SendError::Broken(Broken::Unreached(ErrorKind::Connect))), ("connect", None, "unreached")),
        (Err(SendError::Broken(Broken::CallerLeft)), ("cancelled", None, "over")),
    ] {
        assert_eq!(ends(asked), expected);
    }
}
