//! What is known of an attempt whose usage was not reported.

use bytes::Bytes;
use serde_json::Value;
use spillway_plugins::api::Api;
use spillway_plugins::request::StreamOptions;
use spillway_plugins::tokens::{Encoding, OutputMeter, Reported, Usage, answer_tokens, may_reason, prompt_tokens};

use super::settled::Settled;
use crate::config::{DeploymentPrice, EstimateRule};
use crate::ledger::MemberLabels;
use crate::proxy::attempt_state::AttemptState;
use crate::proxy::books::Books;
use crate::proxy::usage_bound;
use crate::request::ModelRequest;
use crate::tokenizers::Tokenizers;

/// Longest body that is kept for an estimate while its answer is delivered. For longer bodies the estimate uses their
/// length.
pub(in crate::proxy) const KEPT: usize = 64 * 1024;

/// What is known of an attempt whose usage is not reported.
pub(super) struct Evidence {
    pub(super) api: Api,
    /// The request's body, if it is short enough to be tokenized.
    body: Option<Bytes>,
    /// What was reserved for it.
    bound: Usage,
    /// Whether the answer ended.
    pub(super) whole: bool,
    /// A content filter stopped the prompt: there is no answer.
    filtered: bool,
    /// The measured text of a stream.
    pub(super) output: OutputMeter,
    /// Usage that was reported, but not all of it.
    pub(super) so_far: Reported,
    /// A plain answer that reports no usage.
    answer: Option<Bytes>,
    /// The length of such an answer.
    pub(super) length: u64,
    /// The caller asked for a stream's usage in a way that servers read differently: the usage may have been left out
    /// for that reason.
    oddly_asked: bool,
    /// The caller asked for reasoning, which the answer may not show.
    reasons: bool,
    /// How its texts are counted.
    rule: EstimateRule,
}

impl Evidence {
    pub(super) fn new(books: &mut Books<'_>, model_request: &ModelRequest, state: &AttemptState) -> Self {
        Evidence {
            api: model_request.api,
            body: books.body.kept.as_ref().map(|body| body.bytes().clone()).filter(|body| body.len() <= KEPT),
            bound: usage_bound::of(books.facts, books.body, model_request),
            whole: books.metering.whole,
            filtered: state.filtered,
            output: std::mem::take(&mut books.metering.output),
            so_far: books.metering.so_far.clone(),
            answer: books.metering.plain.take(),
            length: books.metering.length,
            oddly_asked: model_request.fields.stream && model_request.fields.stream_options == StreamOptions::Odd,
            reasons: model_request.fields.reasoning == Some(true),
            rule: books.facts.runtime.config.usage.estimate,
        }
    }

    /// The upper bound of the usage: what was reserved, or what was seen if that is more. For the prompt it uses what
    /// the backend reported before the stream broke.
    pub(super) fn bound(&self) -> Settled {
        let seen = self.seen();
        let output = if self.filtered { 0 } else { self.bound.output.max(seen) };
        Settled::Bound(self.so_far.completed_by(self.api, Usage { output, ..self.bound }, self.whole))
    }

    /// The approximate number of tokens in what was seen of the answer, by its length.
    fn seen(&self) -> u64 {
        // Sound, images and vectors are no texts: their length says nothing.
        let length = if self.api.answers_in_text() { self.length } else { 0 };
        self.output.bound().max(length / 4)
    }

    /// Whether its texts are enough for an estimate.
    pub(super) fn is_readable(&self) -> bool {
        let shown = self.filtered || self.answer.is_some() || !self.output.is_empty() || matches!(self.api, Api::Embeddings | Api::Speech);
        self.body.is_some() && (self.api.makes_images() || shown) && (self.whole || self.filtered)
    }

    /// The usage according to its texts. The names of `place` choose the tokenizer, the price the unit.
    fn read(&self, place: &MemberLabels, price: Option<&DeploymentPrice>, tokenizers: &Tokenizers) -> Option<Usage> {
        let (model, deployment) = (&*place.model, &*place.deployment);
        let body = self.body.as_deref().filter(|_| self.is_readable())?;
        if self.api == Api::Speech {
            let fields: Value = serde_json::from_slice(body).ok()?;
            let text = fields["input"].as_str()?;
            let characters = text.chars().count() as u64;
            let by_characters = Usage { characters, ..Usage::default() };
            let output = usage_bound::spoken(text.len() as u64);
            let in_tokens = Usage { input: self.bound.input, output, output_audio: output, ..Usage::default() };
            return Some(match price {
                Some(DeploymentPrice::ByUse(price)) if price.character.is_some() => by_characters,
                Some(DeploymentPrice::ByUse(_)) => in_tokens,
                // Not known in which of the units it is billed.
                Some(DeploymentPrice::Hourly(_)) | None => Usage { characters, ..in_tokens },
            });
        }
        if self.api.makes_images() {
            return Some(Usage { images: self.bound.images, ..Usage::default() });
        }
        let is_known = self.filtered || self.so_far.tells_output();
        if !is_known && (self.oddly_asked || self.reasons || may_reason(model) || may_reason(deployment)) {
            return None;
        }
        let (input, output) = match self.rule {
            EstimateRule::Exact => {
                let tokenizer = tokenizers.get(Encoding::of(model))?;
                let answer = self.answer.as_deref().map_or(0, |answer| answer_tokens(answer, &tokenizer));
                (prompt_tokens(body, &tokenizer), self.output.tokens(&tokenizer) + answer)
            }
            EstimateRule::ByLength => (self.bound.input, self.seen()),
        };
        Some(self.so_far.completed_by(self.api, Usage { input, output, ..Usage::default() }, self.whole))
    }

    /// The estimate from its texts, if they are enough and there is a price for it; else the upper bound.
    pub(super) fn settled(&self, place: &MemberLabels, price: Option<&DeploymentPrice>, tokenizers: &Tokenizers) -> Settled {
        let read = self.read(place, price, tokenizers).filter(|usage| match price {
            Some(DeploymentPrice::ByUse(price)) => price.cost(usage, None).is_some(),
            Some(DeploymentPrice::Hourly(_)) | None => true,
        });
        read.map_or_else(|| self.bound(), Settled::Estimated)
    }
}
