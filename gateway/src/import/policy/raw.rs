//! Policies in the portal's editor are not quite XML: expressions are written as C#.

/// `text` with the expressions in it escaped, so that an XML parser accepts it. Line numbers stay the same.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = next_expression(rest) {
        let (before, expression) = rest.split_at(at);
        out.push_str(before);
        let end = expression_end(expression);
        let inside = &expression[..end];
        for (index, c) in inside.char_indices() {
            match c {
                '"' => out.push_str("&quot;"),
                '<' => out.push_str("&lt;"),
                '>' => out.push_str("&gt;"),
                '&' if !is_entity(&inside[index..]) => out.push_str("&amp;"),
                c => out.push(c),
            }
        }
        rest = &expression[end..];
    }
    out.push_str(rest);
    out
}

/// The position of the next `@(` or `@{` that begins an attribute or an element's text; comments are skipped.
fn next_expression(text: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(found) = text[from..].find(['@', '<']) {
        let at = from + found;
        let rest = &text[at..];
        if let Some(comment) = rest.strip_prefix("<!--") {
            from = at + 4 + comment.find("-->").map_or(comment.len(), |end| end + 3);
            continue;
        }
        let before = text[..at].trim_end();
        if (rest.starts_with("@(") || rest.starts_with("@{")) && before.ends_with(['"', '\'', '>']) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

/// The position after the bracket that closes the expression's first one.
fn expression_end(text: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 1;
    while at < text.len() {
        let rest = &text[at..];
        if let Some(quote) = ["&quot;", "\"", "'"].into_iter().find(|quote| rest.starts_with(quote)) {
            at += quote.len() + literal_len(&rest[quote.len()..], quote);
            continue;
        }
        if rest.starts_with("//") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        let c = rest.chars().next().unwrap_or(' ');
        at += c.len_utf8();
        match c {
            '(' | '{' | '[' => depth += 1,
            ')' | '}' | ']' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    text.len()
}

/// The rest of a literal, with its closing quote.
fn literal_len(text: &str, quote: &str) -> usize {
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with(quote) {
            return at + quote.len();
        }
        let mut chars = rest.chars();
        at += chars.next().map_or(1, char::len_utf8);
        if rest.starts_with('\\') {
            at += chars.next().map_or(0, char::len_utf8);
        }
    }
    at
}

fn is_entity(text: &str) -> bool {
    ["&quot;", "&amp;", "&lt;", "&gt;", "&apos;", "&#"].iter().any(|entity| text.starts_with(entity))
}
