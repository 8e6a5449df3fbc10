//! A text as a reader sees it: without invisible characters, and with letters in their plain form.
//!
//! A model reads `pro\u{200b}ject` and `ｐｒｏｊｅｃｔ` as the word that they show. So the rules are applied to that word,
//! too.

use std::borrow::Cow;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfkc_quick};

/// Whether a character is invisible: format characters (Unicode `Cf`), characters that may be ignored in display
/// (`Default_Ignorable_Code_Point`), controls that are not white space, and noncharacters.
pub fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control() && !matches!(c, '\t'..='\r');
    }
    matches!(c,
        '\u{80}'..='\u{84}' | '\u{86}'..='\u{9f}' | '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
        | '\u{890}'..='\u{891}' | '\u{8e2}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}' | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fdd0}'..='\u{fdef}'
        | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}'
        | '\u{13430}'..='\u{1343f}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
        || u32::from(c) & 0xfffe == 0xfffe
}

/// Whether a character is a line through, over or under the one before it: struck-through letters are the same letters.
fn is_line(c: char) -> bool {
    matches!(c,
        '\u{305}' | '\u{332}'..='\u{338}' | '\u{33f}' | '\u{347}' | '\u{35e}'..='\u{35f}' | '\u{20d2}'..='\u{20d3}' | '\u{20d8}'..='\u{20da}'
        | '\u{20dd}'..='\u{20e0}' | '\u{20e2}'..='\u{20e6}' | '\u{20ea}'..='\u{20eb}' | '\u{fe2d}' | '\u{fe26}' | '\u{fe24}'..='\u{fe25}')
}

/// Whether a character shows no letter: it is invisible, or only a line.
pub fn shows_nothing(c: char) -> bool {
    is_invisible(c) || is_line(c)
}

/// What the characters show, in its plain form.
fn plain(text: impl Iterator<Item = char>) -> String {
    // A line with nothing below it is a space with a line.
    text.filter(|c| !shows_nothing(*c)).nfkc().filter(|c| !is_line(*c)).collect()
}

/// Whether every character of a text is visible and plain, as in most texts.
fn is_plain(text: &str) -> bool {
    text.is_ascii() && !text.bytes().any(|byte| is_invisible(char::from(byte)))
}

/// The text as a reader sees it; borrowed if nothing changes.
pub fn visible(text: &str) -> Cow<'_, str> {
    if is_plain(text) || (!text.contains(shows_nothing) && is_nfkc_quick(text.chars()) == IsNormalized::Yes) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(plain(text.chars()))
}

/// The character that a tag character stands for. Tag characters are invisible, but models read them as letters.
pub fn untagged(c: char) -> Option<char> {
    let code = u32::from(c).checked_sub(0xe0000)?;
    char::from_u32(code).filter(|c| matches!(c, ' '..='~'))
}

/// Whether a text contains tag characters.
pub fn has_tags(text: &str) -> bool {
    // All of them begin with these bytes.
    text.as_bytes().windows(3).any(|bytes| matches!(bytes, [0xf3, 0xa0, 0x80 | 0x81])) && text.contains(|c| untagged(c).is_some())
}

/// The text as a reader sees it, with its tag characters decoded.
pub fn with_tags(text: &str) -> Cow<'_, str> {
    if !has_tags(text) {
        return visible(text);
    }
    Cow::Owned(plain(text.chars().map(|c| untagged(c).unwrap_or(c))))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use regex::Regex;

    use super::*;

    #[test]
    fn the_table_is_that_of_unicode() {
        let invisible = Regex::new(r"^[\p{Cf}\p{Default_Ignorable_Code_Point}]$").unwrap();
        for c in '\0'..=char::MAX {
            let mut buffer = [0; 4];
            let none = u32::from(c) & 0xfffe == 0xfffe || matches!(c, '\u{fdd0}'..='\u{fdef}');
            let control = c.is_control() && !c.is_whitespace();
            let unassigned = matches!(c, '\u{fff0}'..='\u{fff8}');
            let expected = invisible.is_match(c.encode_utf8(&mut buffer)) || none || control || unassigned;
            assert_eq!(is_invisible(c), expected, "{:x}", u32::from(c));
            // What is seen of a character has nothing in it that isn't.
            assert!(is_invisible(c) || !std::iter::once(c).nfkc().any(is_invisible), "{:x}", u32::from(c));
        }
    }

    #[test]
    fn words_are_what_they_show() {
        for text in [
            "pro\u{200b}ject",
            "ｐｒｏｊｅｃｔ",
            "pro\u{ad}ject",
            "\u{202e}pro\u{0}ject",
            "𝐩𝐫𝐨𝐣𝐞𝐜𝐭",
            "p\u{fe0f}roject",
            "p\u{336}r\u{336}o\u{305}ject\u{333}",
            "proje\u{338}\u{20e0}ct",
        ] {
            assert_eq!(visible(text), "project", "{text}");
        }
        let hidden: String = "project".chars().map(|c| char::from_u32(0xe0000 + u32::from(c)).unwrap()).collect();
        assert_eq!((visible(&hidden), with_tags(&hidden)), ("".into(), "project".into()));
        for text in ["", "plain\ttext\r\n", "größe", "秘密", "≠"] {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text) && !has_tags(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_seen_is_seen_once(text in "[\\PC\u{200b}\u{ad}\u{e0041}\u{336}\u{305}\u{308}e‾≠ｆ①ﬁ]{0,20}") {
            let seen = visible(&text).into_owned();
            prop_assert_eq!(&visible(&seen), &seen);
        }
    }
}
