//! Long texts in pieces that overlap, so that nothing hides at a cut.

/// Pieces of at most `most` characters each, of which neighbours share `overlap`; `overlap` must be less than `most`.
pub fn windows(text: &str, most: usize, overlap: usize) -> Vec<&str> {
    debug_assert!(overlap < most, "windows must move on");
    // A character has a byte at least: nothing to count where the bytes are few.
    if text.len() <= most {
        return if text.is_empty() { Vec::new() } else { vec![text] };
    }
    let starts: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    let step = (most - overlap.min(most - 1)).max(1);
    let mut pieces = Vec::new();
    let mut from = 0;
    loop {
        let end = starts.get(from + most).copied().unwrap_or(text.len());
        pieces.push(&text[starts[from]..end]);
        if end == text.len() {
            return pieces;
        }
        from += step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn short_texts_are_one_piece() {
        assert_eq!(windows("", 10, 2), Vec::<&str>::new());
        assert_eq!(windows("abc", 10, 2), ["abc"]);
        assert_eq!(windows("abcdefghij", 4, 1), ["abcd", "defg", "ghij"]);
        assert_eq!(windows("äöüßäöü", 4, 1), ["äöüß", "ßäöü"]);
    }

    proptest! {
        /// Whatever is no longer than the overlap stands whole in one of the pieces.
        #[test]
        fn nothing_hides_at_a_cut(text in "[a-zäß €\u{1f600}]{0,200}", at in 0usize..200, length in 1usize..=5) {
            let chars: Vec<char> = text.chars().collect();
            let needle: String = chars.iter().skip(at).take(length).collect();
            let pieces = windows(&text, 12, 5);
            prop_assert!(pieces.iter().all(|piece| piece.chars().count() <= 12));
            prop_assert!(needle.is_empty() || pieces.iter().any(|piece| piece.contains(&needle)));
        }
    }
}
