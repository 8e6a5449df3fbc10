//! Trace context in headers: `traceparent` and `tracestate`.
//!
//! Source: W3C Trace Context, level 1, with level 2's flag for random ids and its keys.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Serialize, Serializer};
use smallvec::SmallVec;

/// `traceparent`
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// `tracestate`
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// Length of a `traceparent` of version 00.
const LENGTH: usize = 55;
/// Most members of a `tracestate`, and the longest key or value.
const MEMBERS: usize = 32;
const LONGEST_PART: usize = 256;
/// Longest `tracestate` that is sent on: the standard requires that much. Above it, members longer than [`LONG`] are
/// dropped first.
const LONGEST_STATE: usize = 512;
const LONG: usize = 128;

const SAMPLED: u8 = 1;
const RANDOM: u8 = 2;

/// A trace's id; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(NonZeroU128);

impl TraceId {
    /// From random bits.
    pub fn new(bits: u128) -> Self {
        TraceId(NonZeroU128::new(bits).unwrap_or(NonZeroU128::MIN))
    }

    /// Its bits.
    pub fn bits(self) -> u128 {
        self.0.get()
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for TraceId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A span's id; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(NonZeroU64);

impl SpanId {
    /// From random bits.
    pub fn new(bits: u64) -> Self {
        SpanId(NonZeroU64::new(bits).unwrap_or(NonZeroU64::MIN))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for SpanId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The caller's own span, from its headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace: TraceId,
    /// The caller's span.
    pub span: SpanId,
    /// The caller samples it, and asks others to do so.
    pub sampled: bool,
    /// The trace's id is random.
    pub random: bool,
    /// Entries of other systems.
    pub state: Option<HeaderValue>,
}

/// A request's trace, and its own span in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The trace.
    pub id: TraceId,
    /// The request's span.
    pub span: SpanId,
    /// The caller's span.
    pub parent: Option<SpanId>,
    /// Whether the request is sampled.
    pub sampled: bool,
    /// Whether the trace's id is random.
    pub random: bool,
    /// Entries of other systems.
    pub state: Option<HeaderValue>,
}

impl Trace {
    /// A span in its parent's trace, or one that begins a trace.
    pub fn new(id: TraceId, span: SpanId, parent: Option<Parent>, sampled: bool) -> Self {
        match parent {
            Some(Parent { trace, span: above, random, state, .. }) => {
                Trace { id: trace, span, parent: Some(above), sampled, random, state }
            }
            None => Trace { id, span, parent: None, sampled, random: true, state: None },
        }
    }

    /// As the parent of further work for this request.
    pub fn as_parent(&self) -> Parent {
        Parent { trace: self.id, span: self.span, sampled: self.sampled, random: self.random, state: self.state.clone() }
    }

    /// The flags, in the form of headers and collectors.
    pub fn flags(&self) -> u8 {
        u8::from(self.sampled) * SAMPLED + u8::from(self.random) * RANDOM
    }

    /// The `traceparent` for an upstream request with this `span`.
    pub fn traceparent(&self, span: SpanId) -> HeaderValue {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        hexadecimal(self.id.bits(), &mut text[3..35]);
        hexadecimal(span.0.get().into(), &mut text[36..52]);
        hexadecimal(self.flags().into(), &mut text[53..]);
        // Digits, letters and dashes are always valid in a header.
        HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static(""))
    }

    /// Sets both headers for an upstream request with this `span`, instead of the caller's.
    pub fn write(&self, span: SpanId, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, self.traceparent(span));
        match &self.state {
            Some(state) => drop(headers.insert(TRACESTATE, state.clone())),
            None => drop(headers.remove(TRACESTATE)),
        }
    }
}

/// The caller's span in the headers; `None` if there is none, or it is not valid.
pub fn read(headers: &HeaderMap) -> Option<Parent> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let first = given.next()?;
    if given.next().is_some() {
        return None;
    }
    let (trace, span, flags) = parse(first.as_bytes())?;
    Some(Parent { trace, span, sampled: flags & SAMPLED != 0, random: flags & RANDOM != 0, state: state(headers) })
}

/// A `traceparent` of this version, or the part of a later version with the same meaning.
fn parse(text: &[u8]) -> Option<(TraceId, SpanId, u8)> {
    let dashes = [2, 35, 52].iter().all(|at| text.get(*at) == Some(&b'-'));
    let version = number(text.get(..2)?)?;
    let length = match version {
        0 => text.len() == LENGTH,
        0xff => false,
        _ => text.len() == LENGTH || (text.len() > LENGTH && text[LENGTH] == b'-'),
    };
    if !dashes || !length {
        return None;
    }
    let trace = TraceId(NonZeroU128::new(number(&text[3..35])?)?);
    let span = SpanId(NonZeroU64::new(u64::try_from(number(&text[36..52])?).ok()?)?);
    Some((trace, span, u8::try_from(number(&text[53..55])?).ok()?))
}

/// Writes the last digits of a number.
fn hexadecimal(mut number: u128, digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(number & 15) as usize];
        number >>= 4;
    }
}

/// Lower-case hexadecimal digits, and nothing else.
fn number(digits: &[u8]) -> Option<u128> {
    digits.iter().try_fold(0, |number, digit| match digit {
        b'0'..=b'9' => Some(number << 4 | u128::from(digit - b'0')),
        b'a'..=b'f' => Some(number << 4 | u128::from(digit - b'a' + 10)),
        _ => None,
    })
}

/// The `tracestate` to send on: unchanged, if possible. An invalid one is dropped as a whole, without other effects.
fn state(headers: &HeaderMap) -> Option<HeaderValue> {
    let given = headers.get_all(TRACESTATE);
    let mut members: SmallVec<[(&[u8], &[u8]); 8]> = SmallVec::new();
    let (mut fields, mut as_it_came) = (0, true);
    for field in &given {
        fields += 1;
        for member in field.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty()) {
            let key = key(member)?;
            if members.iter().any(|(_, other)| *other == key) {
                // The leftmost member is the latest.
                as_it_came = false;
                continue;
            }
            if members.len() == MEMBERS {
                return None;
            }
            members.push((member, key));
        }
    }
    let first = given.iter().next().filter(|_| !members.is_empty())?;
    if as_it_came && fields == 1 && first.len() <= LONGEST_STATE {
        return Some(first.clone());
    }
    let too_long = |members: &[(&[u8], &[u8])]| members.iter().map(|(member, _)| member.len() + 1).sum::<usize>() > LONGEST_STATE + 1;
    while too_long(&members) {
        let long = members.iter().rposition(|(member, _)| member.len() > LONG);
        members.remove(long.unwrap_or(members.len() - 1));
    }
    let kept: SmallVec<[&[u8]; 8]> = members.iter().map(|(member, _)| *member).collect();
    HeaderValue::from_bytes(&kept.join(&b',')).ok().filter(|kept| !kept.is_empty())
}

/// The key of a valid member.
fn key(member: &[u8]) -> Option<&[u8]> {
    let at = member.iter().position(|byte| *byte == b'=')?;
    let (key, value) = (&member[..at], &member[at + 1..]);
    let begins = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let goes_on = |byte: &u8| begins(byte) || matches!(byte, b'_' | b'-' | b'*' | b'/' | b'@');
    let valid = key.first().is_some_and(begins)
        && key.iter().all(goes_on)
        && key.len() <= LONGEST_PART
        && (1..=LONGEST_PART).contains(&value.len())
        && value.iter().all(|byte| matches!(byte, b' '..=b'~') && *byte != b'=');
    valid.then_some(key)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn with(parents: &[&str], states: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in parents {
            headers.append(TRACEPARENT, value.parse().unwrap());
        }
        for value in states {
            headers.append(TRACESTATE, value.parse().unwrap());
        }
        headers
    }

    fn read_one(text: &str) -> Option<Parent> {
        read(&with(&[text], &[]))
    }

    fn state_of(states: &[&str]) -> Option<String> {
        read(&with(&[GOOD], states)).unwrap().state.map(|state| state.to_str().unwrap().to_owned())
    }

    #[test]
    fn parents_are_read_as_the_standard_says() {
        let parent = read_one(GOOD).unwrap();
        assert_eq!(parent.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(parent.span.to_string(), "b7ad6b7169203331");
        assert!(parent.sampled && !parent.random);
        let flags = |flags: &str| read_one(&GOOD.replace("-01", flags)).map(|parent| (parent.sampled, parent.random));
        assert_eq!(
            [flags("-00"), flags("-09"), flags("-02"), flags("-ff")].map(Option::unwrap),
            [(false, false), (true, false), (false, true), (true, true)]
        );
        // Later versions: what is known of them, and more behind a dash.
        for text in [GOOD.replacen("00", "01", 1), GOOD.replacen("00", "cc", 1) + "-what-ever", GOOD.replacen("00", "fe", 1) + "-"] {
            assert_eq!(read_one(&text).unwrap().trace, parent.trace, "{text}");
        }
    }

    #[test]
    fn broken_parents_are_none() {
        for text in [
            "",
            "00",
            &GOOD[..54],
            &(GOOD.to_owned() + "-"),
            &(GOOD.to_owned() + "0"),
            &GOOD.to_uppercase(),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen("00", "0g", 1),
            &GOOD.replacen("00", "01", 1).replace("-01", "-01x"),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            &GOOD.replace('-', "_"),
            &GOOD.replace("-01", "-0x"),
            &GOOD.replace("0af", "+af"),
            "00-0af7651916cd43dd8448eb211c80319-cb7ad6b7169203331-01",
        ] {
            assert_eq!(read_one(text), None, "{text}");
        }
        assert_eq!(read(&with(&[GOOD, GOOD], &["a=1"])), None, "repeated");
        assert_eq!(read(&with(&[], &["a=1"])), None, "no state without a parent");
    }

    #[test]
    fn states_are_handed_on() {
        assert_eq!(state_of(&[]), None);
        assert_eq!(state_of(&[""]), None);
        assert_eq!(state_of(&[" , ,"]), None);
        assert_eq!(state_of(&["b=2, a=1"]).as_deref(), Some("b=2, a=1"), "as it came");
        assert_eq!(state_of(&["b=2,", ",a@t=1 1"]).as_deref(), Some("b=2,a@t=1 1"), "in order");
        assert_eq!(state_of(&["a=1,b=2,a=3"]).as_deref(), Some("a=1,b=2"));
        for broken in ["a", "=1", "A=1", "a=", "a=1=2", "a b=1", "_a=1", "a=\u{e9}", &format!("{}=1", "k".repeat(257))] {
            assert_eq!(state_of(&["ok=1", broken]), None, "{broken}");
        }
        let many = |count: usize| (0..count).map(|number| format!("k{number}=v")).collect::<Vec<_>>().join(",");
        assert_eq!(state_of(&[&many(32)]), Some(many(32)));
        assert_eq!(state_of(&[&many(33)]), None);
    }

    #[test]
    fn long_states_lose_whole_members_the_long_ones_first() {
        let (long, short) = (format!("long={}", "x".repeat(200)), format!("short={}", "y".repeat(120)));
        let mine = |number: usize| format!("{number}{short}");
        let cut = state_of(&[&format!("{},{long},{},{},{}", mine(1), mine(2), mine(3), mine(4))]).unwrap();
        // 127 each: four fit with their commas.
        assert_eq!(cut, [mine(1), mine(2), mine(3), mine(4)].join(","));
        let cut = state_of(&[&(0..6).map(mine).collect::<Vec<_>>().join(",")]).unwrap();
        assert_eq!(cut, (0..4).map(mine).collect::<Vec<_>>().join(","));
        let one = format!("k={}", "v".repeat(256));
        assert_eq!(state_of(&[&one]), Some(one), "the longest that is valid fits");
    }

    #[test]
    fn upstreams_hear_of_the_attempt_and_not_of_the_caller() {
        let mut headers = with(&[GOOD, GOOD], &["a=1", "b=2"]);
        let trace = Trace::new(TraceId::new(1), SpanId::new(2), None, false);
        trace.write(SpanId::new(0xabc), &mut headers);
        assert_eq!(headers.get_all(TRACEPARENT).iter().count(), 1);
        assert_eq!(headers[TRACEPARENT], "00-00000000000000000000000000000001-0000000000000abc-02");
        assert!(!headers.contains_key(TRACESTATE));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(trace in 1u128.., span in 1u64.., above in 1u64.., sampled: bool, random: bool, state in proptest::option::of("[a-z][a-z0-9_]{0,10}=[a-z]{1,10}")) {
            let state = state.map(|text| text.parse::<HeaderValue>().unwrap());
            let parent = Parent { trace: TraceId::new(trace), span: SpanId::new(above), sampled, random, state };
            let here = Trace::new(TraceId::new(7), SpanId::new(span), Some(parent.clone()), sampled);
            let mut headers = HeaderMap::new();
            here.write(here.span, &mut headers);
            prop_assert_eq!(headers[TRACEPARENT].len(), LENGTH);
            prop_assert_eq!(read(&headers).unwrap(), Parent { span: here.span, ..parent });
        }

        #[test]
        fn whatever_comes_is_a_parent_or_none(text in "[ -~]{0,80}", states in proptest::collection::vec("[ -~]{0,90}", 0..4)) {
            let states: Vec<&str> = states.iter().map(String::as_str).collect();
            if let Some(parent) = read(&with(&[&text], &states)) {
                prop_assert!(text.len() >= LENGTH && !text.starts_with("ff") && parent.trace.bits() != 0);
            }
        }

        #[test]
        fn a_parent_with_one_other_byte_is_another_or_none(at in 0usize..LENGTH, byte in b' '..=b'~') {
            let mut text = GOOD.as_bytes().to_vec();
            let same = std::mem::replace(&mut text[at], byte) == byte;
            let found = read_one(std::str::from_utf8(&text).unwrap());
            // Flags of which none is known, and versions to come, are read as if they weren't there.
            let unseen = !(2..53).contains(&at);
            prop_assert!(same || unseen || found != read_one(GOOD));
            prop_assert!(found.is_none_or(|found| found.trace.to_string() == String::from_utf8_lossy(&text[3..35])));
        }

        #[test]
        fn states_keep_their_order_and_their_bounds(
            members in proptest::collection::vec(("[a-z0-9][a-z0-9_*/@-]{0,20}", "[!-+\\--<>-~]{1,200}"), 1..40),
            fields in 1usize..4,
        ) {
            let members: Vec<String> = members.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
            let given: Vec<String> = members.chunks(members.len().div_ceil(fields)).map(|some| some.join(" ,\t")).collect();
            let given: Vec<&str> = given.iter().map(String::as_str).collect();
            if let Some(kept) = state_of(&given) {
                prop_assert!(kept.len() <= LONGEST_STATE, "{}", kept.len());
                let mut rest = members.iter();
                for member in kept.split(',').map(str::trim) {
                    prop_assert!(rest.any(|other| other == member), "{member} is none of them, or out of order");
                }
            } else {
                let mut keys: Vec<&str> = members.iter().filter_map(|member| member.split('=').next()).collect();
                keys.sort_unstable();
                keys.dedup();
                prop_assert!(keys.len() > MEMBERS, "dropped without need");
            }
        }
    }
}
