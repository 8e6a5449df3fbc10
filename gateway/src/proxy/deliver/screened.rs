//! Answers that the guard checks before they are sent: plain ones as a whole; streams in pieces, of which the last is
//! held back.

use super::Deliverer;
use super::screen::PENDING;
use crate::balance::target::Outcome;
use crate::guardrails::Judgement;
use crate::proxy::body_pieces::BodyPieces;
use crate::proxy::delivery::{Delivery, Withheld};
use crate::proxy::{cached, guardrails};
use bytes::Bytes;
use spillway_plugins::guard::AnswerText;
use spillway_plugins::stream::StreamWatch;
use std::sync::Arc;

impl Deliverer<'_, '_, '_> {
    /// Whether this answer is checked: successful answers, in APIs whose answers are texts.
    pub(super) fn is_guarded(&self) -> bool {
        self.attempt.model_request.api.writes_texts()
            && self.attempt.state.status.is_some_and(|status| status.is_success())
            && guardrails::guard_of(&self.ctx.facts).is_some_and(|guard| guard.reads_answers())
    }

    /// How many tokens of a stream are held back, if it is checked.
    pub(super) fn window(&self) -> Option<u64> {
        self.is_guarded().then(|| guardrails::guard_of(&self.ctx.facts).map(|guard| guard.rules.window))?
    }

    /// Checks the text of an answer; `said` is `None` if it can't be read. The error is why it
    /// must not be sent.
    async fn look_at(&mut self, said: Option<&AnswerText>) -> Result<(), Withheld> {
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
                    // The caller has left: text that was not checked is not sent.
                    _ = self.session.left() => Judgement::Unknown,
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
                // The next time it may be possible to check it, so don't cache it.
                cached::forget(&mut self.ctx.copies);
                Ok(())
            }
            Judgement::Blocked(finding) => Err(Withheld::Found(finding)),
            Judgement::Unknown if said.is_none() => Err(Withheld::Unreadable),
            Judgement::Unknown => Err(Withheld::Unchecked),
        }
    }

    /// Checks a plain answer, whole (`over`) or longer than what is checked. If it doesn't pass, the caller gets a
    /// refusal instead. Its usage is booked in both cases.
    pub(super) async fn screen_plain(&mut self, held: &BodyPieces, over: bool) -> Result<(), Delivery> {
        let mut said = AnswerText::default();
        let read = over && said.add(&held.concat()).is_ok();
        let looked = self.look_at(read.then_some(&said)).await;
        let Err(why) = looked else { return Ok(()) };
        let now = self.now();
        self.read_plain(held, true, now).await;
        Err(self.blocked(why))
    }

    /// Takes events of a stream and returns those that may be sent; `over`: no more will come.
    pub(super) async fn screen(&mut self, watch: &StreamWatch, events: Bytes, over: bool) -> Result<Bytes, Withheld> {
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

    /// Ends a stream whose next part did not pass, as the API's own filter would.
    pub(super) async fn end_blocked(&mut self, watch: &mut StreamWatch, why: Withheld) -> Delivery {
        self.book_stream(watch).await;
        if !self.committed {
            return self.blocked(why);
        }
        let sequence = watch.state().sequence;
        let end = self.screen.as_ref().map(|screen| screen.ending.events(self.attempt.model_request.api, sequence)).unwrap_or_default();
        self.record(&end);
        if !self.write(end).await {
            return Delivery::CallerLeft;
        }
        match self.finish().await {
            Delivery::Complete => Delivery::Blocked(why),
            other => other,
        }
    }

    /// Nothing of it is sent to the caller. The target did nothing wrong.
    fn blocked(&mut self, why: Withheld) -> Delivery {
        let first = self.now().since(self.attempt.state.began);
        self.attempt.record(Outcome::Success { first, signal: self.attempt.state.signal });
        cached::forget(&mut self.ctx.copies);
        Delivery::Blocked(why)
    }
}
