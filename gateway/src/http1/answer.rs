//! The answer to one request, cut out of a buffer as it fills: head, framing and body in one, without I/O.

use bytes::BytesMut;
use http::StatusCode;

use super::answer_head::{AnswerHead, BadHead, MOST_BYTES};
use super::chunks::{BadChunk, Chunks, Piece};
use super::framing::{BadFraming, Extent, Framing};
use super::known_answers;

/// Why bytes are no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// The head is broken.
    #[error("{0}")]
    Head(#[from] BadHead),
    /// It isn't clear where the answer ends.
    #[error("{0}")]
    Framing(#[from] BadFraming),
    /// The body is not chunked, though it should be.
    #[error("{0}")]
    Chunk(#[from] BadChunk),
    /// The backend changes the protocol, which no request asks for.
    #[error("the backend changes the protocol")]
    Upgrade,
    /// Informational heads without an end.
    #[error("more than {MOST_INFORMATIONAL} informational heads came before the answer")]
    Informational,
    /// The connection ended before the answer.
    #[error("the connection ended before the answer")]
    Cut,
}

/// Most informational heads before an answer: one a second for the longest of them.
const MOST_INFORMATIONAL: u16 = 1000;

/// What the next bytes are.
#[derive(Debug)]
enum Body {
    /// Not known before the head.
    Unknown,
    Length(u64),
    Chunked(Chunks),
    UntilClose,
    Over,
}

/// One answer.
#[derive(Debug)]
pub struct Answer {
    to_head: bool,
    /// Bytes of the buffer in which no head ends.
    searched: usize,
    /// Informational heads so far.
    informational: u16,
    head: Option<AnswerHead>,
    framing: Option<Framing>,
    body: Body,
}

impl Answer {
    /// The answer to the next request on a connection; `to_head` if that is a `HEAD`.
    pub fn new(to_head: bool) -> Self {
        Answer { to_head, searched: 0, informational: 0, head: None, framing: None, body: Body::Unknown }
    }

    /// Takes the head off the front of `buffer`; `false` if more bytes are needed. Informational heads (RFC 9110, 15.2)
    /// before it are skipped.
    ///
    /// # Errors
    /// [`BadAnswer`]; then nothing more of the connection can be used.
    pub fn read_head(&mut self, buffer: &mut BytesMut) -> Result<bool, BadAnswer> {
        while self.head.is_none() {
            if buffer.is_empty() {
                return Ok(false);
            }
            // However a head is cut into reads, it is parsed twice at most.
            let parses = self.searched == 0 || has_blank_line(&buffer[self.searched.saturating_sub(3)..]);
            let Some(mut head) = (if parses { known_answers::read(buffer)? } else { None }) else {
                self.searched = buffer.len();
                return if buffer.len() <= MOST_BYTES { Ok(false) } else { Err(BadHead::TooLong.into()) };
            };
            self.searched = 0;
            if head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Err(BadAnswer::Upgrade);
            }
            if head.status.is_informational() {
                self.informational += 1;
                if self.informational > MOST_INFORMATIONAL {
                    return Err(BadAnswer::Informational);
                }
                continue;
            }
            let framing = Framing::of(&mut head, self.to_head)?;
            let whole = match framing.extent {
                Extent::Nothing => true,
                Extent::Length(length) => buffer.len() as u64 >= length,
                Extent::Chunked | Extent::UntilClose => false,
            };
            if !whole {
                // It would keep the first buffer for as long as the answer takes.
                head.detach();
            }
            self.body = match framing.extent {
                Extent::Nothing => Body::Over,
                Extent::Length(length) => Body::Length(length),
                Extent::Chunked => Body::Chunked(Chunks::default()),
                Extent::UntilClose => Body::UntilClose,
            };
            (self.head, self.framing) = (Some(head), Some(framing));
        }
        Ok(true)
    }

    /// Takes the next piece of the body off the front of `buffer`.
    ///
    /// # Errors
    /// [`BadAnswer`]; then nothing more of the connection can be used.
    pub fn read_body(&mut self, buffer: &mut BytesMut) -> Result<Piece, BadAnswer> {
        let there = buffer.len();
        match &mut self.body {
            Body::Over => Ok(Piece::End),
            Body::Unknown => Ok(Piece::More),
            Body::Length(_) | Body::UntilClose if there == 0 => Ok(Piece::More),
            Body::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(there);
                *left -= taken as u64;
                if *left == 0 {
                    self.body = Body::Over;
                }
                Ok(Piece::Data(buffer.split_to(taken).freeze()))
            }
            Body::UntilClose => Ok(Piece::Data(buffer.split().freeze())),
            Body::Chunked(chunks) => {
                let piece = chunks.next(buffer)?;
                if piece == Piece::End {
                    self.body = Body::Over;
                }
                Ok(piece)
            }
        }
    }

    /// The connection ended, and everything that was read is taken.
    ///
    /// # Errors
    /// [`BadAnswer::Cut`] if the answer doesn't end with it.
    pub fn closed(&mut self) -> Result<(), BadAnswer> {
        match self.body {
            Body::UntilClose | Body::Over => {
                self.body = Body::Over;
                Ok(())
            }
            Body::Unknown | Body::Length(_) | Body::Chunked(_) => Err(BadAnswer::Cut),
        }
    }

    /// Its head, once it was read.
    pub fn head(&self) -> Option<&AnswerHead> {
        self.head.as_ref()
    }

    /// How it ends, once the head was read.
    pub fn framing(&self) -> Option<&Framing> {
        self.framing.as_ref()
    }

    /// Bytes that are known to come.
    pub fn left(&self) -> u64 {
        match &self.body {
            Body::Length(left) => *left,
            Body::Chunked(chunks) => chunks.left().unwrap_or(0),
            Body::Unknown | Body::UntilClose | Body::Over => 0,
        }
    }

    /// Whether it was read to its end.
    pub fn is_over(&self) -> bool {
        matches!(self.body, Body::Over)
    }

    /// Whether another request may follow it.
    pub fn keeps_alive(&self) -> bool {
        self.framing.is_some_and(|framing| framing.keeps_alive)
    }
}

/// Whether an empty line ends here.
pub fn has_blank_line(bytes: &[u8]) -> bool {
    memchr::memchr_iter(b'\n', bytes).any(|at| matches!(bytes[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]))
}

#[cfg(test)]
mod tests;
