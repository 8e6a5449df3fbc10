//! What proves with a key who the gateway is, and what a signature can cover.

use std::fmt::Debug;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use ring::digest::{Context, SHA256};

use crate::http1::request_head::RequestHead;

/// The key can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key can't be used")]
pub struct BadKey;

/// What a signature can cover beside the request's head.
#[derive(Debug, Clone, Copy)]
pub struct Signing<'a> {
    /// The body, in pieces; `None` if it is sent as it comes.
    pub body: Option<&'a [Bytes]>,
    /// The time on the wall.
    pub wall: DateTime<Utc>,
}

impl Signing<'_> {
    /// For a request without a body.
    pub fn without_body(wall: DateTime<Utc>) -> Self {
        Signing { body: Some(&[]), wall }
    }

    /// The body's SHA-256; `None` if it is sent as it comes. Only signatures cost this.
    pub fn body_sha256(&self) -> Option<[u8; 32]> {
        let mut context = Context::new(&SHA256);
        self.body?.iter().for_each(|piece| context.update(piece));
        context.finish().as_ref().try_into().ok()
    }
}

/// Proves with a key who the gateway is. It runs after everything else is in the head, and never waits.
pub trait Signer: Debug + Send + Sync {
    /// Adds what proves it to `head`.
    ///
    /// # Errors
    /// If the key can't be used.
    fn sign(&self, head: &mut RequestHead, signing: &Signing<'_>) -> Result<(), BadKey>;
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use http::{HeaderName, Method};

    use super::*;

    /// Signs what AWS's and others' signatures cover.
    #[derive(Debug)]
    struct Covers;

    impl Signer for Covers {
        fn sign(&self, head: &mut RequestHead, signing: &Signing<'_>) -> Result<(), BadKey> {
            let hash = signing.body_sha256().map_or("streamed".to_owned(), |hash| {
                hash.iter().fold(String::new(), |mut text, byte| {
                    let _ = write!(text, "{byte:02x}");
                    text
                })
            });
            let covered = format!("{} {} {} {hash}", head.method(), String::from_utf8_lossy(head.target()), signing.wall.timestamp());
            head.require(&HeaderName::from_static("signature"), covered.as_bytes()).map_err(|_| BadKey)
        }
    }

    #[test]
    fn a_signature_covers_head_body_and_time() {
        let signed = |body: Option<&[Bytes]>| {
            let mut head = RequestHead::new(Method::POST, b"/v1/x?a=b").unwrap();
            let wall = DateTime::from_timestamp(1_440_938_160, 0).unwrap();
            Covers.sign(&mut head, &Signing { body, wall }).unwrap();
            String::from_utf8(head.get("signature").unwrap().to_vec()).unwrap()
        };
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(signed(Some(&["abc".into()])), format!("POST /v1/x?a=b 1440938160 {abc}"));
        assert_eq!(signed(Some(&["a".into(), "".into(), "bc".into()])), signed(Some(&["abc".into()])));
        assert_eq!(signed(None), "POST /v1/x?a=b 1440938160 streamed");
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert!(signed(Some(&[])).ends_with(empty));
    }
}
