//! A caller's messages on a realtime socket, which are read by the same rules as requests. A message can name a model,
//! for the session or for its transcriptions, and stored objects; and it can ask for a response.
//!
//! Only the structure of a message is kept in memory: long strings, such as audio and images, are cut.

use serde_json::Value;

use crate::frames::Frames;
use crate::json::{Interest, Kind, Reader};
use crate::names::{Ambiguity, SOCKET, STORED};
use crate::objects::is_name;
use crate::request::BodyError;

/// Longest string that is kept as a whole: longer than any name.
const LONGEST: usize = 1024;
/// Most bytes that are kept of a message.
pub const MOST: usize = 256 * 1024;

/// Shows that stored objects are named.
static NAMES_STORED: Interest = Interest::new(&STORED, &[]);

/// Why a socket can't continue.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SocketError {
    /// These are not a caller's frames.
    #[error("the frames can't be read")]
    Frames,
    /// A message has more than [`MOST`] bytes, not counting long strings.
    #[error("a message is too large")]
    TooLarge,
    /// A message can't be read in exactly one way.
    #[error(transparent)]
    Message(#[from] BodyError),
}

/// What messages name, and ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Models.
    pub models: Vec<String>,
    /// Stored objects.
    pub stored: Vec<String>,
    /// The number of responses that they ask for.
    pub responses: u32,
}

impl Named {
    /// Whether they name nothing.
    pub fn is_empty(&self) -> bool {
        self.models.is_empty() && self.stored.is_empty()
    }
}

/// Reads the caller's side of a socket.
#[derive(Debug)]
pub struct SocketReader {
    frames: Frames,
    text: Shortened,
}

impl Default for SocketReader {
    fn default() -> Self {
        SocketReader { frames: Frames::of_caller(), text: Shortened::default() }
    }
}

impl SocketReader {
    /// Whether the caller has said that it closes the socket.
    pub fn has_closed(&self) -> bool {
        self.frames.has_closed()
    }

    /// Reads the next bytes. Returns what the messages that end in them name.
    ///
    /// # Errors
    /// [`SocketError`]: none of these bytes may be sent on.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Named, SocketError> {
        let (mut rest, mut named) = (bytes, Named::default());
        while let Some(part) = self.frames.next_part(&mut rest) {
            if part.begins {
                self.text.clear();
            }
            part.unmasked().for_each(|byte| self.text.push(byte));
            if self.text.held.len() > MOST {
                return Err(SocketError::TooLarge);
            }
            if part.ends {
                // A binary message that doesn't look like text is audio.
                if !part.binary || looks_like_text(&self.text.held) {
                    self.text.read(&mut named)?;
                }
                self.text.clear();
            }
        }
        if self.frames.is_lost() { Err(SocketError::Frames) } else { Ok(named) }
    }

    /// The number of bytes in memory of an unfinished message.
    pub fn held(&self) -> usize {
        self.text.held.len()
    }
}

/// Whether some reader could read bytes as a JSON object: in UTF-8, UTF-16 or UTF-32, with or without a byte order
/// mark.
fn looks_like_text(bytes: &[u8]) -> bool {
    let begins = bytes.iter().find(|byte| !(byte.is_ascii_whitespace() || matches!(byte, 0 | 0xEF | 0xBB | 0xBF | 0xFE | 0xFF)));
    begins == Some(&b'{')
}

/// A JSON text whose long strings are cut, written byte by byte.
#[derive(Debug, Default)]
struct Shortened {
    held: Vec<u8>,
    in_string: bool,
    /// After a backslash.
    escaped: bool,
    /// Digits of a `\u` escape that have not arrived yet.
    digits: u8,
    /// Bytes of the string so far.
    seen: usize,
    /// Whether the rest of the string is left out.
    cut: bool,
    /// Whether an escape is invalid.
    broken: bool,
}

impl Shortened {
    fn clear(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        held.clear();
        held.shrink_to(LONGEST);
        *self = Shortened { held, ..Shortened::default() };
    }

    fn push(&mut self, byte: u8) {
        if !self.in_string {
            self.in_string = byte == b'"';
            (self.seen, self.cut) = (0, false);
            return self.hold(byte);
        }
        if !self.escaped && self.digits == 0 {
            if byte == b'"' {
                self.in_string = false;
                return self.hold(byte);
            }
            // Never within a character.
            self.cut |= self.seen >= LONGEST && byte & 0xc0 != 0x80;
        }
        self.seen += 1;
        if !self.cut {
            self.hold(byte);
        }
        match (self.escaped, self.digits) {
            (true, _) => {
                self.escaped = false;
                self.digits = if byte == b'u' { 4 } else { 0 };
            }
            (false, 0) => self.escaped = byte == b'\\',
            (false, _) => {
                self.broken |= !byte.is_ascii_hexdigit();
                self.digits -= 1;
            }
        }
    }

    fn hold(&mut self, byte: u8) {
        // One byte more than allowed shows that it is too much.
        if self.held.len() <= MOST {
            self.held.push(byte);
        }
    }

    /// Reads a whole message.
    fn read(&self, named: &mut Named) -> Result<(), BodyError> {
        let text = &self.held[..];
        if let Err(error) = simdutf8::compat::from_utf8(text) {
            return Err(BodyError::Encoding { at: error.valid_up_to() });
        }
        let mut reader = Reader::watching(text, &NAMES_STORED).naming(&SOCKET);
        if !text.trim_ascii_start().starts_with(b"{") {
            return Err(reader.value(0).err().map_or(BodyError::NotAnObject, BodyError::Syntax));
        }
        let (mut ranges, mut asks) = (Vec::new(), false);
        reader.object(|key, value| match key {
            "model" => ranges.push(value.range),
            "type" => asks = value.as_str(text).is_some_and(|kind| kind == "response.create"),
            _ => {}
        })?;
        reader.end()?;
        match reader.doubt() {
            Some(Ambiguity::Twice { name }) => return Err(BodyError::Duplicate { field: name }),
            Some(doubt) => return Err(BodyError::Ambiguous(doubt)),
            None if self.broken => return Err(BodyError::NotAnObject),
            None => {}
        }
        ranges.extend_from_slice(reader.models());
        for range in ranges {
            let name = crate::json::Value { kind: Kind::String, range: range.clone() };
            match name.as_str(text).filter(|_| text[range.start] == b'"') {
                Some(name) => named.models.push(name.into_owned()),
                None if &text[range.clone()] == b"null" => {}
                None => return Err(BodyError::WrongType { field: "model", expected: "a string" }),
            }
        }
        if reader.noticed() {
            let whole = serde_json::from_slice::<Value>(text).map_err(|_| BodyError::NotAnObject)?;
            stored(&whole, &mut named.stored)?;
        }
        named.responses = named.responses.saturating_add(asks.into());
        Ok(())
    }
}

/// Collects the names of stored things.
fn stored(value: &Value, names: &mut Vec<String>) -> Result<(), BodyError> {
    match value {
        Value::Array(elements) => elements.iter().try_for_each(|element| stored(element, names)),
        Value::Object(members) => members.iter().try_for_each(|(key, value)| match STORED.contains(&key.as_str()) {
            // Values that only the caller or the model reads.
            _ if (SOCKET.apart)(key.as_bytes(), value.is_object()) => Ok(()),
            true => name(value, names),
            false => stored(value, names),
        }),
        _ => Ok(()),
    }
}

/// A name, a list of names, or an object whose `id` is one.
fn name(value: &Value, names: &mut Vec<String>) -> Result<(), BodyError> {
    match value {
        Value::Null => Ok(()),
        Value::String(text) if is_name(text) => {
            names.push(text.clone());
            Ok(())
        }
        Value::Array(elements) => elements.iter().try_for_each(|element| name(element, names)),
        Value::Object(members) => {
            members.get("id").map_or(Ok(()), |id| name(id, names))?;
            stored(value, names)
        }
        _ => Err(BodyError::WrongType { field: "file_id", expected: "the name of something stored" }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A caller's frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [7, 77, 177, 3];
        let mut frame = vec![first];
        match payload.len() {
            0..126 => frame.push(0x80 | payload.len() as u8),
            126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&(payload.len() as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&mask);
        frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        frame
    }

    fn said(text: &str) -> Result<Named, SocketError> {
        SocketReader::default().push(&frame(0x81, text.as_bytes()))
    }

    #[test]
    fn models_are_found_wherever_they_stand() {
        for text in [
            r#"{"type":"session.update","session":{"model":"x"}}"#,
            r#"{"type":"session.update","session":{"input_audio_transcription":{"model":"x"}}}"#,
            r#"{"type":"session.update","session":{"audio":{"input":{"transcription":{"model":"x","language":"de"}}}}}"#,
            r#"{"type":"response.create","response":{"model":"x","input":[{"type":"item_reference","id":"item_1"}]}}"#,
            r#"{"type":"session.update","model":"\u0078"}"#,
            r#"{"type":"transcription_session.update","session":{"input_audio_transcription":{"\u006dodel":"x"}}}"#,
        ] {
            let named = said(text).unwrap();
            assert_eq!((named.models, named.stored), (vec!["x".to_owned()], Vec::new()), "{text}");
        }
    }

    #[test]
    fn what_names_nothing_passes() {
        for text in [
            r#"{"type":"input_audio_buffer.append","audio":"UklGRg=="}"#,
            r#"{"type":"session.update","session":{"type":"realtime","audio":{"input":{"format":{"type":"audio/pcm","rate":24000}},"output":{"voice":"marin"}},"max_output_tokens":"inf"}}"#,
            r#"{"type":"session.update","session":{"tools":[{"type":"function","name":"f","parameters":{"properties":{"model":{"type":"string"},"file_id":{}}}}]}}"#,
            r#"{"type":"conversation.item.create","item":{"id":"i","type":"message","role":"user","content":[{"type":"input_text","text":"the \"model\": x"}]}}"#,
        ] {
            assert!(said(text).unwrap().is_empty(), "{text}");
        }
        let sound = format!(r#"{{"type":"input_audio_buffer.append","audio":"{}"}}"#, "UklG".repeat(1 << 20));
        assert!(said(&sound).unwrap().is_empty());
        assert!(SocketReader::default().push(&frame(0x82, &[1, 2, 3])).unwrap().is_empty());
        for hidden in [&b"\xef\xbb\xbf{}"[..], b"{\0}\0", b"\0{\0}", b"\xff\xfe{\0}\0", b" \n\xef\xbb\xbf{}"] {
            assert!(SocketReader::default().push(&frame(0x82, hidden)).is_err(), "some reader takes it for a text: {hidden:?}");
        }
    }

    #[test]
    fn responses_that_are_asked_for_are_counted() {
        for (text, asked) in [
            (r#"{"type":"response.create"}"#, 1),
            (r#"{"response":{"max_output_tokens":"inf"},"event_id":"e","\u0074ype":"response.\u0063reate"}"#, 1),
            (r#"{"type":"response.cancel"}"#, 0),
            (r#"{"type":"conversation.item.create","item":{"type":"response.create"}}"#, 0),
            (r#"{"type":["response.create"]}"#, 0),
        ] {
            assert_eq!(said(text).unwrap().responses, asked, "{text}");
        }
        let create = frame(0x81, br#"{"type":"response.create"}"#);
        for size in [1, 5, create.len(), 3 * create.len()] {
            let mut reader = SocketReader::default();
            let asked: u32 = create.repeat(3).chunks(size).map(|piece| reader.push(piece).unwrap().responses).sum();
            assert_eq!(asked, 3, "pieces of {size}");
        }
    }

    #[test]
    fn stored_things_are_found() {
        let text = r#"{"type":"session.update","session":{"tools":[{"type":"file_search","vector_store_ids":["vs_1"]},{"type":"code_interpreter","container":{"type":"auto","file_ids":["file-1"]}},{"container":"cntr_1"}]}}"#;
        let mut found = said(text).unwrap().stored;
        found.sort();
        assert_eq!(found, ["cntr_1", "file-1", "vs_1"]);
    }

    #[test]
    fn what_could_be_read_differently_is_refused() {
        for text in [
            r#"{"type":"session.update","session":{"model":"x","model":"y"}}"#,
            r#"{"type":"session.update","session":{"Model":"x"}}"#,
            r#"{"type":"a","type":"session.update"}"#,
            r#"{"session":{"model":7}}"#,
            r#"{"session":{}"#,
            "hello",
            "",
        ] {
            assert!(matches!(said(text), Err(SocketError::Message(_))), "{text}");
        }
        let many = format!(r#"{{"x":[{}0]}}"#, "0,".repeat(200_000));
        assert_eq!(said(&many), Err(SocketError::TooLarge));
        assert_eq!(SocketReader::default().push(&[0x81, 2, b'{', b'}']), Err(SocketError::Frames), "a caller masks what it sends");
    }

    proptest! {
        /// However a message is cut into frames and pieces, and whatever long strings stand in it.
        #[test]
        fn any_frames_and_any_pieces_name_the_same(
            junk in "\\PC{0,300}", times in 1usize..12, frames in prop::collection::vec(1usize..900, 0..8), cut in 1usize..700,
        ) {
            let junk = serde_json::json!({ "text": junk.repeat(times), "other": "\\\"model\\\":\\\"z\\\"".repeat(100) });
            let text = format!(r#"{{"item":{junk},"session":{{"a":{junk},"model":"x"}},"type":"session.update"}}"#);
            let (mut rest, mut stream) = (text.as_bytes(), Vec::new());
            for length in frames {
                let (part, behind) = rest.split_at(length.min(rest.len()));
                stream.extend(frame(if stream.is_empty() { 0x01 } else { 0x00 }, part));
                stream.extend(frame(0x89, b"ping"));
                rest = behind;
            }
            stream.extend(frame(if stream.is_empty() { 0x81 } else { 0x80 }, rest));
            let mut reader = SocketReader::default();
            let mut models = Vec::new();
            for piece in stream.chunks(cut) {
                models.extend(reader.push(piece).unwrap().models);
                prop_assert!(reader.held() <= MOST);
            }
            prop_assert_eq!(models, ["x"]);
        }

        #[test]
        fn nothing_breaks_it(bytes in prop::collection::vec(any::<u8>(), 0..2000), cut in 1usize..64) {
            let mut reader = SocketReader::default();
            let _ = bytes.chunks(cut).try_for_each(|piece| reader.push(piece).map(drop));
        }
    }
}
