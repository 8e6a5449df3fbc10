//! E-mail addresses: something before an `@`, and a name with a top-level domain after it.
//!
//! Quoted local parts and bare host names are not redacted; `git@github.com` looks like an address and is redacted.

use std::ops::Range;

/// Calls `hit` with the range of each address.
///
/// Neither side of an address contains an `@`, so every byte is read at most twice.
pub fn find(text: &str, hit: &mut dyn FnMut(Range<usize>)) {
    let mut done = 0;
    for at in memchr::memchr_iter(b'@', text.as_bytes()) {
        let (left, right) = (&text[done..at], &text[at + 1..]);
        if let (Some(local), Some(domain)) = (local_len(left), domain_len(right)) {
            done = at + 1 + domain;
            hit(at - local..done);
        } else {
            done = at;
        }
    }
}

/// The same for addresses in a URL, where `%40` stands for the `@`.
pub fn find_encoded(text: &str, hit: &mut dyn FnMut(Range<usize>)) {
    if memchr::memchr(b'%', text.as_bytes()).is_none() {
        return;
    }
    let mut done = 0;
    for at in memchr::memmem::find_iter(text.as_bytes(), "%40") {
        let end = at + 3;
        if let (Some(local), Some(domain)) = (local_len(&text[done..at]), domain_len(&text[end..])) {
            hit(at - local..end + domain);
        }
        done = end;
    }
}

/// Letters and digits of any script, with combining marks.
fn is_letter(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '\u{300}'..='\u{36f}' | '\u{900}'..='\u{e7f}')
}

fn local_len(left: &str) -> Option<usize> {
    let start = left.rfind(|c: char| !(is_letter(c) || "._%+-'~".contains(c)));
    let start = start.map_or(0, |at| at + left[at..].chars().next().map_or(0, char::len_utf8));
    // A quote or a dash before an address isn't part of it.
    let local = left[start..].trim_start_matches(['.', '\'', '-', '~']);
    local.contains(is_letter).then_some(local.len())
}

fn domain_len(right: &str) -> Option<usize> {
    let mut best = None;
    let mut at = 0;
    loop {
        let rest = &right[at..];
        let label = &rest[..rest.find(|c: char| !(is_letter(c) || c == '-')).unwrap_or(rest.len())];
        let trimmed = label.trim_end_matches('-');
        if at > 0 && is_top(trimmed) {
            best = Some(at + trimmed.len());
        }
        if trimmed.is_empty() || trimmed.len() < label.len() || label.starts_with('-') || rest.as_bytes().get(label.len()) != Some(&b'.') {
            return best;
        }
        at += label.len() + 1;
    }
}

/// Whether a label can be a top-level domain: not a version (`left-pad@1.3.0`), not an attribute (`x@w.T`).
fn is_top(label: &str) -> bool {
    label.starts_with("xn--") || (label.chars().all(|c| is_letter(c) && !c.is_numeric()) && label.chars().nth(1).is_some())
}
