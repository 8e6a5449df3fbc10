//! Answers of backends in memory, and what their callers get of them.

mod guarded;
mod plain;
mod stream;

use std::time::Duration;

use spillway_plugins::api::Api;
use spillway_plugins::tokens::Usage;
use spillway_testkit::client::Response;
use spillway_testkit::wire::Ended;

use super::*;
use crate::balance::target::Unavailable;
use crate::clock::Clock;
use crate::proxy::fixtures::{self, Asking, Backend, CHAT, DONE, STREAM, Setup, Step, asking, chunked, content, events, facts, stop};
use crate::proxy::upstream_reply::{UpstreamReply, send_and_judge};
use crate::request::ModelRequest;

/// What came of an answer.
struct Delivered {
    delivery: Delivery,
    ctx: RequestCtx,
    state: RetryState,
    /// What the caller got, if anything.
    got: Option<Response>,
    /// Whether its target was told that it answered.
    answered: bool,
    /// Why its target is closed, if it is.
    closed: Option<Unavailable>,
    said: Option<String>,
}

/// Hands over what the backend answers to this.
async fn delivered(setup: Setup<'_>, api: Api, text: &str, steps: Vec<Step>) -> Delivered {
    delivered_after(setup, api, text, steps, Duration::ZERO, |_, _| ()).await
}

/// The same so much time after its head came, and after a change to what is asked and to its context.
async fn delivered_after(
    setup: Setup<'_>,
    api: Api,
    text: &str,
    steps: Vec<Step>,
    late: Duration,
    change: impl FnOnce(&mut ModelRequest, &mut Facts),
) -> Delivered {
    let gateway = setup.gateway();
    Backend::in_place_of(&gateway, "a", [steps]);
    let Asking { mut session, mut ctx, asked: mut request, mut state, caller } = asking(&gateway, facts(&gateway), api, text).await;
    change(&mut request, &mut ctx.facts);
    let mut attempt = fixtures::attempt(&gateway, &ctx.facts, &mut ctx.attempts, &request, &mut state);
    let came = send_and_judge(&mut session, &mut ctx.books(), &mut attempt, &mut state).await;
    let Ok(UpstreamReply::Deliver(mut exchange, prefix)) = came else { panic!("it answers") };
    gateway.clock.pass(late);
    let delivery = deliver(&mut session, &mut ctx, &mut state, &mut attempt, &mut exchange, prefix).await;
    drop(session);
    let answered = attempt.state.lease.target().latency().is_some();
    let closed = attempt.state.lease.target().closed_for(state.key, gateway.clock.now());
    let said = attempt.state.said.as_deref().map(str::to_owned);
    let got = caller.answer_if_any().await;
    Delivered { delivery, ctx, state, got, answered, closed, said }
}

impl Delivered {
    /// What the caller got.
    fn got(&self) -> &Response {
        self.got.as_ref().expect("the caller got something")
    }

    /// Why it must be replaced: nothing has reached the caller, and nothing is booked.
    fn replaced(&self) -> ReplaceReason {
        assert!(self.got.is_none() && self.ctx.reply.status.is_none() && !self.ctx.metering.booked, "{:?}", self.delivery);
        let Delivery::Replace(fault) = self.delivery else { panic!("{:?}", self.delivery) };
        fault
    }

    fn usage(&self) -> Option<Usage> {
        self.ctx.metering.usage.map(|metered| metered.usage)
    }
}

fn used(input: u64, output: u64) -> Option<Usage> {
    Some(Usage { input, output, ..Usage::default() })
}

/// A clock that runs, for what must run out of time.
fn state(pool: &str) -> Setup<'_> {
    Setup { pool, clock: Clock::new(), ..Setup::default() }
}

/// An answer with this head and body, after which the connection closes.
fn raw(head: &str, body: &str) -> Vec<Step> {
    vec![Step::Send(format!("HTTP/1.1 {head}\r\n\r\n{body}").into_bytes())]
}
