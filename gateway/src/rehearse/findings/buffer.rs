//! Memory for request bodies that a few large ones use up.

use super::view::View;
use crate::rehearse::finding::{Finding, Severity};

/// So many of the largest bodies should fit.
const BODIES: usize = 4;

/// `max_buffered` against `max_body`.
pub(super) fn find(view: &View<'_>) -> Vec<Finding> {
    let server = &view.config.server;
    let fit = server.max_buffered / server.max_body.max(1);
    if fit >= BODIES {
        return Vec::new();
    }
    let mib = |bytes: usize| bytes >> 20;
    let text = format!(
        "{fit} bodies of 'max_body' ({} MiB) use up 'max_buffered' ({} MiB): meanwhile new requests get 503.",
        mib(server.max_body),
        mib(server.max_buffered)
    );
    let key = view.written(&["server.max_body".to_owned(), "server.max_buffered".to_owned()]).to_owned();
    let remedy = "Make 'max_buffered' many times 'max_body', or 'max_body' smaller.";
    vec![view.finding("bodies-fill-buffer", Severity::Warning, &key, text, remedy)]
}
