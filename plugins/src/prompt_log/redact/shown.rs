//! A text as people see it: without invisible characters, with plain letters and digits, with JSON escapes decoded. What is
//! found in it is removed from the text as it is written.

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

use crate::mapped::Mapped;
use crate::visible::{shows_nothing, untagged};

/// The text as people see it, and its places in `text`; `None` if it is the same. ASCII without a backslash always is.
pub fn shown(text: &str) -> Option<Mapped> {
    match Mapped::unescaped(text) {
        Some(inner) if inner.text.contains(changes) => Some(inner.then(show)),
        Some(inner) => Some(inner),
        None if text.is_ascii() || !text.contains(changes) => None,
        None => Some(Mapped::new(text, show)),
    }
}

/// Whether a character is shown as another one, or not at all.
fn changes(c: char) -> bool {
    shows_nothing(c) || !c.is_ascii() && (plain(c).is_some() || is_nfkc_quick(std::iter::once(c)) == IsNormalized::No)
}

fn show(rest: &str, to: &mut String) -> usize {
    let Some(c) = rest.chars().next() else { return rest.len() };
    if let Some(plain) = plain(c) {
        to.push(plain);
    } else if !shows_nothing(c) {
        to.extend(std::iter::once(c).nfkc());
    }
    c.len_utf8()
}

/// The ASCII character for a digit of another script, a hyphen or minus, or a tag.
fn plain(c: char) -> Option<char> {
    if c.is_ascii() {
        return None;
    }
    if matches!(c, '\u{2010}'..='\u{2012}' | '\u{2212}') {
        return Some('-');
    }
    let zero = ZEROS.partition_point(|zero| *zero <= c).checked_sub(1).and_then(|at| ZEROS.get(at))?;
    let value = u32::from(c) - u32::from(*zero);
    if value < 10 { char::from_digit(value, 10) } else { untagged(c) }
}

/// The zeros of scripts whose digits have no plain form in Unicode. Nine digits follow each.
const ZEROS: [char; 37] = [
    '\u{660}',
    '\u{6f0}',
    '\u{7c0}',
    '\u{966}',
    '\u{9e6}',
    '\u{a66}',
    '\u{ae6}',
    '\u{b66}',
    '\u{be6}',
    '\u{c66}',
    '\u{ce6}',
    '\u{d66}',
    '\u{de6}',
    '\u{e50}',
    '\u{ed0}',
    '\u{f20}',
    '\u{1040}',
    '\u{1090}',
    '\u{17e0}',
    '\u{1810}',
    '\u{1946}',
    '\u{19d0}',
    '\u{1a80}',
    '\u{1a90}',
    '\u{1b50}',
    '\u{1bb0}',
    '\u{1c40}',
    '\u{1c50}',
    '\u{a620}',
    '\u{a8d0}',
    '\u{a900}',
    '\u{a9d0}',
    '\u{a9f0}',
    '\u{aa50}',
    '\u{abf0}',
    '\u{104a0}',
    '\u{11066}',
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_unicode() {
        let digit = regex::Regex::new(r"^\p{Nd}$").unwrap();
        for c in '\u{80}'..='\u{ffff}' {
            let text = c.to_string();
            let ascii = shown(&text).is_some_and(|shown| shown.text.len() == 1 && shown.text.as_bytes()[0].is_ascii_digit());
            assert!(ascii || !digit.is_match(&text), "{:x}", u32::from(c));
        }
        assert_eq!(shown("٤٩ ４９ ४९").unwrap().text, "49 49 49");
        for text in ["", "plain\n", "größe", "日本語の文章", "Привет", "e\u{301}"] {
            assert!(shown(text).is_none(), "{text}");
        }
    }
}
