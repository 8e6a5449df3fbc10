//! Measures the text of a stream so far, for an estimate if it ends without usage. Memory is bounded: only the
//! beginning is kept, and the length of the rest.

use super::tokenizer::Tokenizer;
use crate::json::{Kind, Value};

/// How much of the text is kept.
const SAMPLE: usize = 2048;

/// Measures the text of a streamed answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputMeter {
    sample: String,
    /// Bytes of the sample in its JSON form.
    sampled: u64,
    /// Bytes of the whole text in its JSON form.
    bytes: u64,
}

impl OutputMeter {
    /// Adds a piece of text: a JSON string in `data`. Other values are ignored.
    pub fn push(&mut self, data: &[u8], value: &Value) {
        if value.kind != Kind::String {
            return;
        }
        let length = value.range.len().saturating_sub(2) as u64;
        self.bytes += length;
        if self.sample.len() < SAMPLE
            && let Some(text) = value.as_str(data)
        {
            self.sample.push_str(&text);
            self.sampled += length;
        }
    }

    /// Counts text that was too long to be kept.
    pub fn pass_over(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Whether there is no text so far.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The approximate number of tokens, by the text's length alone.
    pub fn bound(&self) -> u64 {
        self.bytes.div_ceil(4)
    }

    /// The number of tokens: counted in the sample, and with the same density in the rest.
    pub fn tokens(&self, tokenizer: &Tokenizer) -> u64 {
        if self.sampled == 0 {
            return 0;
        }
        let counted = tokenizer.count(&self.sample) as f64;
        (counted * self.bytes as f64 / self.sampled as f64).ceil() as u64
    }
}
