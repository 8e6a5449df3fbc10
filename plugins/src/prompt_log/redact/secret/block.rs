//! Private keys in PEM form, and passwords within URLs.

use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;

use super::super::bytes::run;

// Making a finder takes longer than searching a short text.
static BEGIN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("-----BEGIN "));
static END: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("-----END "));
static SCHEME: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new("://"));

/// Whole PEM blocks. Of a block that was cut off, everything that looks like a part of it.
pub fn private_keys(bytes: &[u8], hit: &mut dyn FnMut(Range<usize>)) {
    let mut done = 0;
    // Whether there is an end at all is checked only once, so that many beginnings cost no more than one.
    let mut ended = true;
    for start in BEGIN.find_iter(bytes) {
        let label = start + BEGIN.needle().len();
        let dashes = run(bytes, label, |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ');
        if start < done || !bytes[label..dashes].ends_with(b"PRIVATE KEY") && !bytes[label..dashes].ends_with(b"PRIVATE KEY BLOCK") {
            continue;
        }
        let end = if ended { END.find(&bytes[dashes..]).map(|len| dashes + len + END.needle().len()) } else { None };
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
    for slashes in SCHEME.find_iter(bytes) {
        let start = slashes + 3;
        let end = run(bytes, start, |byte| !byte.is_ascii_whitespace() && !b"/?#\"'<>`\\".contains(&byte));
        let Some(at) = memchr::memrchr(b'@', &bytes[start..end]) else { continue };
        let Some(colon) = memchr::memchr(b':', &bytes[start..start + at]) else { continue };
        if colon + 1 < at {
            hit(start + colon + 1..start + at);
        }
    }
}
