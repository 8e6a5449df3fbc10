//! Reads a request's head as its bytes arrive: its first line, and its end.

/// The state of a head. Pingora reads further spaces in the first line as a part of the target.
#[derive(Debug, Default)]
pub(super) struct Head {
    spaces: usize,
    begun: bool,
    /// Whether the first line is over.
    line_over: bool,
    wrong: bool,
    ends: Ends,
}

/// How much of the empty line that ends a head has been read. Line feeds alone end lines, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Ends {
    #[default]
    InLine,
    LineFeed,
    Return,
    Over,
}

impl Head {
    /// Reads the next bytes. Returns those that belong to the body.
    pub(super) fn push<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        // Line ends before the first line are ignored.
        let blank = if self.begun { 0 } else { bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count() };
        let rest = &bytes[blank..];
        self.begun |= !rest.is_empty();
        if !self.line_over {
            let end = memchr::memchr2(b'\r', b'\n', rest);
            self.spaces += memchr::memchr_iter(b' ', &rest[..end.unwrap_or(rest.len())]).count();
            self.line_over = end.is_some();
            self.wrong = self.spaces > 2;
        }
        &rest[self.end(rest)..]
    }

    /// Whether the first line has more than three words, or empty ones.
    pub(super) fn is_wrong(&self) -> bool {
        self.wrong
    }

    /// How many of these bytes belong to the head.
    fn end(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() {
            self.ends = match (self.ends, bytes[at]) {
                (Ends::Over, _) => return at,
                (Ends::LineFeed | Ends::Return, b'\n') => Ends::Over,
                (Ends::LineFeed, b'\r') => Ends::Return,
                _ => match memchr::memchr(b'\n', &bytes[at..]) {
                    Some(further) => {
                        at += further;
                        Ends::LineFeed
                    }
                    None => {
                        self.ends = Ends::InLine;
                        return bytes.len();
                    }
                },
            };
            at += 1;
        }
        bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_line_has_three_words_in_whatever_pieces_it_comes() {
        for (head, wrong) in [
            ("GET / HTTP/1.1\r\nhost: a b c d\r\n", false),
            ("\r\n\r\nGET /a?b=%20 HTTP/1.1\r\n\r\n", false),
            ("GET /a b HTTP/1.1\r\n", true),
            ("GET  / HTTP/1.1\r\n", true),
            ("GET / HTTP/1.1 \r\n", true),
            (" GET / HTTP/1.1\r\n", true),
        ] {
            for size in 1..head.len() {
                let mut seen = Head::default();
                head.as_bytes().chunks(size).for_each(|piece| _ = seen.push(piece));
                assert_eq!(seen.is_wrong(), wrong, "{head} {size}");
            }
        }
    }

    #[test]
    fn a_body_begins_behind_the_first_empty_line() {
        for head in [
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
            "\r\n\nGET / HTTP/1.1\nhost: a\n\n",
            "GET / HTTP/1.1\r\nhost: a\n\r\n",
            "GET / HTTP/1.1\r\nhost: a\r\n\n",
        ] {
            for body in ["", "x", "\r\n", "a\r\n\r\nb"] {
                let whole = format!("{head}{body}");
                for size in 1..=whole.len() {
                    let mut seen = Head::default();
                    let found: Vec<u8> = whole.as_bytes().chunks(size).flat_map(|piece| seen.push(piece)).copied().collect();
                    assert_eq!(String::from_utf8(found).unwrap(), body, "{head:?} by {size}");
                }
            }
        }
    }
}
