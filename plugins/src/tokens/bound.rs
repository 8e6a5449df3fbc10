//! A cheap bound of a prompt's tokens, from its bytes: what admission reserves.

use std::sync::LazyLock;

use memchr::{memchr, memmem::Finder};

/// What an image in the prompt counts as: 1024 by 1024 pixels in full detail (OpenAI's images guide).
pub(super) const IMAGE: u64 = 765;

/// About how many tokens a request body's prompt has, rather more than fewer: a token for four bytes of
/// ASCII (English text has about as many) or two bytes of anything else, and a fixed count for an image
/// that is written into the text.
pub fn input_bound(body: &[u8]) -> u64 {
    static BASE64: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b";base64,"));
    // Only long bodies can hold an image.
    if body.len() < 4096 {
        return text_bound(body);
    }
    let (mut tokens, mut rest) = (0, body);
    while let Some(at) = BASE64.find(rest) {
        let after = &rest[at..];
        let end = memchr(b'"', after).unwrap_or(after.len());
        tokens += text_bound(&rest[..at]) + IMAGE;
        rest = &after[end..];
    }
    tokens + text_bound(rest)
}

fn text_bound(text: &[u8]) -> u64 {
    let other = text.iter().filter(|byte| !byte.is_ascii()).count();
    ((text.len() - other).div_ceil(4) + other.div_ceil(2)) as u64
}
