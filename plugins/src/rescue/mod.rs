//! A stream that broke after its first output, completed by another stream with the same content.
//!
//! [`Sent`] records what the caller gets. If the stream breaks, the same request is sent once more, and [`Splice`]
//! reads the second stream: it removes what the caller has, and passes the rest on. It compares the text of each
//! channel (a choice, an item's part, a block) as a caller assembles it, not how it was split into events. Nothing of
//! the second stream is sent before it has repeated everything that was sent, and the first difference ends it.
//!
//! A response in the background continues when its stream breaks: [`Resumed`] reads the rest of the same response.

mod chat;
mod messages;
mod record;
mod responses;
mod resumed;
mod side;
mod splice;
#[cfg(test)]
mod tests;
mod walk;

use bytes::Bytes;
pub use record::Sent;
pub use resumed::Resumed;
pub use side::Difference;
pub use splice::Splice;

/// Reads a second stream.
#[derive(Debug)]
pub enum Continuation {
    /// Another answer to the same request, which must repeat the first one.
    Again(Box<Splice>),
    /// The rest of the same answer.
    Same(Resumed),
}

impl Continuation {
    /// Reads the next bytes of the second stream. Returns what is sent to the caller.
    ///
    /// # Errors
    /// [`Difference`]: nothing more can be sent to the caller.
    pub fn feed(&mut self, bytes: Bytes) -> Result<Bytes, Difference> {
        match self {
            Continuation::Again(splice) => splice.feed(bytes),
            Continuation::Same(resumed) => Ok(resumed.feed(bytes)),
        }
    }

    /// The second stream has ended.
    ///
    /// # Errors
    /// [`Difference::Ended`] if it has not repeated everything that was sent.
    pub fn end(&mut self) -> Result<Bytes, Difference> {
        match self {
            Continuation::Again(splice) => splice.end(),
            Continuation::Same(resumed) => Ok(resumed.end()),
        }
    }

    /// The number of the last event that was sent to the caller, if events are numbered.
    pub fn sequence(&self) -> Option<u64> {
        match self {
            Continuation::Again(splice) => splice.sequence(),
            Continuation::Same(resumed) => Some(resumed.last()),
        }
    }
}
