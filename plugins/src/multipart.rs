//! Reads `multipart/form-data` (RFC 7578) piece by piece, without storing the files.
//!
//! Readers of forms differ in almost everything that RFC 2046 allows: preambles, padding, folded lines, escapes, case
//! of parameters, which of two fields counts. So only a narrow grammar is accepted: what clients write, and what all
//! readers read in the same way. Everything else is refused.

use std::ops::Range;

use memchr::memmem::{self, Finder};

use crate::names::{Known, Names};

/// Longest head of a part.
const LONGEST_HEAD: usize = 8 * 1024;
/// Longest value of a field that the gateway uses.
const LONGEST_VALUE: usize = 1024;
/// Most parts of a form; other readers have the same limit.
const MOST_PARTS: usize = 1000;

/// Fields that the gateway uses; each may occur once.
static FIELDS: Names = Names::new(&["model", "stream", "n", "prompt"]);

/// The form fields that the gateway uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FormFields {
    /// The model's name.
    pub model: Option<String>,
    /// The range of the model's name in the body.
    pub model_range: Option<Range<usize>>,
    /// Whether the caller asked for a stream.
    pub stream: bool,
    /// How many answers (`n`).
    pub choices: Option<u64>,
    /// Whether the final boundary was read; before that, further fields may come.
    pub complete: bool,
}

/// Why a form was refused, and what is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormError(pub &'static str);

/// The `boundary` parameter of a `multipart/form-data` content type.
///
/// # Errors
/// If it has no boundary, several, or one that readers could read in different ways; `Ok(None)` if it is another type.
pub fn boundary(content_type: &str) -> Result<Option<&str>, FormError> {
    const WRONG: FormError = FormError("a form's Content-Type must have one boundary of up to 70 letters, digits and '()+_,-./:=?");
    let (kind, rest) = content_type.split_once(';').unwrap_or((content_type, ""));
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return Ok(None);
    }
    let mut found = None;
    // A boundary has no semicolon, quoted or not.
    for parameter in rest.split(';').map(str::trim).filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').ok_or(WRONG)?;
        let value = value.strip_prefix('"').map_or(Some(value), |value| value.strip_suffix('"')).ok_or(WRONG)?;
        match name {
            _ if name.eq_ignore_ascii_case("charset") && is_utf8(value) => {}
            _ if !name.eq_ignore_ascii_case("boundary") || found.is_some() => return Err(WRONG),
            _ => found = Some(value),
        }
    }
    let boundary = found.filter(|value| (1..=70).contains(&value.len()) && !value.ends_with(' ')).ok_or(WRONG)?;
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    boundary.bytes().all(fits).then_some(Some(boundary)).ok_or(WRONG)
}

fn is_utf8(charset: &str) -> bool {
    charset.eq_ignore_ascii_case("utf-8") || charset.eq_ignore_ascii_case("utf8")
}

/// A reader's position in a form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the first delimiter.
    Start,
    /// After a delimiter.
    Delimiter,
    /// In a part's head.
    Head,
    /// At the first byte of a part's value.
    Value,
    /// In a part's value.
    Inside,
    /// After the last delimiter.
    End,
}

/// Reads one form as it arrives.
#[derive(Debug)]
pub struct FormReader {
    /// A delimiter, without the line end before it.
    boundary: Finder<'static>,
    at: At,
    /// Bytes that arrived and could not be read yet.
    rest: Vec<u8>,
    /// Number of bytes read.
    read: usize,
    parts: usize,
    /// The fields so far, one bit for each.
    seen: u8,
    /// The field that is being read, if the gateway uses it, and where its value begins.
    field: Option<(usize, usize)>,
    value: Vec<u8>,
    fields: FormFields,
}

impl FormReader {
    /// A reader of a form with this boundary.
    pub fn new(boundary: &str) -> Self {
        FormReader {
            boundary: Finder::new(&format!("--{boundary}")).into_owned(),
            at: At::Start,
            rest: Vec::new(),
            read: 0,
            parts: 0,
            seen: 0,
            field: None,
            value: Vec::new(),
            fields: FormFields::default(),
        }
    }

    /// The fields so far.
    pub fn fields(&self) -> &FormFields {
        &self.fields
    }

    /// Whether a `model` field has begun, with or without a name in it.
    pub fn names_a_model(&self) -> bool {
        self.seen & 1 == 1
    }

    /// Reads the next piece.
    ///
    /// # Errors
    /// [`FormError`]; nothing can be read after it.
    pub fn push(&mut self, piece: &[u8]) -> Result<(), FormError> {
        if self.rest.is_empty() {
            let read = self.take(piece)?;
            self.rest.extend_from_slice(&piece[read..]);
        } else {
            let mut joined = std::mem::take(&mut self.rest);
            joined.extend_from_slice(piece);
            let read = self.take(&joined)?;
            joined.drain(..read);
            self.rest = joined;
        }
        Ok(())
    }

    /// Reads as much as possible. Returns the number of bytes read.
    fn take(&mut self, bytes: &[u8]) -> Result<usize, FormError> {
        let mut read = 0;
        loop {
            let step = self.step(&bytes[read..])?;
            let Some(step) = step else { return Ok(read) };
            read += step;
            self.read += step;
        }
    }

    /// One step; `None` if it needs more bytes.
    fn step(&mut self, bytes: &[u8]) -> Result<Option<usize>, FormError> {
        match self.at {
            At::Start => self.start(bytes),
            At::Delimiter => self.after_delimiter(bytes),
            At::Head => self.head(bytes),
            At::Value => self.value(bytes),
            At::Inside => self.inside(bytes),
            At::End => match bytes {
                [] => Ok(None),
                // The last line may end; nothing may follow it.
                [b'\r'] => Ok(None),
                [b'\r', b'\n'] if self.fields.complete => Ok(None),
                _ => Err(FormError("nothing may follow the form's closing boundary")),
            },
        }
    }

    fn start(&mut self, bytes: &[u8]) -> Result<Option<usize>, FormError> {
        let bare = self.boundary.needle();
        let length = bare.len();
        match bytes {
            _ if bytes.starts_with(bare) => {
                self.at = At::Delimiter;
                Ok(Some(length))
            }
            _ if bare.starts_with(bytes) => Ok(None),
            _ => Err(FormError("the form must begin with its boundary")),
        }
    }

    fn after_delimiter(&mut self, bytes: &[u8]) -> Result<Option<usize>, FormError> {
        match bytes {
            [b'\r', b'\n', ..] => {
                self.parts += 1;
                if self.parts > MOST_PARTS {
                    return Err(FormError("the form has more than 1000 parts"));
                }
                self.at = At::Head;
                Ok(Some(2))
            }
            [b'-', b'-', ..] => {
                self.at = At::End;
                self.fields.complete = true;
                Ok(Some(2))
            }
            [] | [b'\r' | b'-'] => Ok(None),
            _ => Err(FormError("a boundary must be followed by a line end (CR LF), and must not occur in a value")),
        }
    }

    fn head(&mut self, bytes: &[u8]) -> Result<Option<usize>, FormError> {
        let head = &bytes[..bytes.len().min(LONGEST_HEAD)];
        if head.starts_with(b"\r\n") {
            return Err(FormError("a part of the form has no Content-Disposition"));
        }
        match memmem::find(head, b"\r\n\r\n") {
            Some(end) => {
                let field = field(&head[..end])?;
                self.field = None;
                if let Some(index) = field {
                    if self.seen >> index & 1 == 1 {
                        return Err(FormError(TWICE[index]));
                    }
                    self.seen |= 1 << index;
                    self.field = Some((index, self.read + end + 4));
                    self.value.clear();
                }
                self.at = At::Value;
                Ok(Some(end + 4))
            }
            None if head.len() == LONGEST_HEAD => Err(FormError("the head of one of the form's parts is too long")),
            None => Ok(None),
        }
    }

    fn value(&mut self, bytes: &[u8]) -> Result<Option<usize>, FormError> {
        let bare = self.boundary.needle();
        if bytes.len() < bare.len() && bare.starts_with(bytes) {
            return Ok(None);
        }
        // Some readers take this as the end of a part without a value.
        if bytes.starts_with(bare) {
            return Err(FormError("a boundary must be on a line of its own after a part's value"));
        }
        self.at = At::Inside;
        Ok(Some(0))
    }

    /// The end of the part in these bytes, if it is there.
    fn part_end(&self, bytes: &[u8]) -> Result<Option<usize>, FormError> {
        for at in self.boundary.find_iter(bytes) {
            match &bytes[..at] {
                [.., b'\r', b'\n'] => return Ok(Some(at - 2)),
                // Some readers take this as a delimiter.
                [.., b'\r' | b'\n'] => {
                    return Err(FormError("a boundary must come after a line end (CR LF), and must not occur in a value"));
                }
                _ => {}
            }
        }
        Ok(None)
    }

    fn inside(&mut self, bytes: &[u8]) -> Result<Option<usize>, FormError> {
        let length = self.boundary.needle().len() + 2;
        let found = self.part_end(bytes)?;
        let end = found.unwrap_or_else(|| bytes.len().saturating_sub(length - 1));
        if self.field.is_some() {
            if self.value.len() + end > LONGEST_VALUE && self.field.is_some_and(|(index, _)| index != PROMPT) {
                return Err(FormError("one of the form's fields 'model', 'stream' and 'n' is too long"));
            }
            let room = LONGEST_VALUE.saturating_sub(self.value.len());
            self.value.extend_from_slice(&bytes[..end.min(room)]);
        }
        match found {
            Some(end) => {
                self.end_of_field(end)?;
                self.at = At::Delimiter;
                Ok(Some(end + length))
            }
            None => Ok((end > 0).then_some(end)),
        }
    }

    fn end_of_field(&mut self, length: usize) -> Result<(), FormError> {
        let Some((index, start)) = self.field.take() else { return Ok(()) };
        match index {
            MODEL => {
                let text = std::str::from_utf8(&self.value).ok().filter(|text| !text.contains(char::is_control));
                let text = text.ok_or(FormError("the form's field 'model' must be text in UTF-8"))?;
                self.fields.model = Some(text.to_owned()).filter(|text| !text.is_empty());
                self.fields.model_range = Some(start..self.read + length);
            }
            STREAM => self.fields.stream = self.value == b"true",
            CHOICES => {
                let number = std::str::from_utf8(&self.value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
                let number = number.and_then(|text| text.parse().ok());
                self.fields.choices = Some(number.ok_or(FormError("the form's field 'n' must be a number, in digits"))?);
            }
            _ => {}
        }
        Ok(())
    }
}

const MODEL: usize = 0;
const STREAM: usize = 1;
const CHOICES: usize = 2;
const PROMPT: usize = 3;
/// The errors for a field that occurs twice.
const TWICE: [&str; 4] = [
    "the form has two 'model' fields; one is allowed",
    "the form has two 'stream' fields; one is allowed",
    "the form has two 'n' fields; one is allowed",
    "the form has two 'prompt' fields; one is allowed",
];
/// The errors for a field's name that could be read as one that the gateway uses.
const ALIKE: [&str; 4] = [
    "a field's name could be read as 'model'; write exactly 'model'",
    "a field's name could be read as 'stream'; write exactly 'stream'",
    "a field's name could be read as 'n'; write exactly 'n'",
    "a field's name could be read as 'prompt'; write exactly 'prompt'",
];

/// The field of a part's head, if the gateway uses it.
fn field(head: &[u8]) -> Result<Option<usize>, FormError> {
    const LINES: FormError = FormError("a part's head must have lines of the form 'Name: value', each ended by CR LF and none folded");
    let head = std::str::from_utf8(head).map_err(|_| FormError("a part's head must be UTF-8"))?;
    let (mut disposition, mut kind) = (None, None);
    for line in head.split("\r\n") {
        let (name, value) = line.split_once(':').ok_or(LINES)?;
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        // A value that begins with a dash could be a boundary.
        if name.is_empty()
            || name.starts_with('-')
            || !name.bytes().all(is_name)
            || value.contains(|letter: char| letter.is_control() && letter != '\t')
        {
            return Err(LINES);
        }
        let value = value.trim_matches([' ', '\t']);
        let twice = match name.to_ascii_lowercase().as_str() {
            "content-disposition" => disposition.replace(value).is_some(),
            "content-type" => kind.replace(value).is_some(),
            "content-transfer-encoding" if !["binary", "8bit", "7bit"].contains(&value.to_ascii_lowercase().as_str()) => {
                return Err(FormError("a part's Content-Transfer-Encoding must be binary, 8bit or 7bit, or be left out"));
            }
            "content-transfer-encoding" => false,
            other if is_alike(other) => {
                return Err(FormError(
                    "a line of a part's head could be read as another one; write Content-Disposition and Content-Type so",
                ));
            }
            _ => false,
        };
        if twice {
            return Err(FormError("a part has two Content-Disposition or two Content-Type lines; one of each is allowed"));
        }
    }
    let (name, is_file) = disposition_name(disposition.ok_or(FormError("a part of the form has no Content-Disposition"))?)?;
    // Some readers take `model[]` as a list called `model`, and some ignore spaces around a name.
    let base = name.split('[').next().unwrap_or(name).trim();
    let index = match (FIELDS.look_up(name.as_bytes()), FIELDS.look_up(base.as_bytes())) {
        (Known::Word(index), _) => index,
        (Known::Like(index), _) | (_, Known::Word(index) | Known::Like(index)) => return Err(FormError(ALIKE[index])),
        (Known::Other, Known::Other) => return Ok(None),
    };
    if is_file || !kind.is_none_or(is_plain_text) {
        return Err(FormError("a field that is not a file must be plain text in UTF-8, without a file name"));
    }
    Ok(Some(index))
}

/// Whether a reader that ignores dashes could take a line for one that counts.
fn is_alike(name: &str) -> bool {
    let letters = || name.bytes().filter(u8::is_ascii_alphanumeric);
    ["contentdisposition", "contenttype", "contenttransferencoding"].iter().any(|known| letters().eq(known.bytes()))
}

/// `text/plain`, in UTF-8 if it has a charset.
fn is_plain_text(kind: &str) -> bool {
    let (kind, rest) = kind.split_once(';').unwrap_or((kind, ""));
    let utf8 = |parameter: &str| match parameter.split_once('=') {
        Some((name, value)) => {
            let value = value.trim_matches('"');
            name.eq_ignore_ascii_case("charset") && (is_utf8(value) || value.eq_ignore_ascii_case("us-ascii"))
        }
        None => parameter.is_empty(),
    };
    kind.trim().eq_ignore_ascii_case("text/plain") && rest.split(';').map(str::trim).all(utf8)
}

/// The name in `form-data; name="…"; filename="…"; filename*=…`, and whether there is a file name.
fn disposition_name(value: &str) -> Result<(&str, bool), FormError> {
    const WRONG: FormError =
        FormError("a part's Content-Disposition must be: form-data; name=\"NAME\", optionally with ; filename=\"NAME\"");
    let mut rest = value.strip_prefix("form-data").ok_or(WRONG)?;
    let (mut name, mut file, mut extended) = (None, None, None);
    while !rest.is_empty() {
        rest = rest.strip_prefix(';').ok_or(WRONG)?.trim_start_matches(' ');
        let (parameter, after) = rest.split_once('=').ok_or(WRONG)?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').ok_or(WRONG)?,
            None => after.split_at(after.find(';').unwrap_or(after.len())),
        };
        // Two backslashes are read as one or as two, but with the same end; a single one hides the next character from
        // some readers.
        if value.replace("\\\\", "").contains('\\') {
            return Err(WRONG);
        }
        let quoted = rest.len() > parameter.len() + 1 && rest.as_bytes()[parameter.len() + 1] == b'"';
        if !quoted && (value.is_empty() || !value.bytes().all(is_token)) {
            return Err(WRONG);
        }
        let twice = match parameter {
            "name" => name.replace(value).is_some(),
            "filename" => file.replace(value).is_some(),
            "filename*" if !quoted => extended.replace(value).is_some(),
            _ => return Err(WRONG),
        };
        if twice {
            return Err(WRONG);
        }
        rest = after;
    }
    let name = name.filter(|name| !name.contains(['\\', '\'', '%'])).ok_or(WRONG)?;
    Ok((name, file.is_some() || extended.is_some()))
}

/// Characters allowed in a value without quotes (RFC 9110, 5.6.2, and the quotes of an extended value).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~[]".contains(&byte)
}

#[cfg(test)]
mod tests;
