//! A text as a JSON string (RFC 8259, section 7), with no more escapes than are needed.

use crate::scan;

/// Appends a text with its quotes.
pub fn write_text(text: &str, to: &mut Vec<u8>) {
    to.reserve(text.len() + 2);
    to.push(b'"');
    write_inner(text.as_bytes(), to);
    to.push(b'"');
}

/// Appends a text without quotes.
pub(super) fn write_inner(text: &[u8], to: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = scan::special(rest) {
        let (plain, from) = rest.split_at(at);
        to.extend_from_slice(plain);
        let Some((&byte, after)) = from.split_first() else { break };
        escape(byte, to);
        rest = after;
    }
    to.extend_from_slice(rest);
}

fn escape(byte: u8, to: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        0x0c => b'f',
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        _ => {
            to.extend_from_slice(b"\\u00");
            to.push(DIGITS[usize::from(byte >> 4)]);
            return to.push(DIGITS[usize::from(byte & 15)]);
        }
    };
    to.extend_from_slice(&[b'\\', short]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_text_is_written_as_serde_writes_it(text in prop_oneof!["\\PC{0,80}", "[\u{0}-\u{7f}\u{2028}é]{0,80}", "[a-z ]{0,70}[\"\\\\\n]?[a-z]{0,40}"]) {
            let mut ours = b"x".to_vec();
            write_text(&text, &mut ours);
            prop_assert_eq!(String::from_utf8(ours).unwrap(), format!("x{}", serde_json::to_string(&text).unwrap()));
        }
    }
}
