//! How much text a stream has brought so far, for an estimate if it ends without saying. Memory is
//! bounded: the beginning is kept as it is, of the rest only the length.

use super::Encoding;
use crate::json::{Kind, Value};

/// How much of the text is kept.
const SAMPLE: usize = 2048;

/// Measures the text of a streamed answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputMeter {
    sample: String,
    /// Bytes of the sample as they stood in JSON.
    sampled: u64,
    /// Bytes of the whole text as they stood in JSON.
    bytes: u64,
}

impl OutputMeter {
    /// Takes a piece of text: a JSON string in `data`. Anything else is no text.
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

    /// Counts text that was too long to be taken.
    pub fn pass_over(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// Whether no text has come.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// About how many tokens the text has, by its length alone.
    pub fn bound(&self) -> u64 {
        self.bytes.div_ceil(4)
    }

    /// How many tokens the text has: counted in the sample, and as dense in the rest.
    pub fn tokens(&self, encoding: Encoding) -> u64 {
        if self.sampled == 0 {
            return 0;
        }
        let counted = encoding.count(&self.sample) as f64;
        (counted * self.bytes as f64 / self.sampled as f64).ceil() as u64
    }
}
