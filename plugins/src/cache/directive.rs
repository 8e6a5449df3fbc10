//! What a caller's headers allow the cache to do.

use http::{HeaderMap, HeaderName, header};

/// `x-spillway-cache-bypass`: any value except `0` or `false` skips the cache.
pub const BYPASS: HeaderName = HeaderName::from_static("x-spillway-cache-bypass");

/// What the cache may do for a request (RFC 9111, 5.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directive {
    /// Answer it.
    pub read: bool,
    /// Cache its answer.
    pub write: bool,
}

impl Directive {
    /// From the headers: `no-cache` asks for a fresh answer; `no-store` and the bypass header turn the cache off.
    pub fn of(headers: &HeaderMap) -> Self {
        let bypass = headers.get(BYPASS).is_some_and(|value| !matches!(value.as_bytes(), b"" | b"0" | b"false"));
        let mut directive = Directive { read: !bypass, write: !bypass };
        for value in headers.get_all(header::CACHE_CONTROL) {
            for word in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if word.eq_ignore_ascii_case(b"no-cache") {
                    directive.read = false;
                } else if word.eq_ignore_ascii_case(b"no-store") {
                    directive = Directive { read: false, write: false };
                    return directive;
                }
            }
        }
        directive
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_decides() {
        let directive = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.append(*name, value.parse().unwrap());
            }
            let Directive { read, write } = Directive::of(&headers);
            (read, write)
        };
        assert_eq!(directive(&[]), (true, true));
        assert_eq!(directive(&[("cache-control", "max-age=0, No-Cache")]), (false, true));
        assert_eq!(directive(&[("cache-control", "no-cache"), ("cache-control", "no-store")]), (false, false));
        assert_eq!(directive(&[("x-spillway-cache-bypass", "true")]), (false, false));
        assert_eq!(directive(&[("x-spillway-cache-bypass", "0"), ("cache-control", "private")]), (true, true));
    }
}
