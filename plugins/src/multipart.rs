//! Finds the `model` field in a `multipart/form-data` body (RFC 7578) without copying the files.

use std::ops::Range;

use memchr::memmem;

/// The form fields the gateway acts on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FormFields {
    /// The model's name.
    pub model: Option<String>,
    /// Where the model's bytes stand in the body.
    pub model_range: Option<Range<usize>>,
    /// Whether the caller asked for a stream.
    pub stream: bool,
    /// Whether the final boundary was seen; without it more bytes may bring more fields.
    pub complete: bool,
    /// A field that the gateway reads stood in the form twice.
    pub duplicate: bool,
}

/// The `boundary` parameter of a `multipart/form-data` content type.
pub fn boundary(content_type: &str) -> Option<&str> {
    let mut parts = content_type.split(';').map(str::trim);
    if !parts.next()?.eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (name.trim().eq_ignore_ascii_case("boundary") && !value.is_empty() && value.len() <= 70).then_some(value)
    })
}

/// Reads the fields out of `body`, which may be only the beginning of the form.
pub fn read_form(body: &[u8], boundary: &str) -> FormFields {
    let delimiter = format!("--{boundary}");
    let finder = memmem::Finder::new(delimiter.as_bytes());
    let mut fields = FormFields::default();
    let mut starts = finder.find_iter(body).filter(|&at| at == 0 || body[..at].ends_with(b"\r\n")).peekable();
    while let Some(start) = starts.next() {
        let part_start = start + delimiter.len();
        if body[part_start..].starts_with(b"--") {
            fields.complete = true;
            break;
        }
        // A part whose end hasn't arrived yet tells nothing.
        let Some(&next) = starts.peek() else { break };
        let part_end = next.saturating_sub(2);
        let Some(part) = body.get(part_start..part_end) else { continue };
        let Some(head_len) = memmem::find(part, b"\r\n\r\n") else { continue };
        let value = part_start + head_len + 4..part_end;
        match field_name(&part[..head_len]) {
            Some("model") => {
                fields.duplicate |= fields.model.is_some();
                fields.model = std::str::from_utf8(&body[value.clone()]).ok().filter(|m| !m.is_empty()).map(str::to_owned);
                fields.model_range = fields.model.is_some().then_some(value);
            }
            Some("stream") => fields.stream = &body[value] == b"true",
            _ => {}
        }
    }
    fields
}

/// The `name` of a part from its header lines.
fn field_name(head: &[u8]) -> Option<&str> {
    let head = std::str::from_utf8(head).ok()?;
    let disposition = head.split("\r\n").find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case("content-disposition").then_some(value)
    })?;
    disposition.split(';').find_map(|part| part.trim().strip_prefix("name=").map(|name| name.trim_matches('"')))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: &[u8] = b"--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n--XY\r\nname=\"model\"\r\n--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--XX--\r\n";

    #[test]
    fn finds_the_model_behind_a_file() {
        let fields = read_form(FORM, "XX");
        assert_eq!(fields.model.as_deref(), Some("whisper"));
        assert_eq!(&FORM[fields.model_range.unwrap()], b"whisper");
        assert!(fields.complete && !fields.duplicate);
    }

    #[test]
    fn a_prefix_tells_only_what_has_arrived() {
        for cut in 0..FORM.len() {
            let fields = read_form(&FORM[..cut], "XX");
            assert!(fields.model.as_deref().is_none_or(|model| model == "whisper"), "cut at {cut}");
        }
    }

    #[test]
    fn reads_the_boundary() {
        assert_eq!(boundary("multipart/form-data; boundary=\"a b\""), Some("a b"));
        assert_eq!(boundary("Multipart/Form-Data; charset=x; Boundary=abc"), Some("abc"));
        assert_eq!(boundary("application/json; boundary=x"), None);
        assert_eq!(boundary("multipart/form-data"), None);
    }
}
