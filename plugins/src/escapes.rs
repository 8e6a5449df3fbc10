//! JSON within a text, as in the arguments and results of tools: the text with its escapes decoded.
//!
//! A text with escapes needn't be JSON. So this is one more way to read it, never the only one.

use crate::json::escape;

/// How often a text is decoded: JSON texts contain JSON texts.
pub const LEVELS: usize = 3;

/// Whether a text can contain escapes.
pub fn may_have(text: &str) -> bool {
    memchr::memchr(b'\\', text.as_bytes()).is_some()
}

/// The text with its escapes decoded once; `None` if it has none.
pub fn decoded(text: &str) -> Option<String> {
    let mut plain: Option<String> = None;
    let mut done = 0;
    while let Some(found) = memchr::memchr(b'\\', &text.as_bytes()[done..]) {
        let at = done + found;
        let to = plain.get_or_insert_with(|| String::with_capacity(text.len()));
        to.push_str(&text[done..at]);
        let (c, length) = escape(&text.as_bytes()[at..]).unwrap_or(('\\', 1));
        to.push(c);
        done = at + length;
    }
    let mut plain = plain?;
    plain.push_str(&text[done..]);
    Some(plain).filter(|plain| plain.len() < text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_json() {
        for (text, expected) in [
            (r#"{"q":"gr\u00f6\u00dfe"}"#, r#"{"q":"größe"}"#),
            (r#"a\nb\tc\/d\"e\\n"#, "a\nb\tc/d\"e\\n"),
            (r"\ud83d\ude80", "\u{1f680}"),
            (r"C:\Users\x\u00", "C:\\Users\\x\\u00"),
        ] {
            assert_eq!(decoded(text).as_deref().unwrap_or(text), expected, "{text}");
        }
        for text in ["", "plain", r"\", r"a\qb", r"\u12", r"\u+041", r"\ud83d", "\\uöö"] {
            assert_eq!(decoded(text), None, "{text}");
        }
        let twice = serde_json::Value::from(serde_json::Value::from("a\n\u{1}ß\"").to_string()).to_string();
        assert_eq!(decoded(&decoded(&twice).unwrap()).unwrap(), "\"\"a\n\u{1}ß\"\"\"");
    }
}
