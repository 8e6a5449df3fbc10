//! A stream was requested, but the answer doesn't say what it is: its first bytes decide.

use super::Deliverer;
use crate::balance::circuit::ErrorKind;
use crate::proxy::body_pieces::BodyPieces;
use crate::proxy::delivery::{Delivery, ReplaceReason};
use crate::proxy::exchange::{BodyEvent, Broken};
use crate::proxy::output_timeout;

/// How an event stream can begin: with an event's field, or a comment.
const BEGINNINGS: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];
/// Bytes that are enough to decide, with a byte order mark and empty lines.
const LOOK: usize = 64;

impl Deliverer<'_, '_, '_> {
    /// Whether it is an event stream. Bytes that are read for that are added to `held`.
    pub(super) async fn looks_like_a_stream(&mut self, held: &mut BodyPieces) -> Result<bool, Delivery> {
        let until = self.attempt.state.began + output_timeout::first(self.attempt.model_request);
        let mut beginning = held.concat();
        loop {
            if let Some(looks) = is_stream(&beginning) {
                return Ok(looks);
            }
            match self.next(until).await {
                Ok(BodyEvent::Data(bytes)) => {
                    beginning.extend_from_slice(&bytes[..bytes.len().min(LOOK)]);
                    held.push(bytes);
                }
                // The next reader sees the end again.
                Ok(BodyEvent::End) => return Ok(false),
                Ok(BodyEvent::Quiet) => return Err(Delivery::Replace(ReplaceReason::Broken(Broken::Upstream(ErrorKind::FirstToken)))),
                Err(Broken::CallerLeft) => return Err(Delivery::CallerLeft),
                Err(broken) => return Err(Delivery::Replace(ReplaceReason::Broken(broken))),
            }
        }
    }
}

/// Whether a body with this beginning is an event stream; `None` if that is too little to decide.
fn is_stream(beginning: &[u8]) -> Option<bool> {
    let text = beginning.strip_prefix(b"\xef\xbb\xbf").unwrap_or(beginning);
    let text = text.trim_ascii_start();
    if BEGINNINGS.iter().any(|field| text.starts_with(field)) {
        return Some(true);
    }
    let may_become = BEGINNINGS.iter().any(|field| field.starts_with(text)) || b"\xef\xbb\xbf".starts_with(beginning);
    if may_become && beginning.len() < LOOK { None } else { Some(false) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_bytes_say_what_it_is() {
        for (text, expected) in [
            ("", None),
            ("da", None),
            ("\n\n", None),
            ("data: {}", Some(true)),
            ("\u{feff}event: x", Some(true)),
            (": ping", Some(true)),
            ("{\"data\":", Some(false)),
            ("dates", Some(false)),
            ("<html>", Some(false)),
        ] {
            assert_eq!(is_stream(text.as_bytes()), expected, "{text:?}");
        }
        assert_eq!(is_stream(b"\xef\xbb"), None);
        assert_eq!(is_stream(&b" ".repeat(LOOK)), Some(false));
    }
}
