//! Answers under guard: looked at before they go on. Plain ones as a whole; streams in pieces, of which the last stays
//! back until it is long enough to be judged, together with the end of the one before.

use bytes::Bytes;
use spillway_plugins::answer;
use spillway_plugins::guard::{Finding, ending};
use spillway_plugins::stream::StreamWatch;

use super::{Deliverer, Delivery, Held};
use crate::guard::Judgement;
use crate::proxy::guarded;

/// Most of a plain answer that is looked at.
pub(super) const LONGEST: usize = 4 << 20;
/// Characters of what has passed that are looked at again with what follows: nothing hides at a cut.
const OVERLAP: usize = 200;

/// What stays back of a stream.
#[derive(Debug, Default)]
pub(super) struct Screen {
    pending: Vec<Bytes>,
    /// The end of the text that has passed.
    passed: String,
    /// Tokens that had come when it was looked at last, about.
    looked_at: u64,
}

impl Deliverer<'_, '_> {
    /// Whether answers to this caller are looked at.
    pub(super) fn is_guarded(&self) -> bool {
        guarded::guard_of(self.ctx).is_some_and(|guard| guard.reads_answers())
    }

    /// Looks at a text of an answer; what is found in it, if it may not pass. `None` within: nobody could say.
    async fn look_at(&mut self, text: &str) -> Result<(), Option<Finding>> {
        let runtime = std::sync::Arc::clone(&self.ctx.runtime);
        let Some(guard) = &runtime.guard else { return Ok(()) };
        let gateway = self.attempt.gateway;
        let began = gateway.clock.now();
        let judgement = guard.answer(text, &gateway.clock).await;
        if !self.committed {
            self.ctx.waited += gateway.clock.now().since(began);
        }
        match judgement {
            Judgement::Passed => Ok(()),
            Judgement::Blocked(finding) => Err(Some(finding)),
            Judgement::Unknown => Err(None),
        }
    }

    /// A whole plain answer: it may pass, or the caller gets a refusal instead. What it used is booked either way.
    pub(super) async fn screen_plain(&mut self, held: &Held) -> Result<(), Delivery> {
        let whole: Bytes = if held.len() == 1 { held[0].clone() } else { held.concat().into() };
        let messages = answer::text(self.attempt.inquiry.api, &whole, false);
        let mut text = String::new();
        for message in &messages {
            text.push_str(&message.text);
            text.push('\n');
            for call in &message.calls {
                text.push_str(&call.arguments);
                text.push('\n');
            }
        }
        let looked = self.look_at(&text).await;
        if let Err(finding) = looked {
            self.read_plain(held, true).await;
            return Err(Delivery::Blocked(finding));
        }
        Ok(())
    }

    /// A plain answer that is too long to be looked at: it passes only if what can't be judged may.
    pub(super) async fn screen_unread(&mut self, held: &Held) -> Result<(), Delivery> {
        let judgement = guarded::guard_of(self.ctx).map(|guard| guard.unreadable("answer"));
        match judgement {
            None | Some(Judgement::Passed) => Ok(()),
            Some(_) => {
                self.read_plain(held, true).await;
                Err(Delivery::Blocked(None))
            }
        }
    }

    /// Takes events of a stream and gives back those that may go on; `over`: no more are to come.
    pub(super) async fn screen(&mut self, watch: &StreamWatch, events: Bytes, over: bool) -> Result<Bytes, Option<Finding>> {
        let window = guarded::guard_of(self.ctx).map_or(0, |guard| guard.rules.window);
        let Some(screen) = &mut self.screen else { return Ok(events) };
        if !events.is_empty() {
            screen.pending.push(events);
        }
        let come = watch.state().output.bound();
        if !over && !watch.state().finished && come < screen.looked_at + window {
            return Ok(Bytes::new());
        }
        screen.looked_at = come;
        let pending: Bytes = std::mem::take(&mut screen.pending).concat().into();
        let mut text = std::mem::take(&mut screen.passed);
        for message in answer::text(self.attempt.inquiry.api, &pending, true) {
            text.push_str(&message.text);
            message.calls.iter().for_each(|call| text.push_str(&call.arguments));
        }
        self.look_at(&text).await?;
        let keep = text.char_indices().rev().nth(OVERLAP - 1).map_or(0, |(at, _)| at);
        if let Some(screen) = &mut self.screen {
            screen.passed = text.split_off(keep);
        }
        Ok(pending)
    }

    /// Ends a stream whose next part may not pass, as its API's own filter would.
    pub(super) async fn end_blocked(&mut self, watch: &mut StreamWatch, finding: Option<Finding>) -> Delivery {
        let inquiry = self.attempt.inquiry;
        let end = ending(inquiry.api, &self.ctx.id, inquiry.fields.choices.unwrap_or(1), watch.state().sequence);
        self.book_stream(watch).await;
        self.record(&end);
        if !self.committed {
            return Delivery::Blocked(finding);
        }
        if !self.write(end).await {
            return Delivery::CallerLeft;
        }
        match self.finish().await {
            Delivery::Complete => Delivery::Blocked(finding),
            other => other,
        }
    }
}
