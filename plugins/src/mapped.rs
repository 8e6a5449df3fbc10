//! A text in another form, and which part of the original one each of its characters stands for.

use std::ops::Range;

use crate::escapes::{LEVELS, escape, may_have};

/// A text that was made from another one.
#[derive(Debug)]
pub struct Mapped {
    /// The text.
    pub text: String,
    /// Where the parts begin that it was made of: in the text, and in the original. A part can show nothing.
    parts: Vec<(usize, usize)>,
    /// The length of the original.
    end: usize,
}

impl Mapped {
    /// `take` gets the rest of the original: it adds what the rest's first part shows, and returns the part's length.
    pub fn new(original: &str, mut take: impl FnMut(&str, &mut String) -> usize) -> Self {
        let mut mapped = Mapped { text: String::with_capacity(original.len()), parts: Vec::new(), end: original.len() };
        let mut rest = original;
        while !rest.is_empty() {
            mapped.parts.push((mapped.text.len(), original.len() - rest.len()));
            let length = take(rest, &mut mapped.text);
            rest = rest.get(length.max(1)..).unwrap_or_default();
        }
        mapped
    }

    /// One that was made from this one's text, as made from this one's original.
    pub fn then(&self, take: impl FnMut(&str, &mut String) -> usize) -> Self {
        let mut next = Mapped::new(&self.text, take);
        next.parts.iter_mut().for_each(|(_, at)| *at = self.begin(*at));
        next.end = self.end;
        next
    }

    /// A text with its JSON escapes decoded; `None` if it has none.
    pub fn unescaped(original: &str) -> Option<Self> {
        if !may_have(original) {
            return None;
        }
        let mut mapped = Mapped::new(original, unescape);
        for _ in 1..LEVELS {
            if !may_have(&mapped.text) {
                break;
            }
            mapped = mapped.then(unescape);
        }
        Some(mapped).filter(|mapped| mapped.text.len() < original.len())
    }

    fn begin(&self, at: usize) -> usize {
        let next = self.parts.partition_point(|(begin, _)| *begin <= at);
        next.checked_sub(1).and_then(|last| self.parts.get(last)).map_or(0, |(_, begin)| *begin)
    }

    /// The part of the original that a part of the text stands for.
    pub fn original(&self, range: Range<usize>) -> Range<usize> {
        let next = self.parts.partition_point(|(begin, _)| *begin < range.end);
        let end = self.parts.get(next).map_or(self.end, |(_, begin)| *begin);
        self.begin(range.start).min(end)..end
    }

    /// A part of the original without the halves of escapes at its ends.
    pub fn whole(&self, range: Range<usize>) -> Range<usize> {
        let first = self.parts.partition_point(|(_, begin)| *begin < range.start);
        let start = self.parts.get(first).map_or(self.end, |(_, begin)| *begin);
        let last = self.parts.partition_point(|(_, begin)| *begin <= range.end);
        let end = if range.end >= self.end {
            self.end
        } else {
            last.checked_sub(1).and_then(|last| self.parts.get(last)).map_or(0, |(_, begin)| *begin)
        };
        start..end.max(start)
    }

    /// What each part shows, and its place in the original.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = (&str, Range<usize>)> {
        (0..self.parts.len()).map(|index| {
            let (begin, from) = self.parts.get(index).copied().unwrap_or_default();
            let (end, to) = self.parts.get(index + 1).copied().unwrap_or((self.text.len(), self.end));
            (self.text.get(begin..end).unwrap_or_default(), from..to)
        })
    }
}

/// Takes an escape, or a character.
fn unescape(rest: &str, to: &mut String) -> usize {
    let plain = || rest.chars().next().map(|c| (c, c.len_utf8()));
    let Some((c, length)) = escape(rest).or_else(plain) else { return rest.len() };
    to.push(c);
    length
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn places_are_those_of_the_original() {
        let text = r#"{"to":"ä\nj\u0061ne\\u0040x"}"#;
        let mapped = Mapped::unescaped(text).unwrap();
        assert_eq!(mapped.text, "{\"to\":\"ä\njane@x\"}");
        let at = mapped.text.find("jane@x").unwrap();
        assert_eq!(&text[mapped.original(at..at + 6)], r"j\u0061ne\\u0040x");
        let n = text.find("nj").unwrap();
        assert_eq!(&text[mapped.whole(n..n + 2)], "j");
        assert_eq!(&text[mapped.whole(n + 1..n + 5)], "j");
        assert!(Mapped::unescaped("plain").is_none() && Mapped::unescaped(r"a\q").is_none());
    }

    proptest! {
        #[test]
        fn any_place_is_within(text in r#"[\\\\nu0049"aä🚀]{0,30}"#, from in 0usize..40, length in 0usize..40) {
            let Some(mapped) = Mapped::unescaped(&text) else { return Ok(()) };
            let whole = mapped.whole(from.min(text.len())..(from + length).min(text.len()));
            prop_assert!(whole.start <= whole.end && text.get(whole).is_some());
            let end = (from + length).min(mapped.text.len());
            let place = mapped.original(from.min(end)..end);
            prop_assert!(place.start <= place.end && text.get(place).is_some());
            prop_assert_eq!(mapped.parts().map(|(shown, _)| shown).collect::<String>(), mapped.text.as_str());
        }
    }
}
