//! The admin listener: metrics, health, the status page and its API.

mod access;
mod actor;
mod acts;
mod answer;
mod api;
mod audit;
mod body;
mod changes;
mod document;
mod events;
mod fresh;
mod key_acts;
mod keys;
mod limits;
mod me;
mod page;
mod parameter;
mod places;
mod refusal;
mod refused;
mod rooms;
mod sign_in;
mod state;
mod status;
mod surface;
mod today;

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use pingora::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use answer::{AdminReply, problem};
use rooms::{Kind as Whose, Waiting};
pub(super) use state::{Admin, Control, UpgradeRequest};
use surface::Surface;

use super::head_guard::{Accepted, HeadGuard};
use crate::connection_phase::Phase;
use crate::under_way::UnderWay;

/// Timeout of a write, for clients that don't read.
const WRITE: Duration = Duration::from_secs(10);

/// Serves the admin listener and, if there is one, the listener for people, for ever.
pub(super) async fn serve(listener: TcpListener, portal: Option<TcpListener>, admin: Admin, shutdown: watch::Receiver<bool>) {
    let admin = Arc::new(admin);
    let people = async {
        if let Some(portal) = portal {
            accept(portal, &admin, Surface::People, &shutdown).await;
        }
    };
    tokio::join!(accept(listener, &admin, Surface::Whole, &shutdown), people);
}

async fn accept(listener: TcpListener, admin: &Arc<Admin>, surface: Surface, shutdown: &watch::Receiver<bool>) {
    loop {
        let Ok((tcp, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (admin, shutdown) = (Arc::clone(admin), shutdown.clone());
        let place = admin.rooms(surface).wait();
        tokio::spawn(async move { admin.connection(tcp, surface, place, shutdown).await });
    }
}

impl Admin {
    /// Serves a connection to its end. The guard sets deadlines for heads and idle connections.
    async fn connection(&self, tcp: TcpStream, surface: Surface, mut place: Waiting, shutdown: watch::Receiver<bool>) {
        let (clock, metrics) = (&self.gateway.clock, &self.gateway.metrics);
        let server = || {
            let server = &self.gateway.runtime.load().config.server;
            (server.header_timeout, server.keepalive)
        };
        let (head, _) = server();
        let phase = Phase::new(clock.now() + head);
        let socket = tokio::select! {
            socket = self.secured(tcp, surface, head) => socket,
            () = place.must_go() => return,
        };
        let Some(socket) = socket else { return };
        let accepted = Accepted { socket, certificate: None, read: Vec::new() };
        let guard = HeadGuard::new(accepted, Arc::clone(&phase), clock.clone(), head, Arc::clone(metrics), false);
        let mut session = ServerSession::new_http1(Box::new(guard));
        loop {
            // No timer of Pingora's: the guard has its own.
            session.set_keepalive(Some(0));
            let read = tokio::select! {
                read = session.read_request() => read,
                () = place.must_go() => return,
            };
            if !matches!(read, Ok(true)) {
                return;
            }
            phase.request_begins();
            drop(place);
            session.set_write_timeout(Some(WRITE));
            if *shutdown.borrow() || self.gateway.is_closing() || self.gateway.has_handed_over() {
                session.set_keepalive(None);
            }
            let Some(stream) = self.serve(session, surface).await else { return };
            place = self.rooms(surface).wait();
            phase.request_ends(clock.now() + server().1);
            session = ServerSession::new_http1(stream);
        }
    }

    /// Answers a request. Returns the connection, if it stays open.
    async fn serve(&self, mut session: ServerSession, surface: Surface) -> Option<Stream> {
        let busy = UnderWay::new(&self.busy);
        let room = self.rooms(surface).enter(self.kind(&session));
        let reply = match &room {
            Some(_) => self.answer(&mut session, surface).await,
            None => problem(StatusCode::SERVICE_UNAVAILABLE, "too many requests at once; try again").into(),
        };
        let answer = match reply {
            AdminReply::Whole(answer) => answer,
            AdminReply::Events(actor) => {
                // Pages have a bound of their own.
                drop((busy, room));
                events::send(self, session, &actor).await;
                return None;
            }
        };
        if self.gateway.is_frozen() {
            // The next request must reach the process that takes over.
            session.set_keepalive(None);
        }
        let (head, body) = answer.into_parts();
        session.write_response_header(Box::new(head.into())).await.ok()?;
        session.write_response_body(body.into(), true).await.ok()?;
        let settings = HttpPersistentSettings::for_session(&session);
        let stream = session.finish().await.ok()??;
        Some(ReusedHttpStream::from_reusable_stream(stream, settings).consume().0)
    }

    /// In which room a request is answered.
    fn kind(&self, session: &ServerSession) -> Whose {
        let refused = || self.actor(session).is_err();
        match session.req_header().uri.path() {
            "/healthz" | "/readyz" => Whose::Probe,
            "/" | surface::PAGE => Whose::Stranger,
            path if surface::is_open(path) => Whose::Stranger,
            _ if refused() => Whose::Stranger,
            "/metrics" => Whose::Probe,
            path if surface::is_own_api(path) => Whose::Member,
            _ => Whose::Operator,
        }
    }
}
