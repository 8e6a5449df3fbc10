//! Long texts in overlapping pieces, so that no phrase is hidden by a cut.

use std::ops::Range;

/// The ranges of pieces of at most `most` characters, of which neighbours share `overlap` characters; `overlap` must be
/// less than `most`. Each range is computed when it is needed.
pub fn windows(text: &str, most: usize, overlap: usize) -> impl Iterator<Item = Range<usize>> {
    debug_assert!(overlap < most, "windows must move on");
    let step = (most - overlap.min(most - 1)).max(1);
    let mut from = Some(0).filter(|_| !text.is_empty());
    std::iter::from_fn(move || {
        let start = from?;
        let rest = &text[start..];
        let length = after(rest, most);
        from = Some(start + after(rest, step)).filter(|_| length < rest.len());
        Some(start..start + length)
    })
}

/// The byte offset after so many characters, or the text's end.
fn after(text: &str, characters: usize) -> usize {
    // A character has at least one byte: a text with few bytes needs no counting.
    if text.len() <= characters {
        return text.len();
    }
    text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_texts_are_one_piece() {
        let windows = |text: &'static str, most, overlap| windows(text, most, overlap).map(|range| &text[range]).collect::<Vec<_>>();
        assert_eq!(windows("", 10, 2), Vec::<&str>::new());
        assert_eq!(windows("abc", 10, 2), ["abc"]);
        assert_eq!(windows("abcdefghij", 4, 1), ["abcd", "defg", "ghij"]);
        assert_eq!(windows("äöüßäöü", 4, 1), ["äöüß", "ßäöü"]);
    }

    proptest! {
        /// Every text that is no longer than the overlap is contained in one of the pieces.
        #[test]
        fn nothing_hides_at_a_cut(text in "[a-zäß €\u{1f600}]{0,200}", at in 0usize..200, length in 1usize..=5) {
            let chars: Vec<char> = text.chars().collect();
            let needle: String = chars.iter().skip(at).take(length).collect();
            let pieces: Vec<&str> = windows(&text, 12, 5).map(|range| &text[range]).collect();
            prop_assert!(pieces.iter().all(|piece| piece.chars().count() <= 12));
            prop_assert!(needle.is_empty() || pieces.iter().any(|piece| piece.contains(&needle)));
        }
    }
}
