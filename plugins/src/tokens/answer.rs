//! The usage of a plain answer: the members `usage`, `tool_usage` and `service_tier` of its top level, anywhere in the
//! text.
//!
//! Callers' own data can be part of an answer (metadata, tools, schemas), so a `usage` in an inner object doesn't
//! count.

use std::sync::LazyLock;

use memchr::memmem::{Finder, FinderRev};

use super::Reported;
use crate::excerpt::{self, Excerpt};
use crate::json::{Reader, Value};

/// Reads an answer that arrives in pieces, in constant memory.
#[derive(Debug, Default)]
pub struct AnswerUsage {
    excerpt: Option<Box<Excerpt>>,
    length: u64,
}

impl AnswerUsage {
    /// Reads the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        self.length += piece.len() as u64;
        self.excerpt.get_or_insert_with(|| Box::new(Excerpt::new(excerpt::usage))).push(piece);
    }

    /// The number of bytes so far.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What the answer has reported so far.
    pub fn read(&self) -> Reported {
        let mut reported = Reported::default();
        if let Some(excerpt) = &self.excerpt {
            let text = excerpt.text();
            // Members before the end of an incomplete text have been read.
            let _ = Reader::new(text).members(|key, value| reported.read_member(text, key, &value));
        }
        reported
    }
}

/// How much of an answer's end is searched first: usage is mostly there.
const END: usize = 16 * 1024;

/// The usage in a complete plain JSON answer, and the service tier that it names.
pub fn read_whole(answer: &[u8]) -> Reported {
    // It is not in `usage`, and not always next to it.
    static TOOLS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"tool_usage\""));
    static TIER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"service_tier\""));
    let end = &answer[answer.len().saturating_sub(END)..];
    let found = last_usage(end).map(|at| &end[at..]);
    // Mostly it is named once, if at all.
    let named = TIER.find_iter(answer).last().map(|at| &answer[at + TIER.needle().len()..]);
    if found.is_none() && named.is_none() && end.len() == answer.len() {
        return Reported::default();
    }
    if let Some((rest, usage)) = found.and_then(|rest| Some((rest, last_member(rest)?)))
        && TOOLS.find(answer).is_none()
    {
        let mut reported = Reported::default();
        reported.read(rest, &usage);
        let Some(rest) = named.filter(|_| reported.service_tier().is_none()) else { return reported };
        if let Some(tier) = last_member(rest) {
            reported.read_service_tier(rest, &tier);
            return reported;
        }
    }
    let mut whole = AnswerUsage::default();
    whole.push(answer);
    whole.read()
}

/// Where the text after the last `"usage"` begins.
fn last_usage(text: &[u8]) -> Option<usize> {
    const KEY: &[u8] = b"\"usage\"";
    /// Where it mostly is. Searching forwards is faster, but needs all of it.
    const NEAR: usize = 512;
    static FORWARDS: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(KEY));
    static BACKWARDS: LazyLock<FinderRev<'static>> = LazyLock::new(|| FinderRev::new(KEY));
    let near = text.len().saturating_sub(NEAR);
    let found = FORWARDS.find_iter(&text[near..]).last().map(|at| near + at);
    let found = found.or_else(|| BACKWARDS.rfind(&text[..(near + KEY.len()).min(text.len())]));
    found.map(|at| at + KEY.len())
}

/// The value of a key at the top level, from the text after the key. Quotes inside texts are escaped, so `"usage"` is
/// always a whole string; and if the text after it ends exactly one object, the key is at the top level.
fn last_member(rest: &[u8]) -> Option<Value> {
    Reader::new(rest).from_key().ok()
}
