//! A body's content type, charset and compression. Each must have one meaning, or the body is refused.

use std::io::{BufRead, Read};

use http::{HeaderMap, HeaderName, header};

use super::intake_outcome::IntakeError;
use super::offload;
use super::refusal::Refusal;
use crate::gateway::Gateway;
use crate::request::{BodyBuffer, Facts};

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// Not at all.
    Identity,
    /// gzip, also called `x-gzip`.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// The value of a header that may occur only once.
///
/// # Errors
/// If it occurs twice, or is not text.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName, what: &'static str) -> Result<Option<&'h str>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(value), None) => Ok(Some(value)),
        _ => Err(Refusal::Media { what }),
    }
}

/// The body's type, if the request has one.
///
/// # Errors
/// 415 if there are two.
pub(super) fn content_type(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    single(headers, &header::CONTENT_TYPE, "send one Content-Type")
}

/// Whether the body may be read as JSON: its type is JSON, or it has none.
///
/// # Errors
/// 415.
pub(super) fn json(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(given) = content_type(headers)? else { return Ok(()) };
    if given.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let mut parts = given.split(';').map(str::trim);
    let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
    if kind != "application/json" && kind != "text/json" && !kind.ends_with("+json") {
        return Err(Refusal::MediaType { expected: "application/json" });
    }
    for parameter in parts.filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
        if name.trim().eq_ignore_ascii_case("charset") && !["utf-8", "utf8", "us-ascii"].contains(&value.to_ascii_lowercase().as_str()) {
            return Err(Refusal::Media { what: "the body must be in UTF-8: leave 'charset' out of the Content-Type" });
        }
    }
    Ok(())
}

/// How the body is compressed.
///
/// # Errors
/// 415 for unknown codings, and for several at once.
pub(super) fn coding(headers: &HeaderMap) -> Result<Coding, Refusal> {
    const WHAT: &str = "send the body as it is, or with one Content-Encoding: gzip or zstd";
    let given = single(headers, &header::CONTENT_ENCODING, WHAT)?;
    match given.map(|given| given.trim().to_ascii_lowercase()).as_deref() {
        None | Some("identity") => Ok(Coding::Identity),
        Some("gzip" | "x-gzip") => Ok(Coding::Gzip),
        Some("zstd") => Ok(Coding::Zstd),
        Some(_) => Err(Refusal::Media { what: WHAT }),
    }
}

/// Checks that a body is not compressed, for APIs where it can't be decompressed.
///
/// # Errors
/// 415.
pub(super) fn uncompressed(headers: &HeaderMap) -> Result<(), Refusal> {
    match coding(headers)? {
        Coding::Identity => Ok(()),
        Coding::Gzip | Coding::Zstd => Err(Refusal::Media { what: "this API takes no compressed bodies: leave Content-Encoding out" }),
    }
}

/// The decompressed body. It may be as large as any other body, and takes its share of the budget.
///
/// # Errors
/// 400 if it can't be decompressed, 413 or 503 if the result is too large.
pub(super) async fn plain(gateway: &Gateway, facts: &Facts, body: BodyBuffer, coding: Coding) -> Result<BodyBuffer, IntakeError> {
    if coding == Coding::Identity {
        return Ok(body);
    }
    let limit = facts.runtime.config.server.max_body;
    let plain = BodyBuffer::new(&gateway.buffered).of(facts.buffered());
    // A few bytes can become many, so never do this on a worker.
    Ok(offload::apart(&gateway.turns, facts.owner(), move || decompress(body.as_slice(), coding, limit, plain)).await??)
}

/// Largest window of Zstandard, as a power of two. RFC 9659 allows no more on the web.
const WINDOW: u32 = 23;
/// Bytes in one piece.
const PIECE: usize = 64 * 1024;

fn decompress(bytes: &[u8], coding: Coding, limit: usize, plain: BodyBuffer) -> Result<BodyBuffer, Refusal> {
    const BROKEN: Refusal = Refusal::Form { what: "the body is not compressed as its Content-Encoding says" };
    let (plain, rest) = match coding {
        Coding::Identity => return Err(Refusal::Internal),
        Coding::Gzip => {
            let mut decoder = flate2::bufread::GzDecoder::new(bytes);
            let plain = read_all(&mut decoder, limit, plain)?;
            (plain, decoder.into_inner())
        }
        Coding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(|_| Refusal::Internal)?.single_frame();
            decoder.window_log_max(WINDOW).map_err(|_| Refusal::Internal)?;
            let plain = read_all(&mut decoder, limit, plain)?;
            (plain, decoder.finish())
        }
    };
    // Some servers read bytes after the end and others ignore them.
    let mut rest = rest;
    match rest.fill_buf() {
        Ok([]) => Ok(plain),
        _ => Err(BROKEN),
    }
}

fn read_all(decoder: &mut impl Read, limit: usize, mut plain: BodyBuffer) -> Result<BodyBuffer, Refusal> {
    let mut piece = vec![0; PIECE];
    loop {
        let read =
            decoder.read(&mut piece).map_err(|_| Refusal::Form { what: "the body is not compressed as its Content-Encoding says" })?;
        if read == 0 {
            return Ok(plain);
        }
        if plain.len() + read > limit {
            return Err(Refusal::TooLarge { limit });
        }
        if !plain.push(bytes::Bytes::copy_from_slice(&piece[..read]), None) {
            return Err(Refusal::Overloaded { what: "request bodies" });
        }
    }
}

#[cfg(test)]
mod tests;
