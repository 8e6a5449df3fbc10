//! The steps of an answer that took several (Anthropic's `usage.iterations`): which of them the answer's own counts leave
//! out, and which have a price of their own.
//!
//! Source: the Anthropic SDK's `BetaUsage`. Its own counts include neither compactions nor what an advisor used, which is
//! another model. They may have the input of the first step only, so the steps count if their sum is more.

use std::sync::Arc;

use super::{Reported, Usage, counts};
use crate::api::Api;
use crate::json::{Kind, Reader, Value};

/// Most parts that are priced one by one; more have the price of the rest.
const MOST_PARTS: usize = 64;

/// A part of an answer's usage that has a price of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The model that did it; `None`: the one that was asked, in a request of its own.
    pub model: Option<Box<str>>,
    /// What it used. It is contained in the answer's usage.
    pub usage: Usage,
}

/// What the steps of an answer used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Steps {
    /// Those that the answer's own counts should include.
    within: Usage,
    /// Those that they don't include.
    beside: Usage,
    /// Those with a price of their own.
    parts: Vec<Part>,
}

impl Steps {
    /// Reads the list of steps.
    pub(super) fn read(text: &[u8], list: &Value) -> Self {
        let mut steps = Steps::default();
        if list.kind == Kind::Array {
            let _ = Reader::within(text, list).array(|step| steps.read_step(text, &step));
        }
        steps
    }

    fn read_step(&mut self, text: &[u8], step: &Value) {
        let (mut reported, mut beside, mut compaction, mut model) = (Reported::default(), false, false, None);
        counts(text, step, |key, value, number| match key {
            b"type" => {
                let kind = value.as_str(text).unwrap_or_default();
                compaction = kind == "compaction";
                beside = compaction || kind == "advisor_message";
            }
            b"model" => model = value.as_str(text).filter(|name| !name.is_empty()).map(|name| Box::from(&*name)),
            _ => reported.read_count(text, key, value, number),
        });
        let usage = reported.counted(Api::Messages);
        if beside {
            self.beside.add(&usage)
        } else {
            self.within.add(&usage)
        }
        if (compaction || model.is_some()) && self.parts.len() < MOST_PARTS {
            self.parts.push(Part { model, usage });
        }
    }

    /// All that they used.
    pub(super) fn tokens(&self) -> u64 {
        self.within.tokens().saturating_add(self.beside.tokens())
    }

    /// The usage of an answer with these steps, whose own counts are `own`.
    pub(super) fn complete(&self, own: &Usage) -> Usage {
        let mut usage = own.most(&self.within);
        usage.add(&self.beside);
        usage
    }

    pub(super) fn parts(&self) -> Arc<[Part]> {
        self.parts.as_slice().into()
    }
}
