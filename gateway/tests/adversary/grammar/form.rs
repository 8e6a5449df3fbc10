//! Forms: as they should be, and as servers read them differently.

use fastrand::Rng;

use super::one_of;
use crate::upstream::SECRET;

/// A form, and its content type.
pub fn form(rng: &mut Rng) -> (Vec<u8>, &'static str) {
    let disposition = "Content-Disposition: form-data; name=\"model\"";
    let model = one_of(
        rng,
        &[
            disposition,
            disposition,
            disposition,
            "content-disposition: form-data; Name=\"model\"",
            "Content-Disposition: form-data; name*=utf-8''model",
            "Content-Disposition: form-data;\r\n name=\"model\"",
            "Content-Disposition: form-data; name=model",
            "Content-Disposition: form-data; name=\"x\"; name=\"model\"",
            "Content-Disposition: form-data; name=\"mod\\el\"",
        ],
    );
    let value = one_of(rng, &["m", "m", "m", SECRET, ""]);
    let file = "z".repeat(one_of(rng, &[100, 5_000, 400_000]));
    let file = format!("--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n{file}\r\n");
    let first = format!("--XX\r\n{disposition}\r\n\r\nm\r\n");
    let second = format!("--XX\r\n{model}\r\n\r\n{value}\r\n");
    let text = match rng.u8(0..5) {
        0 => format!("{first}{file}{second}--XX--\r\n"),
        1 => format!("{second}{file}--XX--\r\n"),
        2 => format!("{first}{second}{file}--XX--\r\n"),
        3 => format!("{first}{file}"),
        _ => format!("{first}{file}--XX--\r\n"),
    };
    let content_type = one_of(
        rng,
        &[
            "multipart/form-data; boundary=XX",
            "multipart/form-data; boundary=XX",
            "multipart/form-data; boundary=XX; boundary=YY",
            "multipart/form-data; boundary=\"XX\"",
            "multipart/form-data",
        ],
    );
    (text.into_bytes(), content_type)
}
