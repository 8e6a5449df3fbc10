//! Reads a text into the nodes of a tree.
//!
//! One loop instead of a function that calls itself: bodies and answers have many short names and values, and what is around
//! each of them would cost more than reading it.

use std::cell::Cell;

use super::text::escape;
use super::{Kind, MAX_DEPTH};
use crate::scan;

/// A value. The names of an object's members are nodes of their own, each before its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    pub(super) start: u32,
    pub(super) end: u32,
    /// The index of the first node that isn't part of the value.
    pub(super) next: u32,
    pub(super) kind: Kind,
    /// Whether it is a string with escapes.
    pub(super) escaped: bool,
}

/// No container is open.
const NONE: u32 = u32::MAX;

/// The nodes of a whole text; `None` if it isn't one JSON value, or if a string has half of a surrogate pair. It must be UTF-8, and
/// short enough for the numbers in a node.
pub(super) fn nodes(text: &[u8]) -> Option<Nodes> {
    let mut nodes = Nodes(SPARE.take());
    nodes.0.clear();
    // Enough for most answers, and for prose.
    nodes.0.reserve(32 + text.len() / 32);
    let mut parser = Parser { text, at: 0, nodes: &mut nodes.0, open: NONE, depth: 0 };
    parser.run()?;
    parser.skip_space();
    (parser.at == text.len()).then_some(nodes)
}

/// Nodes, whose memory the thread's next tree uses.
#[derive(Debug)]
pub(super) struct Nodes(Vec<Node>);

thread_local!(static SPARE: Cell<Vec<Node>> = const { Cell::new(Vec::new()) });

/// The most nodes whose memory is kept.
const SPARE_NODES: usize = 1024;

impl std::ops::Deref for Nodes {
    type Target = [Node];

    fn deref(&self) -> &[Node] {
        &self.0
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        if self.0.capacity() <= SPARE_NODES {
            let nodes = std::mem::take(&mut self.0);
            // The thread may be about to end.
            let _ = SPARE.try_with(|spare| spare.set(nodes));
        }
    }
}

struct Parser<'t> {
    text: &'t [u8],
    at: usize,
    nodes: &'t mut Vec<Node>,
    /// The innermost container that is open. While it is, `next` in its node is the container around it.
    open: u32,
    depth: usize,
}

impl Parser<'_> {
    fn run(&mut self) -> Option<()> {
        loop {
            // A value begins here.
            self.skip_space();
            match self.peek()? {
                b'"' => self.string()?,
                b'{' => {
                    self.begin(Kind::Object)?;
                    self.skip_space();
                    if self.peek()? != b'}' {
                        self.name()?;
                        continue;
                    }
                    self.end()?;
                }
                b'[' => {
                    self.begin(Kind::Array)?;
                    self.skip_space();
                    if self.peek()? != b']' {
                        continue;
                    }
                    self.end()?;
                }
                byte => self.scalar(byte)?,
            }
            // It has ended, and perhaps what is around it.
            loop {
                let Some(around) = self.nodes.get(self.open as usize) else { return Some(()) };
                let kind = around.kind;
                self.skip_space();
                match (self.peek()?, kind) {
                    (b',', Kind::Object) => {
                        self.at += 1;
                        self.skip_space();
                        self.name()?;
                        break;
                    }
                    (b',', _) => {
                        self.at += 1;
                        break;
                    }
                    (b'}', Kind::Object) | (b']', Kind::Array) => self.end()?,
                    _ => return None,
                }
            }
        }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    #[inline]
    fn skip_space(&mut self) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// Opens a container.
    fn begin(&mut self, kind: Kind) -> Option<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let index = self.nodes.len() as u32;
        self.nodes.push(Node { start: self.at as u32, end: 0, next: self.open, kind, escaped: false });
        self.open = index;
        self.at += 1;
        Some(())
    }

    /// Closes the innermost container, whose last bracket is here.
    fn end(&mut self) -> Option<()> {
        self.at += 1;
        self.depth -= 1;
        let next = self.nodes.len() as u32;
        let node = self.nodes.get_mut(self.open as usize)?;
        node.end = self.at as u32;
        self.open = std::mem::replace(&mut node.next, next);
        Some(())
    }

    /// Reads a member's name, and the colon behind it.
    #[inline]
    fn name(&mut self) -> Option<()> {
        if self.peek()? != b'"' {
            return None;
        }
        self.string()?;
        self.skip_space();
        if self.peek()? != b':' {
            return None;
        }
        self.at += 1;
        Some(())
    }

    /// Reads a string.
    #[inline]
    fn string(&mut self) -> Option<()> {
        let start = self.at;
        let (mut at, mut escaped) = (start + 1, false);
        loop {
            at += scan::special(self.text.get(at..)?)?;
            match self.text.get(at)? {
                b'"' => break,
                b'\\' => {
                    escaped = true;
                    at += escape(self.text.get(at..)?)?.1;
                }
                _ => return None,
            }
        }
        self.at = at + 1;
        self.push(start, Kind::String, escaped);
        Some(())
    }

    /// Reads a number, a boolean or null.
    fn scalar(&mut self, first: u8) -> Option<()> {
        let start = self.at;
        let word = |word: &[u8]| self.text.get(start..)?.starts_with(word).then_some(start + word.len());
        let (end, kind) = match first {
            b't' => (word(b"true"), Kind::Bool),
            b'f' => (word(b"false"), Kind::Bool),
            b'n' => (word(b"null"), Kind::Null),
            _ => (number_end(self.text, start), Kind::Number),
        };
        self.at = end?;
        self.push(start, kind, false);
        Some(())
    }

    #[inline]
    fn push(&mut self, start: usize, kind: Kind, escaped: bool) {
        let next = self.nodes.len() as u32 + 1;
        self.nodes.push(Node { start: start as u32, end: self.at as u32, next, kind, escaped });
    }
}

/// Where a number ends.
fn number_end(text: &[u8], mut at: usize) -> Option<usize> {
    let digits = |from: usize| {
        let count = text.get(from..)?.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (count > 0).then_some(from + count)
    };
    if text.get(at) == Some(&b'-') {
        at += 1;
    }
    at = if text.get(at) == Some(&b'0') { at + 1 } else { digits(at)? };
    if text.get(at) == Some(&b'.') {
        at = digits(at + 1)?;
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(at + 1), Some(b'+' | b'-')));
        at = digits(at + 1 + sign)?;
    }
    Some(at)
}
