//! Serves a connection on which the gateway itself speaks HTTP/1.1, until it ends or Pingora must read a head.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;

use crate::clock::Tick;
use crate::downstream::{Http1Session, Next};
use crate::gateway::Gateway;
use crate::proxy::own_http1;
use crate::timer::Timer;

/// After this time without a request, a connection gives its memory back.
const REST: Duration = Duration::from_secs(1);

/// The next event on a connection.
enum Event {
    Request,
    /// A head that Pingora reads, or that didn't arrive in time.
    Other,
    Closed,
    /// Nothing came for a while.
    Quiet,
}

/// How long to wait for what.
pub(super) struct Waiting {
    header_timeout: Duration,
    /// When the connection ends, or the head must be complete.
    pub(super) deadline: Tick,
    requests_left: u32,
}

impl Waiting {
    /// For a new connection, which may carry so many requests.
    pub(super) fn new(now: Tick, header_timeout: Duration, requests: u32) -> Self {
        Waiting { header_timeout, deadline: now + header_timeout, requests_left: requests }
    }
}

/// Serves requests. Returns whether Pingora takes over the connection, with the bytes that the session still has.
pub(super) async fn serve(
    gateway: &Gateway,
    session: &mut Http1Session,
    waiting: &mut Waiting,
    mut idle_end: watch::Receiver<bool>,
) -> bool {
    loop {
        session.rest();
        let mut timer = Timer::default();
        let event = tokio::select! {
            biased;
            event = next(gateway, session, waiting, &mut timer, Tick::NEVER) => event,
            Ok(_) = idle_end.wait_for(|end| *end) => Event::Closed,
        };
        let event = match event {
            // On the heap, and only while requests come.
            Event::Request => Box::pin(busy(gateway, session, waiting)).await,
            other => other,
        };
        match event {
            Event::Quiet | Event::Request => {}
            Event::Other => return true,
            Event::Closed => {
                session.end().await;
                return false;
            }
        }
    }
}

/// Serves one request after the other, until none comes for a while.
async fn busy(gateway: &Gateway, session: &mut Http1Session, waiting: &mut Waiting) -> Event {
    let mut timer = Timer::default();
    loop {
        waiting.requests_left -= 1;
        if waiting.requests_left == 0 {
            session.close_after();
        }
        let (stays, now) = own_http1::serve(gateway, session).await;
        if !stays {
            return Event::Closed;
        }
        waiting.deadline = now + gateway.runtime.load().config.server.keepalive;
        match next(gateway, session, waiting, &mut timer, now + REST).await {
            Event::Request => {}
            other => return other,
        }
    }
}

/// Waits for the next request, until its head is overdue or nothing has come until `quiet`.
async fn next(gateway: &Gateway, session: &mut Http1Session, waiting: &mut Waiting, timer: &mut Timer, quiet: Tick) -> Event {
    let mut begun = false;
    loop {
        let at = if begun { waiting.deadline } else { waiting.deadline.min(quiet) };
        let read = poll_fn(|cx| match session.poll_next(cx, || gateway.runtime.load().config.server.max_body) {
            Poll::Ready(next) => Poll::Ready(Some(next)),
            Poll::Pending if session.has_begun() && !begun => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        });
        tokio::select! {
            biased;
            next = read => match next {
                Some(Next::Request) => return Event::Request,
                Some(Next::Other) => {
                    if !begun {
                        waiting.deadline = gateway.clock.now() + waiting.header_timeout;
                    }
                    return Event::Other;
                }
                Some(Next::Closed) => return Event::Closed,
                None => {
                    begun = true;
                    waiting.deadline = gateway.clock.now() + waiting.header_timeout;
                }
            },
            () = timer.until(at, &gateway.clock) => return match begun {
                true => Event::Other,
                false if at < waiting.deadline => Event::Quiet,
                false => Event::Closed,
            },
        }
    }
}
