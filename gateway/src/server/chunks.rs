//! Checks the line ends of a chunked body (RFC 9112, section 7.1) while its bytes arrive. Pingora accepts any byte in a
//! chunk extension, also a line feed alone, where other readers end the line and read the rest as a chunk.

/// The reader's position in a chunked body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Chunks {
    /// Before a chunk's size.
    #[default]
    Begin,
    /// In the digits of a size, whose value so far is this.
    Size(u64),
    /// In the extensions of a chunk of this size.
    Extension(u64),
    /// After the CR of such a line.
    LineEnd(u64),
    /// In the data, with so many bytes left, line end included.
    Data(u64),
    /// In the last chunk, or after it: Pingora itself checks the CRLFs of trailers.
    Last,
    /// Two readers could read it in different ways.
    Broken,
}

impl Chunks {
    /// Reads the next bytes.
    pub(super) fn push(&mut self, mut bytes: &[u8]) {
        while let [byte, rest @ ..] = bytes {
            bytes = rest;
            *self = match (*self, *byte) {
                (Chunks::Last | Chunks::Broken, _) => return,
                (Chunks::Data(left), _) => {
                    let passed = left.min(rest.len() as u64 + 1);
                    // At most the length of `rest`, which is a usize.
                    bytes = &rest[passed as usize - 1..];
                    match left - passed {
                        0 => Chunks::Begin,
                        left => Chunks::Data(left),
                    }
                }
                (Chunks::Begin, byte) => digit(byte).map_or(Chunks::Broken, Chunks::Size),
                (Chunks::Size(size), b'\r') => Chunks::LineEnd(size),
                (Chunks::Size(size), b' ' | b'\t' | b';') => Chunks::Extension(size),
                (Chunks::Size(size), byte) => match (digit(byte), size.checked_mul(16)) {
                    (Some(digit), Some(size)) => Chunks::Size(size + digit),
                    _ => Chunks::Broken,
                },
                (Chunks::Extension(size), b'\r') => Chunks::LineEnd(size),
                (Chunks::Extension(_), b'\n') => Chunks::Broken,
                (Chunks::Extension(size), _) => Chunks::Extension(size),
                (Chunks::LineEnd(0), b'\n') => Chunks::Last,
                (Chunks::LineEnd(size), b'\n') => size.checked_add(2).map_or(Chunks::Broken, Chunks::Data),
                (Chunks::LineEnd(_), _) => Chunks::Broken,
            };
        }
    }

    pub(super) fn is_broken(self) -> bool {
        self == Chunks::Broken
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Chunks {
        let mut chunks = Chunks::default();
        pieces.into_iter().for_each(|piece| chunks.push(piece));
        chunks
    }

    #[test]
    fn lines_end_with_both_bytes_or_are_broken() {
        for (body, broken) in [
            ("5\r\nhello\r\n0\r\n\r\n", false),
            ("5;a=\"b\"\r\nhello\r\n0;x\r\nt: y\r\n\r\n", false),
            ("5 ;a\r\nhel\no\r\n0\r\n", false),
            ("A\r\n0123456789\r\na\r\n0123456789\r\n000\r\n", false),
            ("5;a\nhello\r\n0\r\n\r\n", true),
            ("5\nhello\r\n0\r\n\r\n", true),
            ("5;\rhello\r\n0\r\n\r\n", true),
            ("5\r\nhello\r\n0;\n\r\n\r\n", true),
            ("\r\n5\r\nhello", true),
            ("{\"model\":\"m\"}", true),
            ("fffffffffffffffff\r\n", true),
            ("ffffffffffffffff\r\n", true),
        ] {
            for size in 1..=body.len() {
                assert_eq!(read(body.as_bytes().chunks(size)).is_broken(), broken, "{body:?} by {size}");
            }
        }
    }

    proptest! {
        /// Whatever the data and the extensions are, and however they are split: what another writer wrote is accepted.
        #[test]
        fn well_formed_bodies_pass(
            chunks in proptest::collection::vec((proptest::collection::vec(any::<u8>(), 1..40), "[ ;][^\r\n]{0,8}|"), 0..8),
            cut in 1usize..50,
        ) {
            let mut body = Vec::new();
            for (data, extension) in &chunks {
                body.extend(format!("{:x}{extension}\r\n", data.len()).into_bytes());
                body.extend(data);
                body.extend(b"\r\n");
            }
            body.extend(b"0\r\n\r\n");
            prop_assert_eq!(read(body.chunks(cut)), Chunks::Last);
        }
    }
}
