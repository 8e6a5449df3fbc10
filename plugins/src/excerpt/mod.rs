//! The few members of a JSON text that are needed, copied while the text passes: for texts that are too long to be
//! kept, or that arrive in pieces.
//!
//! Memory is constant, however long the text is and wherever it is split. The wanted members are copied into a short
//! text of their own, which [`crate::json::Reader`] then reads as if it were the whole text: long strings are cut in
//! it, and all other members are left out. Nothing is validated here: a text that is not JSON gives any excerpt or
//! none.

mod pass;
#[cfg(test)]
mod tests;

use pass::Passed;

/// Longest string that is copied as a whole; of a longer one this much is copied.
const LONGEST: usize = 512;
/// Longest key that can be wanted.
const LONGEST_KEY: usize = 48;
/// Most bytes that are copied of parts that may be long: the texts of an answer.
const MOST_OF_ALL: usize = 16 * 1024;
/// The limit for the other parts, which must not be missing: counts, errors, names.
const MOST: usize = MOST_OF_ALL + 8 * 1024;
/// Longest number that is copied.
const LONGEST_NUMBER: usize = 64;
/// Deepest nesting that is copied.
const DEEPEST: usize = 16;

/// The position of a value, as far as it decides what is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValuePosition {
    /// The text's own object.
    Root,
    /// A response, message or item in an event.
    Carried,
    /// The choices of a chat chunk.
    Choices,
    /// The model's text: everything is copied, long strings in part.
    Said,
    /// Counts: numbers and objects of them, and the service tier among them.
    Counts,
    /// The list of an answer's steps among its counts: their kinds, models and counts.
    Steps,
    /// An error: everything is copied, long strings in part.
    Error,
    /// A short value: a type, a name, a number.
    Short,
}

impl ValuePosition {
    /// The length of the excerpt up to which it is copied.
    fn room(self) -> usize {
        match self {
            ValuePosition::Said | ValuePosition::Choices | ValuePosition::Steps => MOST_OF_ALL,
            ValuePosition::Root | ValuePosition::Carried | ValuePosition::Counts | ValuePosition::Error | ValuePosition::Short => MOST,
        }
    }

    /// The place of the members of such an object, whatever the reader wants.
    fn within(self, key: &[u8]) -> Option<ValuePosition> {
        match self {
            ValuePosition::Counts if key == b"iterations" => Some(ValuePosition::Steps),
            ValuePosition::Said | ValuePosition::Counts | ValuePosition::Steps | ValuePosition::Error => Some(self),
            ValuePosition::Root | ValuePosition::Carried | ValuePosition::Choices | ValuePosition::Short => None,
        }
    }
}

/// What a reader wants: for a member of an object at a place, the place of its value; `None` if it is not wanted.
pub type Want = fn(ValuePosition, &[u8]) -> Option<ValuePosition>;

/// The usage of a plain answer and of its tools, and its service tier: only at the top level.
pub fn usage(place: ValuePosition, key: &[u8]) -> Option<ValuePosition> {
    match (place, key) {
        (ValuePosition::Root, b"usage" | b"tool_usage") => Some(ValuePosition::Counts),
        (ValuePosition::Root, b"service_tier") => Some(ValuePosition::Short),
        _ => None,
    }
}

/// The members of an event that [`crate::stream`] reads.
pub fn event(place: ValuePosition, key: &[u8]) -> Option<ValuePosition> {
    match (place, key) {
        (ValuePosition::Root | ValuePosition::Carried, b"usage" | b"tool_usage") => Some(ValuePosition::Counts),
        (ValuePosition::Root | ValuePosition::Carried, b"error") => Some(ValuePosition::Error),
        (ValuePosition::Root, b"type" | b"sequence_number" | b"code" | b"service_tier")
        | (ValuePosition::Carried, b"id" | b"service_tier") => Some(ValuePosition::Short),
        (ValuePosition::Root, b"response" | b"message" | b"item") => Some(ValuePosition::Carried),
        (ValuePosition::Root, b"choices") => Some(ValuePosition::Choices),
        (ValuePosition::Choices, b"index" | b"finish_reason") => Some(ValuePosition::Short),
        (ValuePosition::Root | ValuePosition::Choices, b"delta") | (ValuePosition::Choices, b"text") => Some(ValuePosition::Said),
        _ => None,
    }
}

/// The members of a message on a realtime socket that are read.
pub fn message(place: ValuePosition, key: &[u8]) -> Option<ValuePosition> {
    match (place, key) {
        (ValuePosition::Root | ValuePosition::Carried, b"usage" | b"tool_usage") => Some(ValuePosition::Counts),
        (ValuePosition::Root, b"type") => Some(ValuePosition::Short),
        (ValuePosition::Root, b"response") => Some(ValuePosition::Carried),
        _ => None,
    }
}

/// An open value, parts of which are copied.
#[derive(Debug, Clone, Copy)]
struct Frame {
    place: ValuePosition,
    object: bool,
    /// Whether a part of it was copied already.
    filled: bool,
}

/// A string that is being copied.
#[derive(Debug, Clone, Copy)]
struct Text {
    said: bool,
    /// After a backslash.
    escaped: bool,
    /// Digits of a `\u` escape that have not arrived yet.
    digits: u8,
    /// Bytes of it so far.
    seen: usize,
    /// Where it begins in the excerpt.
    begun: usize,
    /// Where its last complete character ends there: if it becomes too long, it is cut there.
    end: usize,
}

/// What is expected next.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// In an object a key, in an array an element; or the end.
    Member,
    /// The rest of a key.
    Key { escaped: bool },
    /// The colon after a key.
    Colon,
    /// A value for a place, or (`None`) one that is not wanted.
    Value(Option<ValuePosition>),
    /// The rest of a string that is copied.
    Text(Text),
    /// The rest of a number or word that is copied.
    Word,
    /// The rest of a value that is skipped.
    Passed(Passed),
    /// The rest of a number or word that is skipped.
    PassedWord,
    /// Nothing more.
    Over,
}

/// Copies the wanted members of a text that arrives in pieces.
#[derive(Debug)]
pub struct Excerpt {
    want: Want,
    taken: Vec<u8>,
    frames: Vec<Frame>,
    key: Vec<u8>,
    next: Next,
    /// Bytes of the model's text that were cut off.
    cut: u64,
}

impl Excerpt {
    /// For a new text.
    pub fn new(want: Want) -> Self {
        Excerpt { want, taken: Vec::new(), frames: Vec::new(), key: Vec::new(), next: Next::Value(Some(ValuePosition::Root)), cut: 0 }
    }

    /// What was copied so far; a JSON object, if the text was one and has ended.
    pub fn text(&self) -> &[u8] {
        &self.taken
    }

    /// How many bytes of the model's text are not in it.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Returns what was copied.
    pub fn into_text(self) -> Vec<u8> {
        self.taken
    }

    /// Starts again, for another text.
    pub fn reset(&mut self) {
        self.taken.clear();
        self.frames.clear();
        self.key.clear();
        self.next = Next::Value(Some(ValuePosition::Root));
        self.cut = 0;
    }

    /// Reads the next piece.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while let Some(&byte) = bytes.first() {
            let used = match &mut self.next {
                Next::Over => return,
                Next::Passed(passed) => {
                    let (used, over) = passed.pass(bytes);
                    if over {
                        self.next = Next::Member;
                    }
                    used
                }
                Next::Text(_) => self.text_goes_on(bytes),
                Next::Key { escaped } => {
                    let closes = byte == b'"' && !*escaped;
                    *escaped = byte == b'\\' && !*escaped;
                    if closes {
                        self.next = Next::Colon;
                    } else if self.key.len() <= LONGEST_KEY {
                        self.key.push(byte);
                    }
                    1
                }
                Next::Word | Next::PassedWord if matches!(byte, b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t') => {
                    self.next = Next::Member;
                    0
                }
                Next::Word => {
                    if self.taken.len() < MOST + LONGEST_NUMBER {
                        self.taken.push(byte);
                    }
                    1
                }
                Next::PassedWord => 1,
                Next::Member | Next::Colon | Next::Value(_) if matches!(byte, b' ' | b'\n' | b'\r' | b'\t') => 1,
                Next::Colon => {
                    let place = self.frames.last().map(|frame| frame.place).filter(|_| self.key.len() <= LONGEST_KEY);
                    let wanted = place.and_then(|place| place.within(&self.key).or_else(|| (self.want)(place, &self.key)));
                    self.next = if byte == b':' { Next::Value(wanted) } else { Next::Over };
                    1
                }
                Next::Member => self.member(byte),
                Next::Value(place) => {
                    let place = *place;
                    self.value(place, byte)
                }
            };
            bytes = &bytes[used..];
        }
    }

    /// Between the members of the open value. Returns the number of bytes read.
    fn member(&mut self, byte: u8) -> usize {
        let Some(frame) = self.frames.last().copied() else {
            self.next = Next::Over;
            return 0;
        };
        match byte {
            b',' => 1,
            b'}' | b']' => {
                self.taken.push(if frame.object { b'}' } else { b']' });
                self.frames.pop();
                if self.frames.is_empty() {
                    self.next = Next::Over;
                }
                1
            }
            b'"' if frame.object => {
                self.key.clear();
                self.next = Next::Key { escaped: false };
                1
            }
            _ if frame.object => {
                self.next = Next::Over;
                0
            }
            _ => {
                self.next = Next::Value(Some(frame.place));
                0
            }
        }
    }

    /// A value begins. Returns the number of bytes read.
    fn value(&mut self, place: Option<ValuePosition>, byte: u8) -> usize {
        let kept = |place: &ValuePosition| {
            self.taken.len() < place.room()
                && match byte {
                    b'{' => self.frames.len() < DEEPEST && *place != ValuePosition::Short,
                    // A list of choices or steps, or a list within the model's text.
                    b'[' => {
                        self.frames.len() < DEEPEST
                            && matches!(place, ValuePosition::Choices | ValuePosition::Said | ValuePosition::Steps | ValuePosition::Error)
                    }
                    b'"' => match place {
                        ValuePosition::Counts => matches!(self.key.as_slice(), b"service_tier" | b"speed"),
                        ValuePosition::Steps => matches!(self.key.as_slice(), b"type" | b"model"),
                        _ => true,
                    },
                    _ => true,
                }
        };
        let Some(place) = place.filter(kept) else {
            match Passed::begins(byte) {
                Some(passed) => {
                    self.next = Next::Passed(passed);
                    return 1;
                }
                None => {
                    self.next = Next::PassedWord;
                    return 0;
                }
            }
        };
        if let Some(frame) = self.frames.last_mut() {
            if std::mem::replace(&mut frame.filled, true) {
                self.taken.push(b',');
            }
            if frame.object {
                self.taken.push(b'"');
                self.taken.extend_from_slice(&self.key);
                self.taken.extend_from_slice(b"\":");
            }
        } else if byte != b'{' {
            // Whatever the text is, it has no members.
            self.next = Next::Over;
            return 0;
        }
        match byte {
            b'{' | b'[' => {
                self.taken.push(byte);
                self.frames.push(Frame { place, object: byte == b'{', filled: false });
                self.next = Next::Member;
                1
            }
            b'"' => {
                self.taken.push(byte);
                let begun = self.taken.len();
                self.next = Next::Text(Text { said: place == ValuePosition::Said, escaped: false, digits: 0, seen: 0, begun, end: begun });
                1
            }
            b',' | b'}' | b']' | b':' => {
                self.next = Next::Over;
                0
            }
            _ => {
                self.next = Next::Word;
                0
            }
        }
    }

    /// The next bytes of a string that is copied. Returns how many they are.
    fn text_goes_on(&mut self, bytes: &[u8]) -> usize {
        let Next::Text(text) = &mut self.next else { return 0 };
        let (used, over) = if text.seen < LONGEST {
            text.take(bytes, &mut self.taken)
        } else {
            // The rest is read only to find its end.
            let mut passed = Passed::string(text.escaped);
            let (used, over) = passed.pass(bytes);
            text.escaped = passed.is_escaped();
            text.seen += used;
            (used, over)
        };
        if over {
            if text.seen > LONGEST {
                self.taken.truncate(text.end);
                if text.said {
                    // The closing quote was counted, too.
                    self.cut += (text.seen - 1).saturating_sub(text.end - text.begun) as u64;
                }
            }
            self.taken.push(b'"');
            self.next = Next::Member;
        }
        used
    }
}

impl Text {
    /// Copies bytes up to the closing quote, or as many as are allowed. Returns how many, and whether the quote was
    /// reached.
    fn take(&mut self, bytes: &[u8], taken: &mut Vec<u8>) -> (usize, bool) {
        let bytes = &bytes[..bytes.len().min(LONGEST - self.seen)];
        for (at, &byte) in bytes.iter().enumerate() {
            let within = self.escaped || self.digits > 0;
            if byte == b'"' && !within {
                return (at + 1, true);
            }
            // A continuation byte (RFC 3629) belongs to the byte before it.
            if !within && byte & 0xc0 != 0x80 {
                self.end = taken.len();
            }
            match (self.escaped, byte) {
                (true, b'u') => self.digits = 4,
                (true, _) => {}
                (false, _) => self.digits = self.digits.saturating_sub(1),
            }
            self.escaped = byte == b'\\' && !within;
            taken.push(byte);
            self.seen += 1;
        }
        (bytes.len(), false)
    }
}
