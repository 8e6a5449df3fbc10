//! The statuses for which a condition of `retry` is true.

/// The statuses, and the parts of the condition that could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Condition {
    pub(super) statuses: Vec<(u16, u16)>,
    pub(super) unread: Vec<String>,
}

/// `None` if no part of it is about a response's status.
pub(super) fn read(text: &str) -> Option<Condition> {
    let inside = text.trim().strip_prefix("@(").and_then(|rest| rest.strip_suffix(')'))?;
    let mut unread = Vec::new();
    let tree = any(inside, 0, &mut unread)?;
    let mut statuses: Vec<(u16, u16)> = Vec::new();
    for status in 100..600 {
        if tree.holds(status)? {
            match statuses.last_mut() {
                Some((_, high)) if *high + 1 == status => *high = status,
                _ => statuses.push((status, status)),
            }
        }
    }
    (!statuses.is_empty() && statuses != [(100, 599)]).then_some(Condition { statuses, unread })
}

enum Tree {
    Any(Vec<Tree>),
    All(Vec<Tree>),
    Not(Box<Tree>),
    Compare(String, u16),
    /// Not about statuses; the rest decides.
    Other,
}

impl Tree {
    fn holds(&self, status: u16) -> Option<bool> {
        match self {
            Tree::Any(list) => list.iter().filter_map(|tree| tree.holds(status)).reduce(|a, b| a || b),
            Tree::All(list) => list.iter().filter_map(|tree| tree.holds(status)).reduce(|a, b| a && b),
            Tree::Not(tree) => tree.holds(status).map(|holds| !holds),
            Tree::Compare(operator, number) => match operator.as_str() {
                "==" => Some(status == *number),
                "!=" => Some(status != *number),
                ">=" => Some(status >= *number),
                "<=" => Some(status <= *number),
                ">" => Some(status > *number),
                "<" => Some(status < *number),
                _ => None,
            },
            Tree::Other => None,
        }
    }
}

/// Splits at `operator`, outside of brackets and literals.
fn split<'t>(text: &'t str, operator: &str) -> Vec<&'t str> {
    let (mut parts, mut from, mut depth, mut quoted) = (Vec::new(), 0, 0_i32, false);
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '(' | '[' | '{' if !quoted => depth += 1,
            ')' | ']' | '}' if !quoted => depth -= 1,
            _ => {}
        }
        if depth == 0 && !quoted && at >= from && text[at..].starts_with(operator) {
            parts.push(&text[from..at]);
            from = at + operator.len();
        }
    }
    parts.push(&text[from..]);
    parts
}

fn any(text: &str, depth: usize, unread: &mut Vec<String>) -> Option<Tree> {
    // Deeper than any real condition.
    if depth > 32 {
        return None;
    }
    let mut all_of = Vec::new();
    for part in split(text, "||") {
        let parts = split(part, "&&").into_iter().map(|part| one(part.trim(), depth, unread)).collect::<Option<Vec<_>>>()?;
        all_of.push(Tree::All(parts));
    }
    Some(Tree::Any(all_of))
}

fn one(text: &str, depth: usize, unread: &mut Vec<String>) -> Option<Tree> {
    if let Some(inside) = text.strip_prefix('!').filter(|rest| rest.trim_start().starts_with('(')) {
        return Some(Tree::Not(Box::new(one(inside.trim(), depth + 1, unread)?)));
    }
    if let Some(inside) = text.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'))
        && balanced(inside)
    {
        return any(inside, depth + 1, unread);
    }
    let compare = ["==", "!=", ">=", "<=", ">", "<"].into_iter().find_map(|operator| {
        let (left, right) = text.split_once(operator)?;
        let (left, right) = (left.trim(), right.trim());
        let is_status = |side: &str| side.replace(' ', "").trim_start_matches("(int)").eq("context.Response.StatusCode");
        let flipped = match operator {
            ">=" => "<=",
            "<=" => ">=",
            ">" => "<",
            "<" => ">",
            same => same,
        };
        match (is_status(left), is_status(right)) {
            (true, _) => Some(Tree::Compare(operator.to_owned(), right.parse().ok()?)),
            (_, true) => Some(Tree::Compare(flipped.to_owned(), left.parse().ok()?)),
            _ => None,
        }
    });
    Some(compare.unwrap_or_else(|| {
        unread.push(text.to_owned());
        Tree::Other
    }))
}

fn balanced(text: &str) -> bool {
    let mut depth = 0_i32;
    for c in text.chars() {
        depth += match c {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        if depth < 0 {
            return false;
        }
    }
    depth == 0
}
