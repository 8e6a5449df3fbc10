//! How an answer ends (RFC 9112, section 6.3), and whether its connection can be used again (9.3).
//!
//! Whatever two readers could understand differently is refused, or ends with its connection: the bytes behind such an
//! answer must never be taken for the next one.

use http::{StatusCode, Version};

use super::answer_head::AnswerHead;

/// Where the body ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// There is none.
    Nothing,
    /// After this many bytes.
    Length(u64),
    /// With its last chunk.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// Why it isn't clear where an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFraming {
    /// A `Content-Length` is no number, or there are different ones.
    #[error("the answer has no clear Content-Length")]
    Length,
    /// A `Transfer-Encoding` has an empty element, or `chunked` before its end.
    #[error("the answer has no clear Transfer-Encoding")]
    Coding,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Framing {
    /// Where the body ends.
    pub extent: Extent,
    /// Whether another request may follow on the connection.
    pub keeps_alive: bool,
    /// The length that the head names, even if there is no body.
    pub length: Option<u64>,
}

impl Framing {
    /// Reads it from a head; `to_head` if the request was a `HEAD`. Afterwards the head has at most one
    /// `Content-Length`, and none beside a `Transfer-Encoding`.
    ///
    /// # Errors
    /// [`BadFraming`]
    pub fn of(head: &mut AnswerHead, to_head: bool) -> Result<Self, BadFraming> {
        let coding = coding(head)?;
        let (mut length, lengths) = length(head)?;
        let mut keeps_alive = keeps_alive(head);
        if coding != Coding::None {
            // Beside a length, and in HTTP/1.0, readers disagree about it.
            keeps_alive &= lengths == 0 && head.version == Version::HTTP_11;
            length = None;
            head.remove("content-length");
        } else if lengths > 1 {
            head.keep_first_element("content-length");
        }
        let bodiless =
            to_head || head.status.is_informational() || matches!(head.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let extent = match (coding, length) {
            _ if bodiless => Extent::Nothing,
            (Coding::Chunked, _) => Extent::Chunked,
            (Coding::None, Some(0)) => Extent::Nothing,
            (Coding::None, Some(length)) => Extent::Length(length),
            (Coding::None, None) | (Coding::Other, _) => Extent::UntilClose,
        };
        Ok(Framing { extent, keeps_alive: keeps_alive && extent != Extent::UntilClose, length })
    }
}

/// What the body is coded in for its transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    None,
    Chunked,
    /// The last coding isn't `chunked`.
    Other,
}

fn elements<'h>(head: &'h AnswerHead, name: &'h str) -> impl Iterator<Item = &'h [u8]> {
    head.all(name).flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii)
}

fn coding(head: &AnswerHead) -> Result<Coding, BadFraming> {
    let mut last = Coding::None;
    for element in elements(head, "transfer-encoding") {
        if element.is_empty() || last == Coding::Chunked {
            return Err(BadFraming::Coding);
        }
        last = if element.eq_ignore_ascii_case(b"chunked") { Coding::Chunked } else { Coding::Other };
    }
    Ok(last)
}

/// The length, and how often it is there.
fn length(head: &AnswerHead) -> Result<(Option<u64>, usize), BadFraming> {
    let (mut length, mut count) = (None, 0);
    for element in elements(head, "content-length") {
        let number = decimal(element).ok_or(BadFraming::Length)?;
        if length.replace(number).is_some_and(|other| other != number) {
            return Err(BadFraming::Length);
        }
        count += 1;
    }
    Ok((length, count))
}

/// A number of digits only.
fn decimal(digits: &[u8]) -> Option<u64> {
    let add =
        |number: u64, digit: &u8| number.checked_mul(10)?.checked_add(u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?));
    digits.iter().try_fold(0, add).filter(|_| !digits.is_empty())
}

fn keeps_alive(head: &AnswerHead) -> bool {
    let says = |word: &[u8]| elements(head, "connection").any(|element| element.eq_ignore_ascii_case(word));
    !says(b"close") && (head.version == Version::HTTP_11 || says(b"keep-alive"))
}

#[cfg(test)]
mod tests;
