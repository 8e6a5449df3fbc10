//! The chunked coding (RFC 9112, section 7.1), decoded in the buffer that it was read into: data is handed out without
//! copying. Lines end with CR and LF, nothing else; what two readers could understand differently is an error.

use bytes::{Buf, Bytes, BytesMut};

/// Most bytes of a line behind the size: whitespace and extensions, which are dropped.
pub const MOST_EXTENSION: usize = 8 * 1024;
/// Most bytes of all trailers, which are dropped.
pub const MOST_TRAILERS: usize = 64 * 1024;
/// Most digits of a size: 64 bits.
const MOST_DIGITS: u8 = 16;

/// Why a body is not chunked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadChunk {
    /// A size is no hexadecimal number of 64 bits.
    #[error("a chunk has no valid size")]
    Size,
    /// A line doesn't end with CR and LF, or data is longer than its size says.
    #[error("a chunk has no valid end")]
    LineEnd,
    /// A line has more than [`MOST_EXTENSION`] bytes behind the size.
    #[error("a chunk's extension is longer than {MOST_EXTENSION} bytes")]
    Extension,
    /// There are more than [`MOST_TRAILERS`] bytes of trailers.
    #[error("the trailers are longer than {MOST_TRAILERS} bytes")]
    Trailers,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Data: a chunk, or the part of one that is there.
    Data(Bytes),
    /// The buffer has nothing more; the body goes on.
    More,
    /// The body is over. What is left in the buffer is not part of it.
    End,
}

/// Where in a body the decoder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a size.
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind a size, in whitespace; `length` bytes of the line are there.
    Space {
        size: u64,
        length: usize,
    },
    /// Behind a size, in extensions.
    Extension {
        size: u64,
        length: usize,
    },
    /// Behind a size line's CR.
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    /// At the start of a line behind the last chunk. `length` bytes of trailers are there.
    Trailers {
        length: usize,
    },
    Trailer {
        length: usize,
    },
    TrailerLf {
        length: usize,
    },
    EndLf,
    Over,
}

/// Decodes one body.
#[derive(Debug)]
pub struct Chunks(State);

impl Default for Chunks {
    fn default() -> Self {
        Chunks(State::Size { size: 0, digits: 0 })
    }
}

impl Chunks {
    /// Takes the next piece off the front of `buffer`.
    ///
    /// # Errors
    /// [`BadChunk`]; then nothing more of the connection can be used.
    pub fn next(&mut self, buffer: &mut BytesMut) -> Result<Piece, BadChunk> {
        if let Some((length, size)) = self.usual(buffer) {
            buffer.advance(length);
            self.0 = State::Data { left: size };
        }
        let mut at = 0;
        loop {
            if let State::Data { left } = self.0 {
                buffer.advance(at);
                if buffer.is_empty() {
                    return Ok(Piece::More);
                }
                let there = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                let left = left - there as u64;
                self.0 = if left == 0 { State::DataCr } else { State::Data { left } };
                return Ok(Piece::Data(buffer.split_to(there).freeze()));
            }
            let over = self.0 == State::Over;
            let Some(byte) = buffer.get(at).filter(|_| !over) else {
                buffer.advance(at);
                return Ok(if over { Piece::End } else { Piece::More });
            };
            self.0 = after(self.0, *byte)?;
            at += 1;
        }
    }

    /// The lines up to the next chunk's data, if they are all there and have no more than they need: their length, and the size.
    fn usual(&self, bytes: &[u8]) -> Option<(usize, u64)> {
        let begin = match self.0 {
            State::Size { digits: 0, .. } => 0,
            State::DataCr if bytes.starts_with(b"\r\n") => 2,
            _ => return None,
        };
        let (mut at, mut size) = (begin, 0);
        loop {
            let digit = match *bytes.get(at)? {
                digit @ b'0'..=b'9' => digit - b'0',
                digit @ b'a'..=b'f' => digit - b'a' + 10,
                b'\r' if size > 0 && bytes.get(at + 1) == Some(&b'\n') => return Some((at + 2, size)),
                _ => return None,
            };
            size = size << 4 | u64::from(digit);
            at += 1;
            if at - begin > 8 {
                return None;
            }
        }
    }

    /// Bytes of data that are known to come, if it is in a chunk.
    pub fn left(&self) -> Option<u64> {
        match self.0 {
            State::Data { left } => Some(left),
            _ => None,
        }
    }
}

/// The state behind a byte that is not data.
fn after(state: State, byte: u8) -> Result<State, BadChunk> {
    Ok(match (state, byte) {
        (State::Size { size, digits }, byte) if byte.is_ascii_hexdigit() => {
            if digits == MOST_DIGITS {
                return Err(BadChunk::Size);
            }
            let digit = char::from(byte).to_digit(16).unwrap_or(0);
            State::Size { size: size << 4 | u64::from(digit), digits: digits + 1 }
        }
        (State::Size { digits: 0, .. }, _) => return Err(BadChunk::Size),
        (State::Size { size, .. } | State::Space { size, .. } | State::Extension { size, .. }, b'\r') => State::SizeLf { size },
        (State::Size { size, .. }, b' ' | b'\t') => State::Space { size, length: 1 },
        (State::Size { size, .. }, b';') => State::Extension { size, length: 1 },
        (State::Size { .. }, _) => return Err(BadChunk::Size),
        (State::Space { length, .. } | State::Extension { length, .. }, _) if length == MOST_EXTENSION => return Err(BadChunk::Extension),
        (State::Space { size, length }, b' ' | b'\t') => State::Space { size, length: length + 1 },
        (State::Space { size, length }, b';') => State::Extension { size, length: length + 1 },
        (State::Space { .. }, _) => return Err(BadChunk::Size),
        (State::Extension { .. }, b'\n') => return Err(BadChunk::LineEnd),
        (State::Extension { size, length }, _) => State::Extension { size, length: length + 1 },
        (State::SizeLf { size: 0 }, b'\n') => State::Trailers { length: 0 },
        (State::SizeLf { size }, b'\n') => State::Data { left: size },
        (State::DataCr, b'\r') => State::DataLf,
        (State::DataLf, b'\n') => State::Size { size: 0, digits: 0 },
        (State::Trailers { .. }, b'\r') => State::EndLf,
        (State::EndLf, b'\n') => State::Over,
        (State::Trailers { length } | State::Trailer { length }, _) if length == MOST_TRAILERS => return Err(BadChunk::Trailers),
        (State::Trailer { length }, b'\r') => State::TrailerLf { length: length + 1 },
        (State::TrailerLf { length }, b'\n') => State::Trailers { length },
        (State::Trailers { .. } | State::Trailer { .. }, b'\n') => return Err(BadChunk::LineEnd),
        (State::Trailers { length } | State::Trailer { length }, _) => State::Trailer { length: length + 1 },
        (State::SizeLf { .. } | State::DataCr | State::DataLf | State::TrailerLf { .. } | State::EndLf, _) => {
            return Err(BadChunk::LineEnd);
        }
        (state @ (State::Data { .. } | State::Over), _) => state,
    })
}

#[cfg(test)]
mod tests;
