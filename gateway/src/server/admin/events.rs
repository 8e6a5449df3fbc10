//! The status, once a second, as server-sent events.

use std::sync::atomic::Ordering;
use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;

use super::actor::Actor;
use super::answer::PROTECTION;
use super::state::Admin;
use crate::under_way::UnderWay;

/// Time between two events.
const EVERY: Duration = Duration::from_secs(1);
/// Most pages that are kept up to date at the same time.
const AT_ONCE: usize = 64;

/// Sends events until the client leaves, may no longer see them, or this process ends.
pub(super) async fn send(admin: &Admin, mut session: ServerSession, actor: &Actor) {
    let _place = UnderWay::new(&admin.pages);
    let own = admin.pages_of.enter(actor);
    let room = admin.pages.load(Ordering::Relaxed) <= AT_ONCE && own.is_some();
    let status = if room { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let Ok(mut head) = ResponseHeader::build(status, Some(4)) else { return };
    let headers =
        [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store"), (header::TRANSFER_ENCODING, "chunked")];
    for (name, value) in headers.into_iter().chain(PROTECTION) {
        let _ = head.insert_header(name, HeaderValue::from_static(value));
    }
    session.set_keepalive(None);
    if session.write_response_header(Box::new(head)).await.is_err() || !room {
        return;
    }
    while !admin.gateway.is_closing() && admin.is_still_in(actor) {
        let event = format!("event: status\ndata: {}\n\n", admin.status("").await);
        if session.write_response_body(event.into(), false).await.is_err() {
            return;
        }
        tokio::time::sleep(EVERY).await;
    }
    let _ = session.finish().await;
}
