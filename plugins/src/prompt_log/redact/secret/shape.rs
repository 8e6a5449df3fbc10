//! Tokens with a prefix that their issuer chose so that they can be found.

use std::ops::Range;

use aho_corasick::{AhoCorasick, BuildError, MatchKind};

use super::super::bytes::{run, starts_word};

/// One issuer's tokens.
struct Shape {
    prefix: &'static str,
    /// If there are some: one of these letters follows the prefix, and a `-`.
    then: &'static [u8],
    /// The fewest characters after the prefix, and the most.
    len: std::ops::RangeInclusive<usize>,
    letters: Letters,
    /// Without a digit or a capital it is a sequence of words (`sk-fading-circle`).
    mixed: bool,
    /// The prefix stays in the text.
    keep: bool,
}

#[derive(Clone, Copy)]
enum Letters {
    /// Letters and digits.
    Plain,
    /// Also `_` and `-`, as in base64 for URLs.
    Url,
    /// Also dots between parts.
    Dotted,
    /// All characters of an HTTP token: base64 of both kinds, dots.
    Header,
}

impl Letters {
    fn has(self, byte: u8) -> bool {
        byte.is_ascii_alphanumeric()
            || match self {
                Letters::Plain => false,
                Letters::Url => b"_-".contains(&byte),
                Letters::Dotted => b"_-.".contains(&byte),
                Letters::Header => b"_-.~+/=".contains(&byte),
            }
    }
}

const ANY: usize = usize::MAX;

const fn shape(prefix: &'static str, fewest: usize, most: usize, letters: Letters) -> Shape {
    Shape { prefix, then: b"", len: fewest..=most, letters, mixed: false, keep: false }
}

const fn mixed(prefix: &'static str, fewest: usize, letters: Letters) -> Shape {
    Shape { mixed: true, ..shape(prefix, fewest, ANY, letters) }
}

/// No prefix is the beginning of another one. The search takes half as long for at most 32 of them. Lengths are shorter than today's tokens, because tokens have become
/// longer before.
const SHAPES: &[Shape] = &[
    // OpenAI, Anthropic and similar ones
    mixed("sk-", 16, Letters::Url),
    shape("gsk_", 30, ANY, Letters::Plain),
    mixed("xai-", 30, Letters::Url),
    shape("hf_", 30, ANY, Letters::Plain),
    // This gateway
    shape("spw_", 40, ANY, Letters::Plain),
    // Stripe
    shape("sk_live_", 10, ANY, Letters::Plain),
    shape("rk_live_", 10, ANY, Letters::Plain),
    shape("sk_test_", 10, ANY, Letters::Plain),
    shape("rk_test_", 10, ANY, Letters::Plain),
    shape("whsec_", 20, ANY, Letters::Header),
    // AWS
    shape("AKIA", 16, 16, Letters::Plain),
    shape("ASIA", 16, 16, Letters::Plain),
    // GitHub, GitLab
    shape("ghp_", 30, ANY, Letters::Plain),
    shape("gho_", 30, ANY, Letters::Plain),
    shape("ghu_", 30, ANY, Letters::Plain),
    shape("ghs_", 30, ANY, Letters::Plain),
    shape("ghr_", 30, ANY, Letters::Plain),
    shape("github_pat_", 30, ANY, Letters::Url),
    mixed("glpat-", 16, Letters::Dotted),
    // Slack
    Shape { then: b"abprse", ..mixed("xox", 10, Letters::Url) },
    mixed("xapp-", 20, Letters::Url),
    // Google
    mixed("AIza", 30, Letters::Url),
    // Package registries
    shape("npm_", 30, ANY, Letters::Plain),
    mixed("pypi-", 40, Letters::Url),
    // SendGrid, JSON Web Tokens
    mixed("SG.", 30, Letters::Dotted),
    mixed("eyJ", 20, Letters::Dotted),
    // All bearer tokens, also outside of a header
    Shape { keep: true, ..mixed("Bearer ", 16, Letters::Header) },
    Shape { keep: true, ..mixed("bearer ", 16, Letters::Header) },
];

/// Finds the prefixes of all shapes at once. A regular expression would do it in the same way, but it takes longer to begin, and
/// most texts are short.
#[derive(Debug)]
pub struct Shapes {
    prefixes: AhoCorasick,
}

impl Shapes {
    /// Compiles the search.
    pub fn new() -> Result<Self, BuildError> {
        let prefixes = SHAPES.iter().map(|shape| shape.prefix);
        Ok(Shapes { prefixes: AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(prefixes)? })
    }

    /// Calls `hit` with the range of each token.
    pub fn tokens(&self, text: &str, hit: &mut dyn FnMut(Range<usize>)) {
        let bytes = text.as_bytes();
        let mut done = 0;
        // The end of the last run for each kind of letters: without it, a run could be read again for each prefix in
        // it.
        let mut ends = [0; 4];
        for found in self.prefixes.find_iter(text) {
            let Some(shape) = SHAPES.get(found.pattern().as_usize()) else { continue };
            if found.start() < done || !starts_word(bytes, found.start()) {
                continue;
            }
            let Some(begin) = shape.begin(bytes, found.end()) else { continue };
            let end = &mut ends[shape.letters as usize];
            if *end < begin {
                *end = run(bytes, begin, |byte| shape.letters.has(byte));
            }
            let token = &bytes[begin..*end];
            let token = &token[..token.len() - trailing(token)];
            if shape.matches(token) {
                done = begin + token.len();
                hit(if shape.keep { begin } else { found.start() }..done);
            }
        }
    }
}

/// How many bytes of a token are searched for what its kind must have.
const LOOK: usize = 256;
const LOOK_DOT: usize = 4096;

impl Shape {
    /// Where a token begins whose prefix ends here.
    fn begin(&self, bytes: &[u8], end: usize) -> Option<usize> {
        match bytes.get(end..)? {
            _ if self.then.is_empty() => Some(end),
            [letter, b'-', ..] if self.then.contains(letter) => Some(end + 2),
            _ => None,
        }
    }

    fn matches(&self, token: &[u8]) -> bool {
        // At least two dots, or one without a signature; no part is empty.
        let dots = match self.prefix {
            "eyJ" => memchr::memmem::find(&token[..token.len().min(LOOK_DOT)], b".eyJ").is_some_and(|at| at >= 8 && token.len() - at >= 12),
            "SG." => memchr::memchr(b'.', &token[..token.len().min(LOOK)]).is_some_and(|at| at >= 14 && token.len() - at > 14),
            _ => true,
        };
        dots && self.len.contains(&token.len())
            && (!self.mixed || token.iter().take(LOOK).any(|byte| byte.is_ascii_digit() || byte.is_ascii_uppercase()))
    }
}

/// How many dots at the end belong to the sentence.
fn trailing(token: &[u8]) -> usize {
    token.iter().rev().take_while(|byte| **byte == b'.').count()
}
