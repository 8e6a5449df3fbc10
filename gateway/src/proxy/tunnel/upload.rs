//! Uploads too large to hold: what was read before the model was known goes first, the rest as it comes.

use bytes::Bytes;
use memchr::memmem;
use pingora::http::RequestHeader;
use pingora::proxy::Session;
use pingora::{Error, ErrorType};

use crate::proxy::body::too_slow;
use crate::proxy::ctx::{Inquiry, RequestCtx};
use crate::proxy::refusal::Refusal;
use crate::proxy::{Gateway, headers};

/// The length of an upload after the model's name was replaced or put in, if the caller told one.
pub(super) fn spliced_length(caller: &RequestHeader, inquiry: &Inquiry, deployment: &str) -> Option<usize> {
    let length = headers::content_length(&caller.headers)?;
    Some(match &inquiry.fields.model_range {
        _ if inquiry.object.is_some() => length,
        Some(range) => length - range.len() + deployment.len(),
        None => length + headers::model_part(caller, deployment).len(),
    })
}

/// `request_body_filter`: what was read before the model was known goes first.
///
/// # Errors
/// If the caller sends too slowly, or names a second model behind the one that was checked.
pub(in crate::proxy) fn body(gateway: &Gateway, session: &Session, body: &mut Option<Bytes>, ctx: &mut RequestCtx) -> pingora::Result<()> {
    let (Some(inquiry), Some(tunnel)) = (&ctx.inquiry, &mut ctx.tunnel) else { return Ok(()) };
    let (Some(upload), Some(attempt), Some(progress)) = (&tunnel.upload, &tunnel.attempt, &tunnel.progress) else { return Ok(()) };
    if let Some(piece) = body.as_ref() {
        ctx.bytes_in += piece.len();
        let now = gateway.clock.now();
        let slow = too_slow(ctx.bytes_in, now.since(ctx.arrived), ctx.runtime.config.server.min_body_rate);
        let refusal = match () {
            () if slow || now >= progress.deadline => Some(Refusal::BodyTimeout),
            () if inquiry.object.is_none() && names_a_model(&mut tunnel.seen, piece) => {
                Some(Refusal::Form { what: "put the form's one 'model' field before its files" })
            }
            () => None,
        };
        if let Some(refusal) = refusal {
            tunnel.refusal = Some(refusal);
            return Error::e_explain(ErrorType::InvalidHTTPHeader, "the upload was refused").map_err(|error| error.into_down());
        }
    }
    if !std::mem::take(&mut tunnel.prefix_due) {
        return Ok(());
    }
    let deployment = &inquiry.model.route.members()[attempt.member].target.id.deployment;
    let mut pieces = match &inquiry.fields.model_range {
        Some(range) if inquiry.fields.model.as_deref() != Some(&**deployment) => upload.spliced(range.clone(), deployment.as_bytes()),
        Some(_) => upload.verbatim(),
        None if inquiry.object.is_some() => upload.verbatim(),
        None => upload.spliced(0..0, headers::model_part(session.req_header(), deployment).as_bytes()),
    };
    pieces.extend(body.take());
    *body = Some(pieces.concat().into());
    Ok(())
}

/// Whether a further `model` field begins in `piece`, or on its border with the one before. `seen`
/// keeps the end of what came before.
fn names_a_model(seen: &mut Vec<u8>, piece: &[u8]) -> bool {
    // With what stands before the parameter: `filename="model"` is none.
    const FIELDS: [&[u8]; 6] = [b" name=\"model\"", b";name=\"model\"", b"	name=\"model\"", b" name=model", b";name=model", b"	name=model"];
    const LONGEST: usize = FIELDS[0].len();
    let border = [seen.as_slice(), &piece[..piece.len().min(LONGEST)]].concat();
    let found = FIELDS.iter().any(|field| memmem::find(piece, field).is_some() || memmem::find(&border, field).is_some());
    seen.extend_from_slice(&piece[piece.len().saturating_sub(LONGEST)..]);
    seen.drain(..seen.len().saturating_sub(LONGEST - 1));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_model_is_seen_on_any_border() {
        let text = b"--XX\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nb\r\n";
        for step in 1..text.len() {
            let mut seen = Vec::new();
            assert!(text.chunks(step).any(|piece| names_a_model(&mut seen, piece)), "pieces of {step}");
        }
        let mut seen = Vec::new();
        assert!(!b"name=\"file\"; filename=\"model\"".chunks(3).any(|piece| names_a_model(&mut seen, piece)));
    }
}
