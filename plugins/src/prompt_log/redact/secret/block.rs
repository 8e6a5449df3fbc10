//! Private keys in PEM form, and passwords within URLs.

use std::ops::Range;

use super::super::bytes::run;

/// Whole PEM blocks. Of a block that was cut off, everything that looks like a part of it.
pub fn private_keys(bytes: &[u8], hit: &mut dyn FnMut(Range<usize>)) {
    const BEGIN: &[u8] = b"-----BEGIN ";
    const END: &[u8] = b"-----END ";
    let mut done = 0;
    // Whether there is an end at all is checked only once, so that many beginnings cost no more than one.
    let mut ended = true;
    for start in memchr::memmem::find_iter(bytes, BEGIN) {
        let label = start + BEGIN.len();
        let dashes = run(bytes, label, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
        if start < done || !bytes[label..dashes].ends_with(b"PRIVATE KEY") && !bytes[label..dashes].ends_with(b"PRIVATE KEY BLOCK") {
            continue;
        }
        let end = if ended { memchr::memmem::find(&bytes[dashes..], END).map(|len| dashes + len + END.len()) } else { None };
        ended = end.is_some();
        done = match end {
            Some(end) => {
                let label = run(bytes, end, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
                run(bytes, label, |byte| byte == b'-')
            }
            None => run(bytes, dashes, |byte| byte.is_ascii_alphanumeric() || b"-+/=\\,:\r\n\t ".contains(&byte)),
        };
        hit(start..done);
    }
}

/// The password of `https://user:password@host`.
pub fn url_passwords(bytes: &[u8], hit: &mut dyn FnMut(Range<usize>)) {
    for slashes in memchr::memmem::find_iter(bytes, b"://") {
        let start = slashes + 3;
        let end = run(bytes, start, |byte| !byte.is_ascii_whitespace() && !b"/?#\"'<>`\\".contains(&byte));
        let Some(at) = memchr::memrchr(b'@', &bytes[start..end]) else { continue };
        let Some(colon) = memchr::memchr(b':', &bytes[start..start + at]) else { continue };
        if colon + 1 < at {
            hit(start + colon + 1..start + at);
        }
    }
}
