//! A form's fields don't depend on how it is cut, and are what the most lenient reader finds in it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spillway_fuzz::pieces;
use spillway_plugins::multipart::{FormFields, FormReader, boundary};

/// What a form says, and whether it names a model; `None` if it is refused.
fn read(boundary: &str, pieces: &[&[u8]]) -> Option<(FormFields, bool)> {
    let mut reader = FormReader::new(boundary);
    pieces.iter().try_for_each(|piece| reader.push(piece)).ok()?;
    Some((reader.fields().clone(), reader.names_a_model()))
}

/// The lines of a text, whatever ends them.
fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b'\r' | b'\n'))
}

/// The parts between delimiters that stand on lines of their own, as RFC 2046 has them.
fn parts<'f>(boundary: &str, form: &'f [u8]) -> Vec<&'f [u8]> {
    let delimiter = format!("\r\n--{boundary}");
    let delimiter = delimiter.as_bytes();
    let first = &delimiter[2..];
    let mut parts = Vec::new();
    let mut rest = form.strip_prefix(first).expect("it begins with a delimiter");
    while !rest.starts_with(b"--") {
        let end = rest.windows(delimiter.len()).position(|window| window == delimiter).expect("every part ends");
        parts.push(&rest[..end]);
        rest = &rest[end + delimiter.len()..];
    }
    parts
}

/// The values of whatever a lenient reader could take for a part's `name`.
fn names(head: &[u8]) -> Vec<String> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let is_disposition = |line: &&str| {
        let name = line.split(':').next().unwrap_or(line);
        name.bytes().filter(u8::is_ascii_alphanumeric).eq(*b"contentdisposition")
    };
    let lines = head.split("\r\n").filter(is_disposition);
    let head = lines.collect::<Vec<_>>().join("\r\n");
    let mut names = Vec::new();
    for (at, _) in head.match_indices("name") {
        // Not `filename`.
        if head[..at].ends_with(|letter: char| letter.is_ascii_alphanumeric()) {
            continue;
        }
        let after = head[at + 4..].trim_start_matches(['*', ' ']);
        let Some(value) = after.strip_prefix('=') else { continue };
        let value = value.trim_start();
        let value = match value.strip_prefix('"') {
            Some(quoted) => quoted.split('"').next().unwrap_or(quoted),
            None => value.split([';', '\r', '\n']).next().unwrap_or(value),
        };
        names.push(value.split('[').next().unwrap_or(value).trim().to_owned());
    }
    names
}

fuzz_target!(|input: &[u8]| {
    // The first line is the content type.
    let Some(end) = input.iter().position(|byte| *byte == b'\n') else { return };
    let (content_type, form) = (&input[..end], &input[end + 1..]);
    let Ok(content_type) = std::str::from_utf8(content_type) else { return };
    let Ok(Some(boundary)) = boundary(content_type) else { return };
    assert!((1..=70).contains(&boundary.len()));
    let whole = read(boundary, &[form]);
    for cuts in [&[0][..], &[2], &[6, 0, 40]] {
        assert_eq!(read(boundary, &pieces(form, cuts)), whole, "cut by {cuts:?}");
    }
    let Some((fields, names_a_model)) = whole else { return };
    if let (Some(model), Some(range)) = (&fields.model, &fields.model_range) {
        assert_eq!(&form[range.clone()], model.as_bytes());
    }
    if !fields.complete {
        return;
    }
    // No reader finds a delimiter where ours does not.
    let parts = parts(boundary, form);
    let bare = format!("--{boundary}");
    assert_eq!(lines(form).filter(|line| line.starts_with(bare.as_bytes())).count(), parts.len() + 1, "delimiters");
    // And none finds another model.
    let mut models = Vec::new();
    for part in parts {
        let end = part.windows(4).position(|window| window == b"\r\n\r\n").expect("every part has a head");
        if names(&part[..end]).iter().any(|name| name == "model") {
            models.push(&part[end + 4..]);
        }
    }
    assert_eq!(models.len(), usize::from(names_a_model), "models");
    if let Some(model) = models.first() {
        assert_eq!(fields.model.as_deref().unwrap_or_default().as_bytes(), *model);
    }
});
