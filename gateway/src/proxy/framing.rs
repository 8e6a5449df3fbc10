//! Rejects heads that Pingora accepts, but that another server on the way could read differently.

use crate::downstream::{Session, strict_head};
use http::{Version, header};
use memchr::{memchr, memchr_iter, memmem};

use super::refusal::Refusal;
use crate::connection_phase as connection;

const TARGET: &str = "the request's target has a control character, a backslash or a fragment";

/// Checks a head before any other stage reads it.
///
/// # Errors
/// 400 or 501. The connection closes, because it is unclear where its next request begins.
pub(super) fn framing(session: &mut Session<'_>) -> Result<(), Refusal> {
    if session.http1().is_some() {
        // Its head has the strict form, of which all of this is known.
        return Ok(());
    }
    if let Some(raw) = session.raw_head() {
        http1(session, &raw)?;
    }
    let head = session.req_header();
    let mut lengths = head.headers.get_all(header::CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next()
        && (lengths.next().is_some() || strict_head::length(length.as_bytes()).is_none())
    {
        return Err(Refusal::Head { what: "Content-Length must be one number, in digits" });
    }
    let mut hosts = head.headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if head.version == Version::HTTP_11 => return Err(Refusal::NoHost),
        (Some(host), None) if strict_head::is_host(host.as_bytes()) => {}
        (None, _) => {}
        (Some(_), _) => return Err(Refusal::Head { what: "the Host header must have one host, optionally with a port" }),
    }
    if !strict_head::is_target(head.raw_path()) {
        return Err(Refusal::Head { what: TARGET });
    }
    Ok(())
}

fn http1(session: &Session<'_>, raw: &[u8]) -> Result<(), Refusal> {
    if memchr_iter(b'\n', raw).any(|at| at == 0 || raw[at - 1] != b'\r') {
        return Err(Refusal::Head { what: "the head's lines must end with CR LF" });
    }
    // The parsed target has none any more.
    let line = memchr(b'\n', raw).map_or(raw, |end| &raw[..end]);
    if memchr(b'#', line).is_some() {
        return Err(Refusal::Head { what: TARGET });
    }
    let head = session.req_header();
    let mut codings = head.headers.get_all(header::TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    // Pingora drops Content-Length if both headers are present; only the raw head still has it.
    if memmem::find(&raw.to_ascii_lowercase(), b"\ncontent-length").is_some() {
        return Err(Refusal::AmbiguousLength);
    }
    if codings.next().is_some() || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(Refusal::TransferCoding);
    }
    if connection::body_is_chunked() {
        return Err(Refusal::Head {
            what: "the lines of a chunked body must end with CR LF, and must not be sent before the previous answer",
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said of a head with these lines.
    async fn framed(line: &str, fields: &str) -> Result<(), Refusal> {
        let (mut session, _caller) = crate::proxy::fixtures::session(format!("{line}\r\n{fields}\r\n")).await;
        framing(&mut session)
    }

    const POST: &str = "POST /v1/chat/completions HTTP/1.1";

    #[tokio::test]
    async fn a_head_that_can_be_read_in_one_way_passes() {
        for (line, fields) in [
            (POST, "host: a\r\ncontent-length: 0\r\n"),
            (POST, "host: a:80\r\ntransfer-encoding: Chunked\r\n"),
            ("GET /v1/models HTTP/1.0", ""),
            ("GET /v1/models?a=%20b HTTP/1.1", "host: a\r\n"),
        ] {
            assert_eq!(framed(line, fields).await, Ok(()), "{line} {fields}");
        }
    }

    #[tokio::test]
    async fn a_head_that_can_be_read_in_two_ways_is_refused_and_ends_its_connection() {
        for (line, fields, status) in [
            (POST, "host: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n", 400),
            (POST, "host: a\r\nContent-Length: 1\r\ntransfer-encoding: chunked\r\n", 400),
            (POST, "host: a\r\ncontent-length: 01\r\n", 400),
            (POST, "content-length: 0\r\n", 400),
            (POST, "host: a/b\r\ncontent-length: 0\r\n", 400),
            (POST, "host: a\ncontent-length: 0\r\n", 400),
            (POST, "host: a\r\ntransfer-encoding: gzip, chunked\r\n", 501),
            (POST, "host: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n", 501),
            ("GET /v1/models%00 HTTP/1.1", "host: a\r\n", 400),
            ("GET /v1\\models HTTP/1.1", "host: a\r\n", 400),
            ("GET /v1/models#a HTTP/1.1", "host: a\r\n", 400),
            ("GET /v1/models?a=b# HTTP/1.1", "host: a\r\n", 400),
        ] {
            let refusal = framed(line, fields).await.expect_err(fields);
            assert_eq!((refusal.shape().status.as_u16(), refusal.closes()), (status, true), "{line} {fields}: {refusal}");
        }
        assert_eq!(framed(POST, "host: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n").await, Err(Refusal::AmbiguousLength));
        assert_eq!(framed(POST, "content-length: 0\r\n").await, Err(Refusal::NoHost));
        assert_eq!(framed(POST, "host: a\r\ntransfer-encoding: gzip, chunked\r\n").await, Err(Refusal::TransferCoding));
    }
}
