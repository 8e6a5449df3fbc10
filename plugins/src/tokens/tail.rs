//! The usage of a plain answer stands near its end: only that is kept, however long the answer is.

use std::sync::LazyLock;

use memchr::memmem::FinderRev;

use super::Reported;
use crate::json::Reader;

/// How much of an answer's end is kept.
const KEPT: usize = 16 * 1024;

/// The end of a plain JSON answer.
#[derive(Debug, Default)]
pub struct UsageTail(Vec<u8>);

impl UsageTail {
    /// Takes the next piece.
    pub fn push(&mut self, piece: &[u8]) {
        let piece = &piece[piece.len().saturating_sub(KEPT)..];
        let surplus = (self.0.len() + piece.len()).saturating_sub(KEPT);
        self.0.drain(..surplus.min(self.0.len()));
        self.0.extend_from_slice(piece);
    }

    /// What the answer reports.
    pub fn read(&self) -> Reported {
        read(&self.0)
    }
}

/// What a plain JSON answer reports, from its end.
pub fn read_end(answer: &[u8]) -> Reported {
    read(&answer[answer.len().saturating_sub(KEPT)..])
}

/// Reads the last `"usage": {…}` of a text that may begin anywhere, with counts in it. Quotes inside of texts
/// are escaped, so this can stand nowhere but at a key; what callers call so themselves (metadata that is
/// echoed) holds texts.
fn read(text: &[u8]) -> Reported {
    static KEY: LazyLock<FinderRev<'static>> = LazyLock::new(|| FinderRev::new(b"\"usage\""));
    let mut reported = Reported::default();
    for at in KEY.rfind_iter(text) {
        let rest = &text[at + KEY.needle().len()..];
        let Some(value) = rest.trim_ascii_start().strip_prefix(b":") else { continue };
        if let Ok(usage) = Reader::new(value).value(0) {
            reported.read(value, &usage);
        }
        if reported != Reported::default() {
            break;
        }
    }
    reported
}
