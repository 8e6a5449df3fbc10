//! Answers under guard: looked at before they go on. Plain ones as a whole; streams in pieces, of which the last stays back.

use super::Deliverer;
use super::screen::PENDING;
use crate::balance::target::Outcome;
use crate::guard::Judgement;
use crate::proxy::delivery::Delivery;
use crate::proxy::held::Held;
use crate::proxy::{cached, guardrails};
use bytes::Bytes;
use spillway_plugins::api::Api;
use spillway_plugins::guard::{Finding, Spoken};
use spillway_plugins::stream::StreamWatch;
use std::sync::Arc;

impl Deliverer<'_, '_> {
    /// Whether this answer is looked at: what is said in one, in APIs whose answers are texts.
    pub(super) fn is_guarded(&self) -> bool {
        let says = matches!(self.attempt.model_request.api, Api::Chat | Api::Completions | Api::Responses | Api::Messages);
        says && self.attempt.running.status.is_some_and(|status| status.is_success())
            && guardrails::guard_of(&self.ctx.facts).is_some_and(|guard| guard.reads_answers())
    }

    /// How many tokens of a stream stay back, if it is looked at.
    pub(super) fn window(&self) -> Option<u64> {
        self.is_guarded().then(|| guardrails::guard_of(&self.ctx.facts).map(|guard| guard.rules.window))?
    }

    /// Looks at what an answer says; `None` if it can't be read. What is found in it, if it may not pass; `None` within:
    /// nobody could say.
    async fn look_at(&mut self, said: Option<&Spoken>) -> Result<(), Option<Finding>> {
        let runtime = Arc::clone(&self.ctx.facts.runtime);
        let Some(guard) = &runtime.guard else { return Ok(()) };
        let gateway = self.attempt.gateway;
        let began = gateway.clock.now();
        let judgement = match said {
            Some(said) => {
                let owner = self.ctx.facts.owner();
                tokio::select! {
                    biased;
                    judgement = guard.answer(said, &owner, &gateway.clock) => judgement,
                    // Nobody waits for it any more: what was not judged is not sent.
                    _ = self.session.downstream_session.read_body_or_idle(true) => Judgement::Unknown,
                }
            }
            None => guard.unreadable(),
        };
        if !self.committed {
            self.ctx.timing.waited += gateway.clock.now().since(began);
        }
        match judgement {
            Judgement::Passed => Ok(()),
            Judgement::Unchecked => {
                // Another time somebody may be able to say.
                cached::forget(&mut self.ctx.copies);
                Ok(())
            }
            Judgement::Blocked(finding) => Err(Some(finding)),
            Judgement::Unknown => Err(None),
        }
    }

    /// A plain answer, whole (`over`) or longer than is looked at: it may pass, or the caller gets a refusal instead. What
    /// it used is booked either way.
    pub(super) async fn screen_plain(&mut self, held: &Held, over: bool) -> Result<(), Delivery> {
        let mut said = Spoken::default();
        let read = over && said.add(&held.concat()).is_ok();
        let looked = self.look_at(read.then_some(&said)).await;
        let Err(finding) = looked else { return Ok(()) };
        self.read_plain(held, true).await;
        Err(self.blocked(finding))
    }

    /// Takes events of a stream and gives back those that may go on; `over`: no more are to come.
    pub(super) async fn screen(&mut self, watch: &StreamWatch, events: Bytes, over: bool) -> Result<Bytes, Option<Finding>> {
        let Some(mut screen) = self.screen.take() else { return Ok(events) };
        let window = self.window().unwrap_or(0);
        screen.take(&events, over);
        let state = watch.state();
        let come = state.output.bound();
        let due = over || state.finished || state.fault.is_some() || come >= screen.looked_at + window || screen.length > PENDING;
        let mut released = Bytes::new();
        let mut looked = Ok(());
        if due {
            screen.looked_at = come;
            looked = match (screen.unreadable, screen.news) {
                (true, _) => self.look_at(None).await,
                (false, true) => self.look_at(Some(&screen.said)).await,
                (false, false) => Ok(()),
            };
            if looked.is_ok() {
                released = screen.release();
            }
        }
        self.screen = Some(screen);
        looked.map(|()| released)
    }

    /// Ends a stream whose next part may not pass, as its API's own filter would.
    pub(super) async fn end_blocked(&mut self, watch: &mut StreamWatch, finding: Option<Finding>) -> Delivery {
        self.book_stream(watch).await;
        if !self.committed {
            return self.blocked(finding);
        }
        let sequence = watch.state().sequence;
        let end = self.screen.as_ref().map(|screen| screen.shape.ending(self.attempt.model_request.api, sequence)).unwrap_or_default();
        self.record(&end);
        if !self.write(end).await {
            return Delivery::CallerLeft;
        }
        match self.finish().await {
            Delivery::Complete => Delivery::Blocked(finding),
            other => other,
        }
    }

    /// Nothing of it reaches the caller. Its target did as it should.
    fn blocked(&mut self, finding: Option<Finding>) -> Delivery {
        let first = self.now().since(self.attempt.running.began);
        self.attempt.record(Outcome::Success { first, signal: self.attempt.running.signal });
        cached::forget(&mut self.ctx.copies);
        Delivery::Blocked(finding)
    }
}
