//! Heads: lines that may choose, confuse or fill something, and the framing of what follows.

use std::fmt::Write as _;
use std::io::Write as _;

use fastrand::Rng;

/// Header lines that may choose, confuse or fill something.
pub fn headers(rng: &mut Rng, head: &mut String) {
    let number = rng.u32(..);
    for _ in 0..rng.u8(0..4) {
        let line = match rng.u8(0..16) {
            0 => "x-ms-oai-image-generation-deployment: secret".to_owned(),
            1 => "azureml-model-deployment: secret".to_owned(),
            2 => "x-ms-spillover-deployment: secret".to_owned(),
            3 => format!("x-team: random-{number}"),
            4 => format!("traceparent: 00-{number:032x}-{number:016x}-01"),
            5 => "traceparent: nonsense".to_owned(),
            6 => "tracestate: =,=".to_owned(),
            7 => "cookie: KEY-cookie".to_owned(),
            8 => "x-forwarded-host: 127.0.0.1:1".to_owned(),
            9 => "x-spillway-pool: secret".to_owned(),
            10 => "x-spillway-backend: secret".to_owned(),
            11 => "connection: host, x-request-id".to_owned(),
            12 => "expect: 100-continue".to_owned(),
            13 => format!("x-long: {}", "q".repeat(20_000)),
            14 => "openai-organization: KEY-org".to_owned(),
            _ => "accept-encoding: gzip, br".to_owned(),
        };
        let _ = write!(head, "{line}\r\n");
    }
}

/// Frames a body: as it should be, or as no two servers read alike.
pub fn framed(head: &mut String, body: &[u8], rng: &mut Rng) -> Vec<u8> {
    let chunked = |extension: &str, line_end: &str| {
        let mut text = Vec::new();
        for piece in body.chunks(body.len() / 3 + 1) {
            text.extend_from_slice(format!("{:x}{extension}{line_end}", piece.len()).as_bytes());
            text.extend_from_slice(piece);
            text.extend_from_slice(b"\r\n");
        }
        text.extend_from_slice(b"0\r\n\r\n");
        text
    };
    let inner = b"POST /v1/smuggled HTTP/1.1\r\nhost: smuggled\r\ncontent-length: 0\r\n\r\n";
    let length = body.len();
    let (lines, text) = match rng.u8(0..24) {
        0 => ("transfer-encoding: chunked, chunked\r\n".to_owned(), [&chunked("", "\r\n")[..], inner].concat()),
        1 => ("transfer-encoding: gzip, chunked\r\n".to_owned(), [&chunked("", "\r\n")[..], inner].concat()),
        2 => (format!("content-length: {length}\r\ntransfer-encoding: chunked\r\n"), [&chunked("", "\r\n")[..], inner].concat()),
        3 => (format!("content-length: {length}\r\ncontent-length: {}\r\n", length + 5), body.to_vec()),
        4 => (format!("content-length: {}\r\n", length + 50), body.to_vec()),
        5 => (format!("content-length: {}\r\n", length / 2), body.to_vec()),
        6 => (format!("content-length: +{length}\r\n"), body.to_vec()),
        7 => ("transfer-encoding: chunked\r\n".to_owned(), chunked(";x=\"y\"", "\r\n")),
        8 => ("transfer-encoding: chunked\r\n".to_owned(), chunked(";x", "\n")),
        9 => ("transfer-encoding:\x0bchunked\r\n".to_owned(), chunked("", "\r\n")),
        10 => ("transfer-encoding: identity\r\n".to_owned(), body.to_vec()),
        11 => (String::new(), body.to_vec()),
        12 => {
            let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packed.write_all(body).unwrap();
            let packed = packed.finish().unwrap();
            (format!("content-encoding: gzip\r\ncontent-length: {}\r\n", packed.len()), packed)
        }
        13 => (format!("content-encoding: gzip\r\ncontent-length: {length}\r\n"), body.to_vec()),
        14..18 => ("transfer-encoding: chunked\r\n".to_owned(), chunked("", "\r\n")),
        _ => (format!("content-length: {length}\r\n"), body.to_vec()),
    };
    *head += &lines;
    text
}
