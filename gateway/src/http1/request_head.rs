//! The head of a request as bytes (RFC 9112, sections 3 and 5).

use bytes::{BufMut as _, BytesMut};
use pingora::http::RequestHeader;

/// Room for most heads.
const USUAL: usize = 1024;

/// Why a head can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// The target has a byte that ends it.
    #[error("a request's target has a space, a line end or a control character")]
    Target,
    /// A value has a byte that ends it. The type of values lets none in.
    #[error("a field of a request has a line end")]
    Value,
}

/// Writes a head. Names are in small letters.
///
/// # Errors
/// [`Unwritable`]: nothing in it may end a line early.
pub fn write(head: &RequestHeader) -> Result<BytesMut, Unwritable> {
    let target = head.raw_path();
    if target.is_empty() || target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
        return Err(Unwritable::Target);
    }
    let mut bytes = BytesMut::with_capacity(USUAL);
    bytes.put_slice(head.method.as_str().as_bytes());
    bytes.put_u8(b' ');
    bytes.put_slice(target);
    bytes.put_slice(b" HTTP/1.1\r\n");
    for (name, value) in &head.headers {
        let value = value.as_bytes();
        if memchr::memchr2(b'\r', b'\n', value).is_some() {
            return Err(Unwritable::Value);
        }
        bytes.reserve(name.as_str().len() + value.len() + 4);
        bytes.put_slice(name.as_str().as_bytes());
        bytes.put_slice(b": ");
        bytes.put_slice(value);
        bytes.put_slice(b"\r\n");
    }
    bytes.put_slice(b"\r\n");
    Ok(bytes)
}

#[cfg(test)]
mod tests;
