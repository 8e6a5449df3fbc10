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

/// Longest string that is taken whole; of a longer one this much is.
const LONGEST: usize = 512;
/// Longest key that can be wanted.
const LONGEST_KEY: usize = 48;
/// Most that is taken of what may be long: the pieces of an answer.
const MOST_OF_ALL: usize = 16 * 1024;
/// Room that is left beyond that for what must not be missed: counts, errors, names.
const MOST: usize = MOST_OF_ALL + 8 * 1024;
/// Longest number that is taken.
const LONGEST_NUMBER: usize = 64;
/// Deepest nesting that is taken.
const DEEPEST: usize = 16;

/// Where a value stands, as far as it matters to what is wanted of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The text's own object.
    Root,
    /// A response, message or item that an event carries.
    Carried,
    /// The choices of a chat chunk.
    Choices,
    /// What a model said: everything is taken, long strings in part.
    Said,
    /// Counts: numbers and objects of them.
    Counts,
    /// An error: everything is taken, long strings in part.
    Error,
    /// A short value: a type, a name, a number.
    Short,
}

impl Place {
    /// Up to which length of the excerpt it is taken.
    fn room(self) -> usize {
        match self {
            Place::Said | Place::Choices => MOST_OF_ALL,
            Place::Root | Place::Carried | Place::Counts | Place::Error | Place::Short => MOST,
        }
    }

    /// What is taken of the members of an object that stands here whatever the reader wants.
    fn within(self) -> Option<Place> {
        match self {
            Place::Said | Place::Counts | Place::Error => Some(self),
            Place::Root | Place::Carried | Place::Choices | Place::Short => None,
        }
    }
}

/// What a reader wants: for a member of an object at a place, the place of its value, if it is wanted at all.
pub type Want = fn(Place, &[u8]) -> Option<Place>;

/// The usage of a plain answer, and of the tools that were used for it: at its top level, and nowhere else.
pub fn usage(place: Place, key: &[u8]) -> Option<Place> {
    (place == Place::Root && matches!(key, b"usage" | b"tool_usage")).then_some(Place::Counts)
}

/// What [`crate::stream`] reads of an event.
pub fn event(place: Place, key: &[u8]) -> Option<Place> {
    match (place, key) {
        (Place::Root | Place::Carried, b"usage" | b"tool_usage") => Some(Place::Counts),
        (Place::Root | Place::Carried, b"error") => Some(Place::Error),
        (Place::Root, b"type" | b"sequence_number" | b"code") | (Place::Carried, b"id") => Some(Place::Short),
        (Place::Root, b"response" | b"message" | b"item") => Some(Place::Carried),
        (Place::Root, b"choices") => Some(Place::Choices),
        (Place::Choices, b"index" | b"finish_reason") => Some(Place::Short),
        (Place::Root | Place::Choices, b"delta") | (Place::Choices, b"text") => Some(Place::Said),
        _ => None,
    }
}

/// What is read of a message on a realtime socket.
pub fn message(place: Place, key: &[u8]) -> Option<Place> {
    match (place, key) {
        (Place::Root | Place::Carried, b"usage" | b"tool_usage") => Some(Place::Counts),
        (Place::Root, b"type") => Some(Place::Short),
        (Place::Root, b"response") => Some(Place::Carried),
        _ => None,
    }
}

/// A value under way, of which something is taken.
#[derive(Debug, Clone, Copy)]
struct Frame {
    place: Place,
    object: bool,
    /// Something of it was taken already.
    filled: bool,
}

/// A string under way that is taken.
#[derive(Debug, Clone, Copy)]
struct Text {
    said: bool,
    /// Behind a backslash.
    escaped: bool,
    /// Digits of a `\u` escape that are still to come.
    digits: u8,
    /// Bytes of it that were seen.
    seen: usize,
    /// Where it begins in the excerpt.
    begun: usize,
    /// Where its last whole character ends there: if it gets too long, this is where it is cut.
    end: usize,
}

/// What comes next.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// In an object a key, in an array an element; or their end.
    Member,
    /// The rest of a key.
    Key { escaped: bool },
    /// The colon behind a key.
    Colon,
    /// A value for a place, or (`None`) one that nobody wants.
    Value(Option<Place>),
    /// The rest of a string that is taken.
    Text(Text),
    /// The rest of a number or word that is taken.
    Word,
    /// The rest of a value that is passed over.
    Passed(Passed),
    /// The rest of a number or word that is passed over.
    PassedWord,
    /// Nothing more.
    Over,
}

/// Takes what is wanted out of a text that comes in pieces.
#[derive(Debug)]
pub struct Excerpt {
    want: Want,
    taken: Vec<u8>,
    frames: Vec<Frame>,
    key: Vec<u8>,
    next: Next,
    /// Bytes of what was said that were cut off.
    cut: u64,
}

impl Excerpt {
    /// Of a text that is to come.
    pub fn new(want: Want) -> Self {
        Excerpt { want, taken: Vec::new(), frames: Vec::new(), key: Vec::new(), next: Next::Value(Some(Place::Root)), cut: 0 }
    }

    /// What was taken so far; a JSON object, if the text was one and has ended.
    pub fn text(&self) -> &[u8] {
        &self.taken
    }

    /// How many bytes of what was said are not in it.
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// Gives up what was taken.
    pub fn into_text(self) -> Vec<u8> {
        self.taken
    }

    /// Whether nothing of what is still to come can matter.
    pub fn is_over(&self) -> bool {
        matches!(self.next, Next::Over)
    }

    /// Begins again, for another text.
    pub fn reset(&mut self) {
        self.taken.clear();
        self.frames.clear();
        self.key.clear();
        self.next = Next::Value(Some(Place::Root));
        self.cut = 0;
    }

    /// Takes the next piece.
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
                    let wanted = place.and_then(|place| place.within().or_else(|| (self.want)(place, &self.key)));
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

    /// Between the members of what is under way; how many bytes that takes.
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

    /// A value begins; how many bytes that takes.
    fn value(&mut self, place: Option<Place>, byte: u8) -> usize {
        let kept = |place: &Place| {
            self.taken.len() < place.room()
                && match byte {
                    b'{' => self.frames.len() < DEEPEST && *place != Place::Short,
                    // A list of choices, or within what was said.
                    b'[' => self.frames.len() < DEEPEST && matches!(place, Place::Choices | Place::Said | Place::Error),
                    b'"' => *place != Place::Counts,
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
            // Whatever it is, it has no members.
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
                self.next = Next::Text(Text { said: place == Place::Said, escaped: false, digits: 0, seen: 0, begun, end: begun });
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

    /// The next bytes of a string that is taken; how many they are.
    fn text_goes_on(&mut self, bytes: &[u8]) -> usize {
        let Next::Text(text) = &mut self.next else { return 0 };
        let (used, over) = if text.seen < LONGEST {
            text.take(bytes, &mut self.taken)
        } else {
            // The rest is only looked through for its end.
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
                    // The closing quote was seen, too.
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
    /// Takes bytes up to the closing quote, or as many as are taken; how many, and whether the quote was among them.
    fn take(&mut self, bytes: &[u8], taken: &mut Vec<u8>) -> (usize, bool) {
        let bytes = &bytes[..bytes.len().min(LONGEST - self.seen)];
        for (at, &byte) in bytes.iter().enumerate() {
            let within = self.escaped || self.digits > 0;
            if byte == b'"' && !within {
                return (at + 1, true);
            }
            // A continuation byte (RFC 3629) goes with what is before it.
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
