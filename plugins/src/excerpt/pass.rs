//! Values that are not needed, skipped as fast as their end can be found.

/// A value that is skipped.
#[derive(Debug, Clone, Copy)]
pub(super) struct Passed {
    /// The number of open brackets.
    depth: u64,
    /// Whether it is inside a string.
    string: bool,
    /// Whether it is after a backslash.
    escaped: bool,
}

impl Passed {
    /// The rest of a value that begins with this byte; `None` for a number or a word.
    pub(super) fn begins(byte: u8) -> Option<Self> {
        match byte {
            b'"' => Some(Passed::string(false)),
            b'{' | b'[' => Some(Passed { depth: 1, string: false, escaped: false }),
            _ => None,
        }
    }

    /// The rest of a string, perhaps after a backslash.
    pub(super) fn string(escaped: bool) -> Self {
        Passed { depth: 0, string: true, escaped }
    }

    pub(super) fn is_escaped(self) -> bool {
        self.escaped
    }

    /// How many bytes belong to it, and whether it ends with them.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> (usize, bool) {
        let mut at = 0;
        while at < bytes.len() {
            if self.string {
                if std::mem::take(&mut self.escaped) {
                    at += 1;
                    continue;
                }
                match memchr::memchr2(b'"', b'\\', &bytes[at..]) {
                    None => return (bytes.len(), false),
                    Some(run) => at += run + 1,
                }
                if bytes[at - 1] == b'\\' {
                    self.escaped = true;
                    continue;
                }
                self.string = false;
            } else {
                at += run(&bytes[at..]);
                match bytes.get(at) {
                    None => return (at, false),
                    Some(b'"') => self.string = true,
                    Some(b'{' | b'[') => self.depth += 1,
                    Some(_) => self.depth = self.depth.saturating_sub(1),
                }
                at += 1;
            }
            if self.depth == 0 && !self.string {
                return (at, true);
            }
        }
        (at, false)
    }
}

/// The number of bytes before the next quote or bracket.
fn run(bytes: &[u8]) -> usize {
    // Square brackets and braces differ in one bit.
    let is_mark = |byte: &u8| *byte == b'"' || matches!(*byte | 0x20, b'{' | b'}');
    // Mostly there is only a colon or a comma.
    const NEAR: usize = 4;
    if let Some(at) = bytes.iter().take(NEAR).position(is_mark) {
        return at;
    }
    let mut at = bytes.len().min(NEAR);
    // No early exit within a step: a simple fold over a fixed width can be vectorised.
    for step in bytes[at..].chunks_exact(64) {
        if step.iter().fold(false, |hit, byte| hit | is_mark(byte)) {
            break;
        }
        at += step.len();
    }
    at + bytes[at..].iter().position(is_mark).unwrap_or(bytes.len() - at)
}
