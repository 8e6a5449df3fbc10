//! The head of a request to a backend as it is written (RFC 9112, sections 3 and 5).

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};
use pingora::http::RequestHeader;

use super::fields::{FieldLines, HeadFields, is_value};

/// Room for most heads.
const USUAL: usize = 1024;

/// Why a head can't be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unwritable {
    /// The target has a byte that ends it.
    #[error("a request's target has a space, a line end or a control character")]
    Target,
    /// A value has a byte that ends it.
    #[error("a field of a request has a line end")]
    Value,
}

/// A head. Its first line doesn't change; fields are added behind it.
#[derive(Clone)]
pub struct RequestHead {
    method: Method,
    /// Length of the target, which stands behind the method.
    target: usize,
    fields: FieldLines,
}

impl RequestHead {
    /// A head without fields. The target is a path with its query.
    ///
    /// # Errors
    /// [`Unwritable::Target`]: nothing in it may end the line early.
    pub fn new(method: Method, target: &[u8]) -> Result<Self, Unwritable> {
        if target.is_empty() || target.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
            return Err(Unwritable::Target);
        }
        let mut line = Vec::with_capacity(USUAL.max(target.len() + USUAL / 2));
        for part in [method.as_str().as_bytes(), b" ", target, b" HTTP/1.1\r\n"] {
            line.extend_from_slice(part);
        }
        Ok(RequestHead { method, target: target.len(), fields: FieldLines::behind(line) })
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.method
    }

    /// The path with its query.
    pub fn target(&self) -> &[u8] {
        let begin = self.method.as_str().len() + 1;
        &self.fields.begin(begin + self.target)[begin..]
    }

    /// The fields in their order; names are in small letters.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter()
    }

    /// The first value of a field, whose name is given in small letters.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.fields.get(name)
    }

    /// Adds a field of a head that was parsed: `name` is in small letters, and `value` has no control characters.
    pub fn add_parsed(&mut self, name: &str, value: &[u8]) {
        self.fields.add_parsed(name, value);
    }

    /// Adds a field that has to be there.
    ///
    /// # Errors
    /// [`Unwritable::Value`]
    pub fn require(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), Unwritable> {
        is_value(value).then(|| self.fields.add_parsed(name.as_str(), value)).ok_or(Unwritable::Value)
    }

    /// The bytes that are sent.
    pub fn into_bytes(self) -> Bytes {
        let mut bytes = self.fields.into_text();
        bytes.extend_from_slice(b"\r\n");
        bytes.into()
    }

    /// The fields as a map. Values are marked, so that none of them is logged or kept in a table of HTTP/2.
    pub fn to_map(&self) -> HeaderMap {
        let mut map = self.fields.to_map();
        map.values_mut().for_each(|value| value.set_sensitive(true));
        map
    }

    /// The same for Pingora.
    ///
    /// # Errors
    /// If Pingora can't hold the target.
    pub fn to_pingora(&self) -> pingora::Result<RequestHeader> {
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.method = self.method.clone();
        parts.headers = self.to_map();
        let mut head = RequestHeader::from(parts);
        head.set_raw_path(self.target())?;
        Ok(head)
    }
}

/// Shows no values: one may be a credential.
impl std::fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} {:?}", self.method, self.target().escape_ascii(), self.fields)
    }
}

impl HeadFields for RequestHead {
    fn add(&mut self, name: &HeaderName, value: &[u8]) {
        self.fields.add(name, value);
    }

    fn add_own(&mut self, name: &HeaderName, value: &[u8]) {
        self.fields.add_own(name, value);
    }

    fn remove(&mut self, name: &HeaderName) {
        self.fields.remove(name);
    }

    fn remove_where(&mut self, is_so: impl Fn(&str) -> bool) {
        self.fields.remove_where(is_so);
    }
}

#[cfg(test)]
mod tests;
