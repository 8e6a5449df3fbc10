//! The one form of a request's head that the gateway reads itself: a `POST` of a JSON body of known length over
//! HTTP/1.1 (RFC 9112). Pingora reads every other head, and refuses what is malformed.
//!
//! A second parser must not read anything differently than the first one. So this takes only heads in which every part
//! that decides about framing occurs once and has one spelling; a fuzz target compares both.

use std::ops::Range;

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use pingora::http::RequestHeader;
use smallvec::SmallVec;

/// Longest head. Pingora's connections have the same limit.
pub const MAX_HEAD: usize = 64 * 1024;
/// Most fields in a head.
const MAX_FIELDS: usize = 64;
/// What such a head begins with.
const BEGINNING: &[u8] = b"POST /";

/// Where a field stands in the head: the beginnings and ends of its name and its value. They fit 16 bits, as the end of the head is
/// behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place([u16; 4]);

impl Place {
    /// `None` if the value doesn't follow the name, or is too far away.
    fn new(name: &Range<usize>, value: &Range<usize>) -> Option<Self> {
        let [a, b, c, d] = [name.start, name.end, value.start, value.end].map(u16::try_from);
        (name.end <= value.start).then_some(Place([a.ok()?, b.ok()?, c.ok()?, d.ok()?]))
    }

    /// Of the name, and of the value.
    pub(super) fn ranges(self) -> (Range<usize>, Range<usize>) {
        let [name, name_end, value, value_end] = self.0.map(usize::from);
        (name..name_end, value..value_end)
    }
}

/// What is known of a head by its bytes.
#[derive(Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "it is looked at once, and never kept")]
pub enum Scan {
    /// More bytes are needed.
    Incomplete,
    /// A head that Pingora reads.
    Other,
    /// A head of the strict form.
    Strict(StrictHead),
}

/// A head of the strict form.
#[derive(Debug, PartialEq, Eq)]
pub struct StrictHead {
    /// Its length in bytes, the empty line included.
    pub end: usize,
    /// The length of the body.
    pub body: usize,
    /// Whether the caller closes the connection after this request.
    pub closes: bool,
    target: Range<usize>,
    pub(super) places: SmallVec<[Place; 24]>,
    /// Which of the fields is the length of the body.
    pub(super) length_field: usize,
    /// A bit for each other field that decides about framing.
    pub(super) decisive: u64,
}

/// Looks at the bytes of a connection at which a head begins.
pub fn scan(bytes: &[u8]) -> Scan {
    let begun = bytes.len().min(BEGINNING.len());
    if bytes[..begun] != BEGINNING[..begun] {
        return Scan::Other;
    }
    let mut fields = [const { std::mem::MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    match httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut parsed, bytes, &mut fields) {
        Ok(httparse::Status::Complete(end)) if end <= MAX_HEAD => strict(bytes, end, &parsed).map_or(Scan::Other, Scan::Strict),
        Ok(httparse::Status::Partial) if bytes.len() < MAX_HEAD => Scan::Incomplete,
        _ => Scan::Other,
    }
}

fn strict(bytes: &[u8], end: usize, parsed: &httparse::Request<'_, '_>) -> Option<StrictHead> {
    if parsed.method != Some("POST") || parsed.version != Some(1) || !ends_each_line(&bytes[..end]) {
        return None;
    }
    let target = parsed.path?.as_bytes();
    is_target(target).then_some(())?;
    let base = bytes.as_ptr() as usize;
    let place = |part: &[u8]| {
        let start = part.as_ptr() as usize - base;
        start..start + part.len()
    };
    let mut head = StrictHead { end, body: 0, closes: false, target: place(target), places: SmallVec::new(), length_field: 0, decisive: 0 };
    let (mut hosts, mut lengths, mut types, mut connections) = (0, 0, 0, 0);
    for field in parsed.headers.iter() {
        let (name, value) = (field.name, field.value);
        let number = head.places.len();
        // By their lengths first: most fields are none of these.
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => {
                hosts += 1;
                head.decisive |= 1 << number;
                is_host(value).then_some(())?;
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                lengths += 1;
                head.length_field = number;
                head.body = length(value)?;
            }
            12 if name.eq_ignore_ascii_case("content-type") => {
                types += 1;
                head.decisive |= 1 << number;
                is_json(value).then_some(())?;
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                connections += 1;
                head.decisive |= 1 << number;
                head.closes = closes(value)?;
            }
            6 if name.eq_ignore_ascii_case("expect") => return None,
            7 if name.eq_ignore_ascii_case("upgrade") => return None,
            17 if name.eq_ignore_ascii_case("transfer-encoding") => return None,
            _ => {}
        }
        head.places.push(Place::new(&place(name.as_bytes()), &place(value))?);
    }
    (hosts == 1 && lengths == 1 && types == 1 && connections <= 1).then_some(head)
}

/// Whether each line ends with CR LF, and CR occurs nowhere else.
fn ends_each_line(head: &[u8]) -> bool {
    let line_ends = memchr::memchr_iter(b'\n', head).take_while(|at| *at > 0 && head[at - 1] == b'\r').count();
    // Simple sums of bytes over a fixed width can be vectorised.
    let count =
        |byte: u8| head.chunks(128).map(|part| usize::from(part.iter().map(|other| u8::from(*other == byte)).sum::<u8>())).sum::<usize>();
    line_ends == count(b'\r') && line_ends == count(b'\n')
}

/// The number of a `Content-Length`: digits without a leading zero that fit into it.
pub fn length(value: &[u8]) -> Option<usize> {
    let is_number = (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit) && (value[0] != b'0' || value.len() == 1);
    is_number.then(|| value.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0')))
}

/// Whether a `Host` is a name or an address, with an optional port (RFC 3986, section 3.2.2): without user information, which Pingora
/// refuses.
pub fn is_host(text: &[u8]) -> bool {
    let (name, port): (&[u8], &[u8]) = match text {
        [b'[', ..] => match memchr::memchr(b']', text) {
            Some(end) => (&text[1..end], &text[end + 1..]),
            None => return false,
        },
        _ => text.split_at(memchr::memchr(b':', text).unwrap_or(text.len())),
    };
    let in_brackets = text.first() == Some(&b'[');
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~".contains(byte) || (in_brackets && *byte == b':');
    let is_port = match port {
        [] => true,
        [b':', digits @ ..] => digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    !name.is_empty() && name.iter().all(fits) && is_port
}

/// Whether a target has only bytes that a target may contain, raw or percent-encoded. Pingora encodes raw ones.
pub fn is_target(target: &[u8]) -> bool {
    let hidden = |at: usize| match target.get(at + 1..at + 3) {
        Some([b'0' | b'1', low]) => low.is_ascii_hexdigit(),
        Some([b'7', b'f' | b'F']) => true,
        _ => false,
    };
    !target.iter().any(|byte| byte.is_ascii_control() || matches!(byte, b'\\' | b'#')) && !memchr::memchr_iter(b'%', target).any(hidden)
}

/// Whether a media type is JSON, with or without parameters.
fn is_json(value: &[u8]) -> bool {
    const JSON: &[u8] = b"application/json";
    value.get(..JSON.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(JSON)) && matches!(value.get(JSON.len()), None | Some(b';' | b' '))
}

/// Whether the value of `Connection` closes it; `None` for any other option.
fn closes(value: &[u8]) -> Option<bool> {
    match value {
        value if value.eq_ignore_ascii_case(b"keep-alive") => Some(false),
        value if value.eq_ignore_ascii_case(b"close") => Some(true),
        _ => None,
    }
}

impl StrictHead {
    /// Takes the head out of the bytes that [`scan`] looked at, with a copy of its bytes. `None` leaves them unchanged: it has a part
    /// that is not valid after all. The map of an earlier head is used again: its memory is there.
    pub fn take(&self, bytes: &mut BytesMut, mut map: HeaderMap) -> Option<(RequestHeader, Bytes)> {
        // A copy, so that the body behind it can be handed on without copying.
        let raw = Bytes::copy_from_slice(bytes.get(..self.end)?);
        let (mut parts, ()) = http::Request::new(()).into_parts();
        parts.method = Method::POST;
        parts.uri = Uri::from_maybe_shared(raw.slice(self.target.clone())).ok()?;
        map.clear();
        map.reserve(self.places.len());
        for place in &self.places {
            let (name, value) = place.ranges();
            let name = HeaderName::from_bytes(raw.get(name)?).ok()?;
            let value = HeaderValue::from_maybe_shared(raw.slice(value)).ok()?;
            map.append(name, value);
        }
        parts.headers = map;
        // Pingora's own way of adding fields keeps the case of their letters, which nothing here needs.
        let head = RequestHeader::from(parts);
        // A target that a URI changes is read by Pingora.
        (head.raw_path() == raw.get(self.target.clone())?).then_some(())?;
        bytes.advance(self.end);
        Some((head, raw))
    }
}

#[cfg(test)]
mod tests;
