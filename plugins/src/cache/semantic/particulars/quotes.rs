//! Splits a text into quotations and the chunks between spaces.

/// A piece of a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'t> {
    /// The text in quotation marks.
    Quote(&'t str),
    /// A text between white space.
    Chunk(&'t str),
    /// A line break.
    Break,
}

/// The marks that close a quotation opened by this one. An apostrophe opens only at a word's start.
fn closing(open: char) -> &'static [char] {
    match open {
        '"' => &['"'],
        '“' => &['”', '"'],
        '„' => &['“', '”', '"'],
        '«' => &['»'],
        '»' => &['«'],
        '‹' => &['›'],
        '`' => &['`'],
        '「' => &['」'],
        '\'' => &['\''],
        '‘' => &['’'],
        '‚' => &['‘', '’'],
        _ => &[],
    }
}

/// The offset of the mark that closes the quotation at the start of `text`.
fn end(text: &str, open: char) -> Option<usize> {
    let closing = closing(open);
    let single = matches!(open, '\'' | '‘' | '‚');
    // A longer text is not a quotation, and the search for a missing closing mark stays short.
    const LONGEST: usize = 1000;
    let inner = open.len_utf8();
    if single && text.get(inner..)?.starts_with(char::is_whitespace) {
        return None;
    }
    let mut rest = text.char_indices().skip(1).take_while(|(at, _)| *at < LONGEST).peekable();
    while let Some((at, one)) = rest.next() {
        let inside_word = single && rest.peek().is_some_and(|(_, next)| next.is_alphanumeric());
        if closing.contains(&one) && !inside_word {
            return (at > inner).then_some(at);
        }
    }
    None
}

/// The pieces of a text, in order.
pub(super) fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while let Some(one) = text.get(at..).and_then(|rest| rest.chars().next()) {
        let next = at + one.len_utf8();
        let before = text.get(start..at).unwrap_or_default();
        let mut emit = |piece| {
            if !before.is_empty() {
                pieces.push(Piece::Chunk(before));
            }
            pieces.extend(piece);
        };
        let at_word_start = !before.chars().next_back().is_some_and(char::is_alphanumeric);
        let opens = !closing(one).is_empty() && (at_word_start || !matches!(one, '\'' | '‘' | '’' | '"'));
        // Spaces that group digits: 1 000.
        let groups = matches!(one, '\u{a0}' | '\u{202f}' | '\u{2009}')
            && before.chars().next_back().is_some_and(char::is_numeric)
            && text.get(next..).is_some_and(|rest| rest.starts_with(char::is_numeric));
        if one.is_whitespace() && !groups {
            emit((one == '\n').then_some(Piece::Break));
            (start, at) = (next, next);
        } else if let Some(end) = opens.then(|| end(text.get(at..).unwrap_or_default(), one)).flatten() {
            emit(text.get(next..at + end).map(Piece::Quote));
            at += end;
            at += text.get(at..).and_then(|rest| rest.chars().next()).map_or(1, char::len_utf8);
            start = at;
        } else {
            at = next;
        }
    }
    if let Some(rest) = text.get(start..).filter(|rest| !rest.is_empty()) {
        pieces.push(Piece::Chunk(rest));
    }
    pieces
}
