//! Uploads too large to hold: the part that was read before the model was known is sent first, the rest as it arrives.

use bytes::Bytes;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};
use spillway_plugins::multipart::{FormError, FormReader};

use crate::gateway::Gateway;
use crate::proxy::body::too_slow;
use crate::proxy::books::Tunnelled;
use crate::proxy::headers;
use crate::proxy::refusal::Refusal;
use crate::request::ModelRequest;

/// The length of an upload after the model's name was replaced or inserted, if the caller gave one.
pub(super) fn spliced_length(caller: &RequestHeader, model_request: &ModelRequest, deployment: &str) -> Option<usize> {
    let length = headers::content_length(&caller.headers)?;
    Some(match &model_request.fields.model_range {
        _ if model_request.object.is_some() => length,
        Some(range) => length - range.len() + deployment.len(),
        None => length + headers::model_part(caller, deployment).len(),
    })
}

/// `request_body_filter`: sends the part first that was read before the model was known.
///
/// # Errors
/// If the caller sends too slowly, or its form turns out to be different, for example if it names a second model after
/// the one that was checked.
pub(super) fn body(
    gateway: &Gateway,
    session: &Session,
    body: &mut Option<Bytes>,
    end: bool,
    tunnelled: &mut Tunnelled<'_>,
) -> pingora::Result<()> {
    // An empty last piece would be written as a chunk, that is, as a second end. The next answer on that connection
    // would be taken for the answer to it.
    if end && body.as_ref().is_some_and(Bytes::is_empty) {
        *body = None;
    }
    let Tunnelled { model_request, tunnel, books, .. } = tunnelled;
    if tunnel.ended.is_some() {
        return Error::e_explain(ErrorType::ConnectionClosed, "the socket has ended").map_err(|error| error.into_down());
    }
    let (Some(upload), Some(attempt), Some(retry_state)) = (&tunnel.upload, &tunnel.attempt, &tunnel.retry_state) else { return Ok(()) };
    if body.is_some() || end {
        let piece = body.as_deref().unwrap_or_default();
        books.body.bytes += piece.len();
        let now = gateway.clock.now();
        let slow = too_slow(books.body.bytes, now.since(books.facts.arrived), books.facts.runtime.config.server.min_body_rate);
        let refusal = match &mut tunnel.form {
            _ if slow || now >= retry_state.deadline => Some(Refusal::BodyTimeout),
            Some(form) => read_on(form, piece, end).map(|what| Refusal::Form { what }),
            None => None,
        };
        if let Some(refusal) = refusal {
            tunnel.refusal = Some(refusal);
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "the upload was refused").map_err(|error| error.into_down());
        }
        if let Some(form) = &tunnel.form {
            // It is booked with the values at its end.
            model_request.fields.choices = form.fields().choices;
        }
    }
    if !std::mem::take(&mut tunnel.prefix_due) {
        return Ok(());
    }
    let deployment = &model_request.model.route.members()[attempt.member].target.id.deployment;
    let mut pieces = match &model_request.fields.model_range {
        Some(range) if model_request.fields.model.as_deref() != Some(&**deployment) => upload.spliced(range.clone(), deployment.as_bytes()),
        Some(_) => upload.verbatim(),
        None if model_request.object.is_some() => upload.verbatim(),
        None => upload.spliced(0..0, headers::model_part(session.req_header(), deployment).as_bytes()),
    };
    pieces.extend(body.take());
    *body = Some(pieces.concat().into());
    Ok(())
}

/// Reads on in an upload's form. Returns what is wrong with it, if anything is.
fn read_on(form: &mut FormReader, piece: &[u8], end: bool) -> Option<&'static str> {
    let knew = form.names_a_model();
    match form.push(piece) {
        Err(FormError(what)) => Some(what),
        Ok(()) if form.names_a_model() != knew => Some("send exactly one 'model' field in the form, before its files"),
        Ok(()) if end && !form.fields().complete => Some("the form has no closing boundary"),
        Ok(()) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_in_the_rest_is_seen_on_any_border() {
        let text = b"x\r\n--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nb\r\n--XX--\r\n";
        for begin in ["", "--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\na\r\n"] {
            let begin = format!("{begin}--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"model\"\r\n\r\n");
            for step in 1..text.len() {
                let mut form = FormReader::new("XX");
                form.push(begin.as_bytes()).unwrap();
                assert!(text.chunks(step).any(|piece| read_on(&mut form, piece, false).is_some()), "pieces of {step}");
            }
        }
    }

    #[test]
    fn the_rest_of_a_good_form_passes() {
        let mut form = FormReader::new("XX");
        form.push(b"--XX\r\nContent-Disposition: form-data; name=\"file\"; filename=\"model\"\r\n\r\n").unwrap();
        assert_eq!(read_on(&mut form, b"name=\"model\"\r\n", false), None);
        assert!(read_on(&mut form, b"", true).is_some(), "its end is missing");
        assert_eq!(read_on(&mut form, b"\r\n--XX--\r\n", true), None);
    }
}
