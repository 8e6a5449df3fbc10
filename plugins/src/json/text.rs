//! The text of a string: its escapes replaced by what they stand for (RFC 8259, section 7).

use crate::scan;

/// Whether any byte is a control character.
pub(super) fn has_control(text: &[u8]) -> bool {
    // No early exit within a step: a simple fold over a fixed width can be vectorised.
    text.chunks(256).any(|step| step.iter().fold(false, |hit, byte| hit | (*byte < 0x20)))
}

/// Appends the text of a string, given as it is between its quotes.
///
/// The bytes are not checked for UTF-8. `None` if an escape is malformed, or is half of a surrogate pair, or if there is
/// a quote or a control character; then a part of the text may have been appended.
pub(super) fn decode_onto(inner: &[u8], to: &mut Vec<u8>) -> Option<()> {
    match next_special(inner, to)? {
        None => Some(()),
        Some(_) => None,
    }
}

/// Appends the text of a string, given from after its first quote. Returns how long it is, with its last quote. As
/// [`decode_onto`], and also `None` if there is no last quote.
pub(super) fn decode_quoted(from: &[u8], to: &mut Vec<u8>) -> Option<usize> {
    next_special(from, to)?
}

/// Appends text up to a quote. Returns the position after it, if there is one.
fn next_special(text: &[u8], to: &mut Vec<u8>) -> Option<Option<usize>> {
    let mut rest = text;
    loop {
        let Some(run) = scan::special(rest) else {
            to.extend_from_slice(rest);
            return Some(None);
        };
        let (plain, from) = rest.split_at(run);
        to.extend_from_slice(plain);
        let (&b'\\', escaped) = from.split_first()? else {
            return (from.first() == Some(&b'"')).then_some(Some(text.len() - from.len() + 1));
        };
        let plain = match escaped.first()? {
            byte @ (b'"' | b'\\' | b'/') => *byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let (decoded, after) = unicode(&escaped[1..])?;
                to.extend_from_slice(decoded.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
                continue;
            }
            _ => return None,
        };
        to.push(plain);
        rest = &escaped[1..];
    }
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

    fn decoded(inner: &str) -> Option<String> {
        let mut to = b"before ".to_vec();
        decode_onto(inner.as_bytes(), &mut to)?;
        Some(String::from_utf8(to).unwrap().strip_prefix("before ").unwrap().to_owned())
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
