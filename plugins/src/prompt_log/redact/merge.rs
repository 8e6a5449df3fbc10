//! Combines the finders' matches into one text.
//!
//! Finders are independent, so their matches may overlap. Overlapping ones become one range: otherwise the rest of a
//! shorter match could leave half a number in the text. Placeholders that are in the text already stay, so that a
//! second pass finds nothing.

use std::ops::Range;

use super::class::Class;

/// A match and the index of its placeholder.
#[derive(Debug)]
pub struct Hit {
    pub range: Range<usize>,
    pub label: usize,
}

/// The text with `hits` replaced, each with the whole of its lines if `whole_lines`; `None` if there is nothing to
/// replace.
pub fn replace(text: &str, hits: Vec<Hit>, placeholders: &[String], whole_lines: bool) -> Option<String> {
    let mut hits = merged(outside(settle_urls(text, hits), &standing(text, placeholders)));
    if hits.is_empty() {
        return None;
    }
    if whole_lines {
        hits = lines(text, hits);
    }
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for Hit { range, label } in hits {
        out.push_str(&text[at..range.start]);
        out.push_str(&placeholders[label]);
        at = range.end;
    }
    out.push_str(&text[at..]);
    Some(out)
}

/// The positions of placeholders in the text.
fn standing(text: &str, placeholders: &[String]) -> Vec<Range<usize>> {
    let at = |start| {
        placeholders.iter().find(|name| text.as_bytes()[start..].starts_with(name.as_bytes())).map(|name| start..start + name.len())
    };
    memchr::memchr_iter(b'[', text.as_bytes()).filter_map(at).collect()
}

/// Drops an e-mail address that is the end of a password and the host of a URL (`//me:word@host.org`).
fn settle_urls(text: &str, mut hits: Vec<Hit>) -> Vec<Hit> {
    let mut ends: Vec<usize> = hits.iter().filter(|hit| hit.label == Class::Secret.index()).map(|hit| hit.range.end).collect();
    ends.retain(|end| text.as_bytes().get(*end) == Some(&b'@'));
    ends.sort_unstable();
    hits.retain(|hit| {
        let next = ends.get(ends.partition_point(|end| *end <= hit.range.start));
        hit.label != Class::Email.index() || next.is_none_or(|end| *end >= hit.range.end)
    });
    hits
}

/// Drops matches within a placeholder. Matches that overlap one are extended to all of it; an operator's only if it
/// continues after the placeholder.
fn outside(mut hits: Vec<Hit>, standing: &[Range<usize>]) -> Vec<Hit> {
    hits.retain_mut(|Hit { range, label }| {
        let first = standing.partition_point(|old| old.end <= range.start);
        let last = standing.partition_point(|old| old.start < range.end);
        let Some(over) = standing.get(first..last).filter(|over| !over.is_empty()) else { return true };
        let (head, tail) = (over[0].start, over[over.len() - 1].end);
        let within = over.len() == 1 && head <= range.start && range.end <= tail;
        // An operator's pattern can match the placeholder itself, and would otherwise grow with each pass.
        let edge = *label >= Class::NAMES.len() && (head <= range.start || range.end <= tail);
        if within || edge {
            return false;
        }
        range.start = range.start.min(head);
        range.end = range.end.max(tail);
        true
    });
    hits
}

/// Matches without overlap, in order, extended to whole lines.
fn lines(text: &str, hits: Vec<Hit>) -> Vec<Hit> {
    let bytes = text.as_bytes();
    let line_end = |at: usize| memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |len| at + len);
    let mut out: Vec<Hit> = Vec::new();
    for Hit { range, label } in hits {
        match out.last_mut() {
            Some(last) if range.end <= last.range.end => {}
            Some(last) if range.start <= last.range.end => last.range.end = line_end(range.end),
            _ => {
                let start = memchr::memrchr(b'\n', &bytes[..range.start]).map_or(0, |at| at + 1);
                out.push(Hit { range: start..line_end(range.end), label });
            }
        }
    }
    out
}

/// Overlapping matches as one, with the name of the longest one, or of the last class if the lengths are equal.
fn merged(mut hits: Vec<Hit>) -> Vec<Hit> {
    hits.sort_unstable_by_key(|hit| (hit.range.start, hit.range.end, hit.label));
    let mut out: Vec<Hit> = Vec::with_capacity(hits.len());
    let mut longest = 0;
    for hit in hits {
        match out.last_mut() {
            Some(last) if hit.range.start < last.range.end => {
                if (hit.range.len(), hit.label) >= (longest, last.label) {
                    longest = hit.range.len();
                    last.label = hit.label;
                }
                last.range.end = last.range.end.max(hit.range.end);
            }
            _ => {
                longest = hit.range.len();
                out.push(hit);
            }
        }
    }
    out
}
