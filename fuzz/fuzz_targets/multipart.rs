//! A form's fields don't depend on how it is cut, and stand where they are said to.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spillway_fuzz::pieces;
use spillway_plugins::multipart::{FormFields, FormReader, boundary};

/// What a form says; `None` if it is refused.
fn read(boundary: &str, pieces: &[&[u8]]) -> Option<FormFields> {
    let mut reader = FormReader::new(boundary);
    pieces.iter().try_for_each(|piece| reader.push(piece)).ok()?;
    Some(reader.fields().clone())
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
    let Some(FormFields { model: Some(model), model_range: Some(range), .. }) = whole else { return };
    assert_eq!(&form[range], model.as_bytes());
});
