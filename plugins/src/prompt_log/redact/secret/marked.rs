//! Secrets in an XML element (`<password>…</password>`) and after an option of a command (`--password …`).

use std::ops::Range;

use super::super::bytes::{at_is, before, run};
use super::assigned::{is_name, is_value, is_value_in_prose};

/// The longest name, and the longest value.
const NAME: usize = 40;
const VALUE: usize = 512;

/// The text of elements that are named after secrets.
pub fn elements(bytes: &[u8], hit: &mut dyn FnMut(Range<usize>)) {
    for end in memchr::memmem::find_iter(bytes, "</") {
        let name = end + 2;
        let after = run(&bytes[..bytes.len().min(name + NAME)], name, |byte| byte.is_ascii_alphanumeric() || b"_-:.".contains(&byte));
        if !at_is(bytes, after, |byte| byte == b'>') || !is_name(&bytes[name..after]) {
            continue;
        }
        let from = end.saturating_sub(VALUE);
        let Some(open) = memchr::memrchr(b'>', &bytes[from..end]) else { continue };
        let start = from + open + 1;
        if is_value(&bytes[start..end]) {
            hit(start..end);
        }
    }
}

/// The words after options that are named after secrets, if they look like secrets: `--password` is also a word in texts.
pub fn options(bytes: &[u8], hit: &mut dyn FnMut(Range<usize>)) {
    for dashes in memchr::memmem::find_iter(bytes, "--") {
        let name = dashes + 2;
        let after = run(&bytes[..bytes.len().min(name + NAME)], name, |byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        if before(bytes, dashes) == Some(b'-') || !at_is(bytes, after, |byte| byte == b' ') || !is_name(&bytes[name..after]) {
            continue;
        }
        let blank = after + 1;
        let quote = bytes.get(blank).copied().filter(|byte| matches!(byte, b'"' | b'\''));
        let start = blank + usize::from(quote.is_some());
        let ends = |byte: u8| match quote {
            Some(quote) => byte == quote || byte == b'\n',
            None => byte.is_ascii_whitespace() || b"\"'`;&|\\<>".contains(&byte),
        };
        let end = run(&bytes[..bytes.len().min(start + VALUE)], start, |byte| !ends(byte));
        let value = &bytes[start..end];
        if if quote.is_some() { is_value(value) } else { is_value_in_prose(value) } {
            hit(start..end);
        }
    }
}
