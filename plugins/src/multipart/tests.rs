use super::*;

const FORM: &[u8] = b"--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n--XY\r\nname=\"model\"\r\n\r\n--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--XX\r\nContent-Disposition: form-data; name=\"stream\"\r\n\r\ntrue\r\n--XX--\r\n";

fn read(form: &[u8]) -> Result<FormFields, FormError> {
    let mut reader = FormReader::new("XX");
    reader.push(form)?;
    Ok(reader.fields().clone())
}

fn part(head: &str) -> Vec<u8> {
    format!("--XX\r\n{head}\r\n\r\nm\r\n--XX--\r\n").into_bytes()
}

#[test]
fn how_many_answers_are_asked_for_is_read() {
    let form = |n: &str| {
        part("Content-Disposition: form-data; name=\"n\"").windows(1).fold(Vec::new(), |mut form, byte| {
            form.extend_from_slice(if byte == b"m" && form.ends_with(b"\r\n\r\n") { n.as_bytes() } else { byte });
            form
        })
    };
    assert_eq!(read(&form("10")).unwrap().choices, Some(10));
    for wrong in ["", "-1", "1e3", "ten", " 10", "99999999999999999999999"] {
        assert!(read(&form(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn finds_the_model_behind_a_file() {
    let fields = read(FORM).unwrap();
    assert_eq!(fields.model.as_deref(), Some("whisper"));
    assert_eq!(&FORM[fields.model_range.unwrap()], b"whisper");
    assert!(fields.complete && fields.stream);
}

#[test]
fn pieces_of_any_size_are_read_as_the_whole() {
    let whole = read(FORM).unwrap();
    for size in 1..FORM.len() {
        let mut reader = FormReader::new("XX");
        for piece in FORM.chunks(size) {
            reader.push(piece).unwrap();
            assert!(reader.fields.model.as_deref().is_none_or(|model| model == "whisper"), "{size}");
            assert!(reader.rest.len() < 200, "little is kept");
        }
        assert_eq!(*reader.fields(), whole, "pieces of {size}");
    }
}

#[test]
fn what_clients_write_is_read() {
    for head in [
        "Content-Disposition: form-data; name=\"model\"",
        "content-disposition: form-data; name=\"model\"",
        "Content-Disposition: form-data; name=model",
        "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=model",
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Length: 1",
    ] {
        assert_eq!(read(&part(head)).unwrap().model.as_deref(), Some("m"), "{head}");
    }
    for file in [
        "name=\"file\"; filename=\"audio.wav\"",
        "name=\"file\"; filename=\"r\u{e9}union %22 1.wav\"",
        "name=\"file\"; filename=\"a\\\\b.wav\"",
        "name=file; filename=audio.wav; filename*=utf-8''audio.wav",
        "name=\"image[]\"; filename=\"a.png\"",
        "name=\"file\"; filename=\"model; name=model\"",
        "name=\"timestamp_granularities[]\"",
    ] {
        let form = part(&format!("Content-Disposition: form-data; {file}\r\nContent-Type: application/octet-stream"));
        assert_eq!(read(&form).map(|fields| fields.model), Ok(None), "{file}");
    }
}

#[test]
fn what_readers_read_differently_is_refused() {
    for head in [
        "Content-Disposition: form-data; Name=\"model\"",
        "Content-Disposition: form-data; name=\"file\"\r\nContentDisposition: form-data; name=model",
        "Content_Disposition: form-data; name=\"model\"\r\nContent-Disposition: form-data; name=\"file\"",
        "Content-Disposition: form-data; name*=utf-8''model",
        "Content-Disposition: form-data; name=\"x\"; name=\"model\"",
        "Content-Disposition: form-data; name=\"x\\\"; name=\"model\"",
        "Content-Disposition: form-data; name=\"mod\\el\"",
        "Content-Disposition: form-data;\r\n name=\"model\"",
        "Content-Disposition: form-data; name='model'; x=1",
        "Content-Disposition: Form-Data; name=\"model\"",
        "Content-Disposition: attachment; name=\"model\"",
        "Content-Disposition : form-data; name=\"model\"",
        "Content-Disposition: form-data; name=\"model\"; filename=\"a\"",
        "Content-Disposition: form-data; name=\"Model\"",
        "Content-Disposition: form-data; name=\"model[]\"",
        "Content-Disposition: form-data; name=\" model\"",
        "Content-Disposition: form-data; name=\"model\u{a0}[a]\"",
        "Content-Disposition: form-data; name=\"model",
        "Content-Disposition: form-data",
        "Content-Disposition: form-data; name=\"x\"\r\nContent-Disposition: form-data; name=\"model\"",
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Type: text/plain; charset=utf-16",
        "Content-Disposition: form-data; name=\"model\"\r\nContent-Transfer-Encoding: base64",
        "Content-Disposition: form-data; name=\"x\"\nContent-Disposition: form-data; name=\"model\"",
        "Content-Type: text/plain",
        "X",
    ] {
        assert!(read(&part(head)).is_err(), "{head}");
    }
    let model = "Content-Disposition: form-data; name=\"model\"\r\n\r\nm";
    for form in [
        format!("preamble\r\n--XX\r\n{model}\r\n--XX--\r\n"),
        format!("\r\n--XX\r\n{model}\r\n--XX--\r\n"),
        format!("--XX \r\n{model}\r\n--XX--\r\n"),
        format!("--XX\n{model}\r\n--XX--\r\n"),
        format!("--XX\r\n{model}\r\n--XXY\r\n{model}\r\n--XX--\r\n"),
        format!("--XX\r\n{model}\r\n--XX--\r\nepilogue"),
        format!("--XX\r\n{model}\r\n--XX--\r\n\r\n"),
        format!("--XX\r\n{model}\r\n--XX\r\n{model}\r\n--XX--\r\n"),
        "--XX\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n--XX--\r\n".to_owned(),
        "--XX\r\n\r\nm\r\n--XX--\r\n".to_owned(),
        // Delimiters to readers that take any line end, and those that search a head, too.
        format!("--XX\r\n{model}\n--XX\r\n{model}\r\n--XX--\r\n"),
        format!("--XX\r\n{model}\r--XX--\r\n--XX--\r\n"),
        format!("--XX\r\n{model}\r\n\n--XX\r\n--XX--\r\n"),
        format!("--XX\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\n\n--XX\r\n{model}\r\n--XX--\r\n"),
        format!("--XX\r\n--XX--: x\r\n{model}\r\n--XX--\r\n"),
        "--XX\r\nContent-Disposition: form-data; name=\"x\"\r\n--XX: x\r\n\r\n\r\n--XX--\r\n".to_owned(),
        format!("--XX\r\nX-A: {}\r\n\r\n\r\n--XX--\r\n", "y".repeat(LONGEST_HEAD)),
        format!("--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n{}\r\n--XX--\r\n", "m".repeat(LONGEST_VALUE + 1)),
    ] {
        for size in [1, 7, form.len()] {
            let mut reader = FormReader::new("XX");
            assert!(form.as_bytes().chunks(size).any(|piece| reader.push(piece).is_err()), "{size} {form:?}");
        }
    }
}

#[test]
fn reads_the_boundary() {
    assert_eq!(boundary("multipart/form-data; boundary=\"a b\""), Ok(Some("a b")));
    assert_eq!(boundary("Multipart/Form-Data; charset=utf-8; Boundary=abc"), Ok(Some("abc")));
    assert_eq!(boundary("application/json; boundary=x"), Ok(None));
    for bad in [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=a; boundary=b",
        "multipart/form-data; boundary=\"a",
        "multipart/form-data; boundary=\"a\\b\"",
        "multipart/form-data; boundary=\"a \"",
        "multipart/form-data; boundary*=utf-8''a",
        "multipart/form-data; charset=utf-16; boundary=a",
    ] {
        assert!(boundary(bad).is_err(), "{bad}");
    }
    assert!(boundary(&format!("multipart/form-data; boundary={}", "a".repeat(71))).is_err());
}
