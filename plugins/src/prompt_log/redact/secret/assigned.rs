//! Values after a name such as `password=`, `"api_key":` or `Authorization:`.
//!
//! Only the value is removed. Code assigns to such names all the time without a secret, so a value that is clearly a
//! type, a call or another such name stays.

use std::ops::Range;

use super::super::bytes::{at_is, before, run};

/// The longest name before a value, and how much of a value is examined.
const NAME: usize = 40;
const HEAD: usize = 64;

/// Names of values that are secret whatever they look like.
const STRONG: &[&str] = &[
    "password",
    "passwd",
    "pwd",
    "passphrase",
    "passwort",
    "kennwort",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "accountkey",
    "encryptionkey",
    "signingkey",
    "sharedkey",
    "subscriptionkey",
    "functionskey",
    "clientsecret",
    "accesstoken",
    "refreshtoken",
    "authtoken",
    "bearertoken",
    "apitoken",
];
/// Names that also have other meanings: a language model's tokens, a secret in prose.
const WEAK: &[&str] = &["secret", "token"];

/// What declarations and empty values have in place of a secret.
const NOTHING: &[&str] = &[
    "string",
    "str",
    "text",
    "varchar",
    "char",
    "bytes",
    "bytea",
    "byte",
    "bool",
    "boolean",
    "int",
    "integer",
    "i32",
    "i64",
    "u32",
    "u64",
    "usize",
    "number",
    "float",
    "any",
    "object",
    "optional",
    "option",
    "vec",
    "list",
    "dict",
    "secretstr",
    "secretstring",
    "none",
    "null",
    "nil",
    "undefined",
    "true",
    "false",
    "self",
    "await",
    "new",
    "unknown",
    "void",
    "required",
    "let",
    "const",
];

const SCHEMES: &[&str] = &["bearer", "basic", "token", "apikey", "negotiate", "ntlm"];
/// Schemes with parameters, some of which are secret.
const LONG_SCHEMES: &[&str] = &["digest", "aws4-hmac-sha256", "hawk", "signature", "sharedkey", "sharedaccesssignature"];

enum Name {
    Strong,
    Weak,
    Authorization,
    /// `sig=` of a shared access signature.
    Signature,
}

/// Calls `hit` with the range of each value.
pub fn find(bytes: &[u8], hit: &mut dyn FnMut(Range<usize>)) {
    let mut done = 0;
    for at in memchr::memchr2_iter(b'=', b':', bytes) {
        if at < done {
            continue;
        }
        let Some((name, word)) = name_before(bytes, at) else { continue };
        let Some((value, arrow)) = value_start(bytes, at) else { continue };
        if bytes[at] == b':' && matches!(name, Name::Strong) && at_is(bytes, value, |byte| matches!(byte, b'\n' | b'\r')) {
            if let Some(range) = value_below(bytes, value) {
                done = range.end;
                hit(range);
            }
            continue;
        }
        if let Some(range) = value_range(bytes, &name, word, value, bytes[at], arrow) {
            done = range.end;
            hit(range);
        }
    }
}

/// Whether a word is the name of a secret.
pub(super) fn is_name(word: &[u8]) -> bool {
    STRONG.iter().any(|name| ends_with(word, name))
}

/// Whether a value looks like a secret, and isn't a type, a variable or a call.
pub(super) fn is_value(value: &[u8]) -> bool {
    !value.is_empty() && !is_nothing(value) && !is_code(value) && value.first() != Some(&b'&')
}

/// Whether it looks like one even among words.
pub(super) fn is_value_in_prose(value: &[u8]) -> bool {
    is_value(value) && is_likely(value, b':')
}

/// The only word of the indented line after `name:`, as in YAML.
fn value_below(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let line = at + if bytes[at..].starts_with(b"\r\n") { 2 } else { 1 };
    let start = run(&bytes[..bytes.len().min(line + HEAD)], line, |byte| matches!(byte, b' ' | b'\t'));
    let quoted = usize::from(at_is(bytes, start, |byte| matches!(byte, b'"' | b'\'')));
    let word = start + quoted;
    let end = run(bytes, word, |byte| !byte.is_ascii_whitespace());
    let over = at_is(bytes, end, |byte| matches!(byte, b'\n' | b'\r')) || end == bytes.len();
    let end = end - if quoted == 1 && end > word { 1 } else { 0 };
    let value = bytes.get(word..end)?;
    (start > line && over && !value.ends_with(b":") && is_value_in_prose(value)).then_some(word..end)
}

/// The kind of the name that ends before a separator, and its last word's beginning.
fn name_before(bytes: &[u8], separator: usize) -> Option<(Name, usize)> {
    let mut end = separator;
    for _ in 0..6 {
        match before(bytes, end) {
            Some(b' ' | b'\t' | b'"' | b'\'' | b'`' | b'\\' | b'*') => end -= 1,
            // `["token"]`, but not a placeholder such as `[secret]: …`
            Some(b']') if matches!(before(bytes, end - 1), Some(b'"' | b'\'')) => end -= 1,
            _ => break,
        }
    }
    let window = &bytes[end.saturating_sub(NAME)..end];
    // Most names end the search here.
    if !matches!(window.last()?.to_ascii_lowercase(), b'd' | b'y' | b't' | b'n' | b'e' | b'g') {
        return None;
    }
    let is = |names: &[&str]| names.iter().any(|name| ends_with(window, name));
    let word = end - window.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
    let name = if is(STRONG) {
        Name::Strong
    } else if is(WEAK) {
        Name::Weak
    } else if is(&["authorization"]) {
        Name::Authorization
    } else if &bytes[word..end] == b"sig" && bytes[separator] == b'=' {
        Name::Signature
    } else {
        return None;
    };
    Some((name, word))
}

/// Whether a text ends with a name, in any case and with any separators between its words.
fn ends_with(text: &[u8], name: &str) -> bool {
    let mut letters = text.iter().rev().filter(|byte| !b"_- ".contains(byte));
    name.bytes().rev().all(|wanted| letters.next().is_some_and(|byte| byte.eq_ignore_ascii_case(&wanted)))
}

/// Where the value after a separator begins, and whether the separator is an arrow; `None` if it is a comparison.
fn value_start(bytes: &[u8], separator: usize) -> Option<(usize, bool)> {
    let next = bytes.get(separator + 1).copied()?;
    let (mut at, arrow) = match (bytes[separator], next) {
        (b'=', b'=') | (b':', b':') => return None,
        (b'=', b'>') => (separator + 2, true),
        (b':', b'=') => (separator + 2, false),
        _ => (separator + 1, false),
    };
    for _ in 0..8 {
        if !at_is(bytes, at, |byte| matches!(byte, b' ' | b'\t' | b'*')) {
            break;
        }
        at += 1;
    }
    Some((at, arrow))
}

fn value_range(bytes: &[u8], name: &Name, word: usize, start: usize, separator: u8, arrow: bool) -> Option<Range<usize>> {
    let quoted = quoted(bytes, start);
    match name {
        Name::Authorization => {
            return credentials(bytes, quoted.map_or_else(|| run(bytes, start, |byte| byte == b'"'), |range| range.start));
        }
        Name::Signature => {
            let end = run(bytes, start, |byte| byte.is_ascii_alphanumeric() || b"%+/=_-".contains(&byte));
            return (end - start >= 20).then_some(start..end);
        }
        Name::Strong | Name::Weak => {}
    }
    if let Some(range) = quoted {
        let value = &bytes[range.clone()];
        // A language model's own tokens: "<|end|>"
        let special =
            matches!(value, [b'<', .., b'>']) || matches!(value, [b'[', .., b']']) && value.iter().all(|byte| !byte.is_ascii_digit());
        return (!value.is_empty() && !special).then_some(range);
    }
    if arrow {
        return None;
    }
    let plain = |byte: u8| !byte.is_ascii_whitespace() && !b"\"'`;&\\<>".contains(&byte);
    let head = &bytes[start..run(&bytes[..bytes.len().min(start + HEAD)], start, plain)];
    if is_nothing(head) || head.first() == Some(&b'&') || bytes.get(start) == Some(&b'&') {
        // `let password: &str = "…"`
        let equals =
            run(&bytes[..bytes.len().min(start + HEAD)], start, |byte| byte.is_ascii_alphanumeric() || b" &'_[]<>|.".contains(&byte));
        let typed = separator == b':' && at_is(bytes, equals, |byte| byte == b'=') && !at_is(bytes, equals + 1, |byte| byte == b'=');
        return if typed { quoted_after(bytes, equals + 1) } else { None };
    }
    if is_code(head) || is_path_of_shell(&bytes[word..], head) || (matches!(name, Name::Weak) && !is_likely(head, separator)) {
        return None;
    }
    let end = value_end(bytes, start, plain);
    (end > start).then_some(start..end)
}

/// The end of an unquoted value: at a blank, a quote or a separator of values, without the closing marks of a sentence
/// or a call.
fn value_end(bytes: &[u8], start: usize, plain: impl Fn(u8) -> bool) -> usize {
    let mut end = run(bytes, start, plain);
    // `user=a, password=b, host=c`: a comma before a name begins the next value.
    if let Some(comma) = memchr::memchr(b',', &bytes[start..end])
        && memchr::memchr2(b'=', b':', &bytes[start + comma..end]).is_some()
    {
        end = start + comma;
    }
    while end > start && b".,)]}*".contains(&bytes[end - 1]) {
        end -= 1;
    }
    end
}

/// The content of a quoted text that begins at `at`, up to the line's end if it isn't closed; its quotes may be
/// escaped.
fn quoted(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    let escaped = at_is(bytes, at, |byte| byte == b'\\');
    // The prefix of a literal: f"…", r'…', @"…", b"…"
    let prefix =
        usize::from(at_is(bytes, at, |byte| b"frbuL@".contains(&byte)) && at_is(bytes, at + 1, |byte| matches!(byte, b'"' | b'\'')));
    let open = at + usize::from(escaped) + prefix;
    let quote = bytes.get(open).copied().filter(|byte| matches!(byte, b'"' | b'\'' | b'`'))?;
    let start = open + 1;
    for end in memchr::memchr2_iter(quote, b'\n', &bytes[start..]).map(|len| start + len) {
        if bytes[end] == b'\n' {
            return Some(start..end);
        }
        let slashes = bytes[start..end].iter().rev().take_while(|byte| **byte == b'\\').count();
        if escaped {
            return Some(start..end - slashes.min(1));
        }
        if slashes % 2 == 0 {
            return Some(start..end);
        }
    }
    Some(start..bytes.len())
}

fn quoted_after(bytes: &[u8], at: usize) -> Option<Range<usize>> {
    quoted(bytes, at + usize::from(at_is(bytes, at, |byte| byte == b' '))).filter(|range| !range.is_empty())
}

/// The text after `Authorization:`, without its scheme.
fn credentials(bytes: &[u8], start: usize) -> Option<Range<usize>> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    // Bounded, because a long word may not be a scheme.
    let word = run(&bytes[..bytes.len().min(start + HEAD)], start, letter);
    let scheme = &bytes[start..word];
    let is = |schemes: &[&str]| schemes.iter().any(|name| scheme.eq_ignore_ascii_case(name.as_bytes()));
    let value = run(bytes, word, |byte| byte == b' ');
    let range = if is(LONG_SCHEMES) {
        value..run(bytes, value, |byte| byte != b'\n' && byte != b'\r' && byte != b'\'')
    } else if is(SCHEMES) {
        value..run(bytes, value, |byte| letter(byte) || byte == b':')
    } else if scheme.len() >= 16 && scheme.iter().any(u8::is_ascii_digit) {
        start..run(bytes, word, letter)
    } else {
        return None;
    };
    (!range.is_empty()).then_some(range)
}

/// A type, a keyword, or another name for a secret (`token = token`, `"password": request.password`).
fn is_nothing(head: &[u8]) -> bool {
    let path = &head[..run(head, 0, |byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte))];
    let rest = &head[path.len()..];
    let word = path.rsplit(|byte| *byte == b'.').find(|word| !word.is_empty()).unwrap_or_default();
    let ends = rest.first().is_none_or(|byte| b",)]}[?|*!".contains(byte));
    let named = |names: &[&str]| names.iter().any(|name| word.len() >= name.len() && ends_with(word, name));
    ends && (NOTHING.iter().any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
        || (named(STRONG) || named(WEAK)) && !word.iter().any(u8::is_ascii_digit))
}

/// A variable, a template, a call or a path: `$TOKEN`, `{{token}}`, `get_token()`, `os.environ[…]`, `Token::new`.
fn is_code(head: &[u8]) -> bool {
    let path = run(head, 0, |byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte));
    let word = head.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_');
    head.first().is_none_or(|byte| b"${(<[%*|".contains(byte))
        || (word && matches!(head[path..], [b'(' | b'[', ..] | [b':', b':', ..] | [b'!', b'(', ..]))
}

/// `PWD=/home/me`, which is a directory.
fn is_path_of_shell(name: &[u8], head: &[u8]) -> bool {
    head.first() == Some(&b'/') && (name.starts_with(b"PWD") || name.starts_with(b"OLDPWD"))
}

/// Whether the value of a name such as token or secret looks like one.
fn is_likely(head: &[u8], separator: u8) -> bool {
    let digits = head.iter().filter(|byte| byte.is_ascii_digit()).count();
    let number = head.iter().all(|byte| byte.is_ascii_digit() || b".,-)]}".contains(byte)) && digits < 6;
    match separator {
        b'=' => !number,
        _ => !number && head.len() >= 6 && (digits > 0 || head.len() >= 20),
    }
}
