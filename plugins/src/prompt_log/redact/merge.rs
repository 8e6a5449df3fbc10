//! Turns what the finders found into one text.
//!
//! Finders know nothing of each other, so their matches overlap. Overlapping ones become a single
//! range: leaving the rest of a shorter match behind could leave half a number. Placeholders that
//! stand in the text already are left alone, which is what makes a second pass find nothing.

use std::ops::Range;

use super::class::Class;

/// A match and the index of its placeholder.
#[derive(Debug)]
pub struct Hit {
    pub range: Range<usize>,
    pub label: usize,
}

/// The text with `hits` replaced, each with the whole of its lines if so wished; `None` if nothing is left to replace.
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

/// Where placeholders stand already.
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

/// Drops matches within a placeholder; those that reach into one take all of it, an operator's only if they go on after it.
fn outside(mut hits: Vec<Hit>, standing: &[Range<usize>]) -> Vec<Hit> {
    hits.retain_mut(|Hit { range, label }| {
        let first = standing.partition_point(|old| old.end <= range.start);
        let last = standing.partition_point(|old| old.start < range.end);
        let Some(over) = standing.get(first..last).filter(|over| !over.is_empty()) else { return true };
        let (head, tail) = (over[0].start, over[over.len() - 1].end);
        let within = over.len() == 1 && head <= range.start && range.end <= tail;
        // An operator's pattern can match the placeholder itself, and would eat on at each pass.
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

/// Matches that don't overlap, in order, as the lines that they stand in.
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

/// Overlapping matches as one, under the name of the longest, or of the latest class if they are alike.
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
