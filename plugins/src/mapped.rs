//! A text in another form, and which part of the original one each of its characters stands for.

use std::ops::Range;

use crate::escapes::{LEVELS, may_have};
use crate::json::escape;

/// A text that was made from another one.
#[derive(Debug)]
pub struct Mapped {
    /// The text.
    pub text: String,
    /// What it was made of, in order.
    parts: Vec<Part>,
    /// The length of the original.
    end: usize,
}

/// A part of a text.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// Where it begins in the text.
    at: usize,
    /// Where it begins in the original.
    from: usize,
    /// Both are the same, for any number of characters. Otherwise it is one character or escape, and may show nothing.
    same: bool,
}

impl Mapped {
    /// `take` gets the rest of the original: it adds what the rest's first character or escape shows, and returns its
    /// length.
    pub fn new(original: &str, mut take: impl FnMut(&str, &mut String) -> usize) -> Self {
        let mut mapped = Mapped { text: String::with_capacity(original.len()), parts: Vec::new(), end: original.len() };
        let mut rest = original;
        while !rest.is_empty() {
            let (at, from) = (mapped.text.len(), original.len() - rest.len());
            let (taken, next) = rest.split_at_checked(take(rest, &mut mapped.text).max(1)).unwrap_or((rest, ""));
            let same = mapped.text.get(at..) == Some(taken);
            if !(same && mapped.parts.last().is_some_and(|last| last.same)) {
                mapped.parts.push(Part { at, from, same });
            }
            rest = next;
        }
        mapped
    }

    /// One that was made from this one's text, as made from this one's original.
    pub fn then(&self, take: impl FnMut(&str, &mut String) -> usize) -> Self {
        let next = Mapped::new(&self.text, take);
        let mut parts = Vec::with_capacity(next.parts.len() + self.parts.len());
        for (index, part) in next.parts.iter().enumerate() {
            let from = self.begin(part.from);
            parts.push(Part { from, same: part.same && self.is_same(part.from), ..*part });
            // What stayed the same here may be several parts of this one.
            let end = next.parts.get(index + 1).map_or(self.text.len(), |next| next.from);
            if part.same {
                let first = self.parts.partition_point(|mine| mine.at <= part.from);
                let mine = self.parts.iter().skip(first).take_while(|mine| mine.at < end);
                parts.extend(mine.map(|mine| Part { at: part.at + (mine.at - part.from), ..*mine }));
            }
        }
        Mapped { text: next.text, parts, end: self.end }
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

    /// The last part that begins before a place, or there, and the next one.
    fn around(&self, next: usize) -> (Part, Option<Part>) {
        let last = next.checked_sub(1).and_then(|last| self.parts.get(last)).copied();
        (last.unwrap_or_default(), self.parts.get(next).copied())
    }

    fn is_same(&self, at: usize) -> bool {
        self.around(self.parts.partition_point(|part| part.at <= at)).0.same
    }

    fn begin(&self, at: usize) -> usize {
        let (part, _) = self.around(self.parts.partition_point(|part| part.at <= at));
        if part.same { part.from + (at - part.at) } else { part.from }
    }

    /// The part of the original that a part of the text stands for.
    pub fn original(&self, range: Range<usize>) -> Range<usize> {
        let (last, next) = self.around(self.parts.partition_point(|part| part.at < range.end));
        let end = if last.same { last.from + (range.end - last.at) } else { next.map_or(self.end, |next| next.from) };
        self.begin(range.start).min(end)..end
    }

    /// A part of the original without the halves of escapes at its ends.
    pub fn whole(&self, range: Range<usize>) -> Range<usize> {
        let around = |from: usize| self.around(self.parts.partition_point(|part| part.from <= from));
        let (first, next) = around(range.start);
        let start = if first.same || first.from == range.start { range.start } else { next.map_or(self.end, |next| next.from) };
        let (last, _) = around(range.end);
        let end = if last.same || range.end >= self.end { range.end } else { last.from };
        start..end.max(start)
    }

    /// What each character or escape shows, and its place in the original. What shows nothing is left out.
    pub fn shown(&self) -> impl DoubleEndedIterator<Item = (&str, Range<usize>)> {
        self.parts.iter().enumerate().flat_map(|(index, part)| {
            let (end, to) = self.parts.get(index + 1).map_or((self.text.len(), self.end), |next| (next.at, next.from));
            let text = self.text.get(part.at..end).unwrap_or_default();
            text.char_indices().filter(|(at, _)| part.same || *at == 0).map(move |(at, c)| {
                let length = c.len_utf8();
                if part.same { (&text[at..at + length], part.from + at..part.from + at + length) } else { (text, part.from..to) }
            })
        })
    }
}

/// Takes an escape, or a character.
fn unescape(rest: &str, to: &mut String) -> usize {
    let plain = || rest.chars().next().map(|c| (c, c.len_utf8()));
    let Some((c, length)) = escape(rest.as_bytes()).or_else(plain) else { return rest.len() };
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
            let place = |text: &str, at: usize| (0..=at.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let whole = mapped.whole(place(&text, from)..place(&text, from + length));
            prop_assert!(whole.start <= whole.end && text.get(whole).is_some());
            let original = mapped.original(place(&mapped.text, from)..place(&mapped.text, from + length));
            prop_assert!(original.start <= original.end && text.get(original).is_some());
            for (shown, range) in mapped.shown() {
                prop_assert!(text.get(range.clone()).is_some_and(|original| original == shown || original.starts_with('\\')), "{shown} {range:?}");
            }
            prop_assert_eq!(mapped.shown().map(|(shown, _)| shown).collect::<String>(), mapped.text.as_str());
        }
    }
}
