//! The text of a string: its escapes replaced by what they stand for (RFC 8259, section 7).

use super::write::write_inner;
use crate::scan;

/// The text of a string, given as it is between its quotes. `None` if an escape is malformed, or is half of a surrogate pair, or if
/// there is a quote or a control character.
pub(super) fn decode_text(inner: &str) -> Option<String> {
    let mut text = String::with_capacity(inner.len());
    let mut at = 0;
    loop {
        let rest = inner.get(at..)?;
        let Some(run) = scan::special(rest.as_bytes()) else {
            text.push_str(rest);
            return Some(text);
        };
        text.push_str(rest.get(..run)?);
        let (character, length) = escape(rest.as_bytes().get(run..)?)?;
        text.push(character);
        at += run + length;
    }
}

/// What an escape stands for that begins with a backslash, and how long it is. `None` as for [`decode_text`].
pub(crate) fn escape(from: &[u8]) -> Option<(char, usize)> {
    let (&b'\\', escaped) = from.split_first()? else { return None };
    let plain = match escaped.first()? {
        byte @ (b'"' | b'\\' | b'/') => *byte,
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'u' => return unicode(&escaped[1..]).map(|(decoded, rest)| (decoded, from.len() - rest.len())),
        _ => return None,
    };
    Some((char::from(plain), 2))
}

/// Appends the text of a string, given from after its first quote. Returns how long it is, with its last quote.
///
/// The bytes are not checked for UTF-8. `None` as for [`decode_text`], and if there is no last quote; then a part of the text may
/// have been appended.
pub(super) fn decode_quoted(from: &[u8], to: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        let rest = from.get(at..)?;
        let run = scan::special(rest)?;
        to.extend_from_slice(rest.get(..run)?);
        at += run;
        if from.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        let (character, length) = escape(from.get(at..)?)?;
        to.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        at += length;
    }
}

/// As [`decode_quoted`], but what it appends is the string as JSON with no more escapes than are needed, without quotes.
pub(super) fn rewrite_quoted(from: &[u8], to: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        at += scan::special(from.get(at..)?)?;
        match (from.get(at)?, from.get(at + 1)) {
            (b'"', _) => {
                to.extend_from_slice(from.get(..at)?);
                return Some(at + 1);
            }
            // These are needed.
            (b'\\', Some(b'"' | b'\\' | b'b' | b'f' | b'n' | b'r' | b't')) => at += 2,
            (b'\\', _) => break,
            _ => return None,
        }
    }
    let mut decoded = Vec::new();
    let length = decode_quoted(from, &mut decoded)?;
    write_inner(&decoded, to);
    Some(length)
}

/// Reads what follows `\u`: a character, written as one or two numbers. Returns what is behind it, too.
fn unicode(digits: &[u8]) -> Option<(char, &[u8])> {
    let (first, rest) = four(digits)?;
    if !(0xd800..0xdc00).contains(&first) {
        // Half a pair, in the wrong place, is no character.
        return char::from_u32(first).map(|decoded| (decoded, rest));
    }
    let (second, rest) = four(rest.strip_prefix(b"\\u")?)?;
    let low = second.checked_sub(0xdc00).filter(|low| *low < 0x400)?;
    char::from_u32(0x10000 + ((first - 0xd800) << 10) + low).map(|decoded| (decoded, rest))
}

fn four(digits: &[u8]) -> Option<(u32, &[u8])> {
    let (four, rest) = digits.split_first_chunk::<4>()?;
    let value = four.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))?;
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As a text of its own, and within another one.
    fn decoded(inner: &str) -> Option<String> {
        let text = decode_text(inner);
        let mut to = b"before ".to_vec();
        let read = decode_quoted(format!("{inner}\" and more").as_bytes(), &mut to);
        assert_eq!(read, text.as_ref().map(|_| inner.len() + 1), "{inner}");
        assert!(text.as_ref().is_none_or(|text| to == format!("before {text}").as_bytes()), "{inner}");
        let mut to = b"before ".to_vec();
        let read = rewrite_quoted(format!("{inner}\" and more").as_bytes(), &mut to);
        assert_eq!(read, text.as_ref().map(|_| inner.len() + 1), "{inner}");
        let written = |text: &String| serde_json::to_string(text).unwrap();
        assert!(text.as_ref().is_none_or(|text| format!("\"{}\"", String::from_utf8_lossy(&to[7..])) == written(text)), "{inner}");
        text
    }

    #[test]
    fn escapes_become_what_they_stand_for() {
        let all = r#"a\"\\\/\b\f\n\r\t\u0041\u00E9\u20ac\ud83d\ude00z"#;
        assert_eq!(decoded(all).as_deref(), Some("a\"\\/\u{8}\u{c}\n\r\tA\u{e9}\u{20ac}\u{1f600}z"));
        for bad in [r"\", r"\q", r"\u", r"\u12", r"\u12g4", r"\ud800", r"\udc00", r"\ud83d\u0041", r"\ud83dx", r"\ud83d\n", "\n", "a\u{1}"]
        {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_text_is_what_serde_finds(
            inner in prop_oneof!["[a-f0-9\\\\ud8cDC]{0,24}", r#"(\\[nu"\\]|\\u[dD][89a-f][0-9]{2}|[a-z\u{e9}\n ]){0,8}"#],
        ) {
            // A quote that is not escaped would be the string's end.
            prop_assume!(!inner.replace("\\\\", "").replace("\\\"", "").contains('"'));
            let theirs = serde_json::from_str::<String>(&format!("\"{inner}\"")).ok();
            prop_assert_eq!(decoded(&inner), theirs, "{}", inner);
        }
    }
}
