//! One exchange with a backend: connect, send, read. Each step has a time limit and watches whether the caller is still
//! connected. What is there already is taken at once: a timer is set up only for waiting.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use pingora::http::ResponseHeader;

use crate::balance::circuit::ErrorKind;
use crate::clock::{Clock, Tick};
use crate::downstream::Session;
use crate::http1::answer_head::AnswerHead;
use crate::http1::connection::{Connection, ExchangeError};
use crate::http1::framing::Extent;
use crate::http1::idle::IdleConnections;
use crate::http1::remote::Remote;
use crate::http1::transport::ConnectError;
use crate::request::Pieces;
use crate::timer::Timer;

/// Why a step of an exchange failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Broken {
    /// The upstream's fault.
    Upstream(ErrorKind),
    /// No connection came to be, and not because the time ran out: nothing was sent, and no time is lost.
    Unreached(ErrorKind),
    /// A pooled connection was already closed before a byte of the answer came.
    Stale,
    /// The time for this step ran out.
    TimedOut,
    /// The caller has closed its connection.
    CallerLeft,
}

/// What an error while connecting means: the system's own time for it may have run out, too.
fn unconnected(kind: ErrorKind, error: &std::io::Error) -> Broken {
    if error.kind() == std::io::ErrorKind::TimedOut { Broken::Upstream(kind) } else { Broken::Unreached(kind) }
}

/// The next event while reading an answer's body.
#[derive(Debug)]
pub(super) enum BodyEvent {
    /// Bytes.
    Data(Bytes),
    /// The end.
    End,
    /// No bytes for the given time.
    Quiet,
}

/// An open exchange. Dropping it closes the connection, so that the upstream stops working.
pub(super) struct Exchange {
    /// On the heap, because an exchange is moved often.
    connection: Box<Connection>,
    reused: bool,
    /// Whether the last bytes of the body had to be waited for.
    waited: bool,
}

impl Exchange {
    fn on(connection: Connection, reused: bool) -> Self {
        Exchange { connection: Box::new(connection), reused, waited: false }
    }

    /// Gets a connection: an idle one if there is one, or a new one if `fresh`.
    ///
    /// # Errors
    /// [`Broken`]
    pub(super) async fn connect(
        remote: Arc<Remote>,
        fresh: bool,
        limit: Duration,
        clock: &Clock,
        caller: &mut Session<'_>,
    ) -> Result<Self, Broken> {
        if let Some(idle) = (!fresh).then(|| remote.idle()).flatten() {
            return Ok(Exchange::on(Connection::new(remote, idle), true));
        }
        let connected = {
            // On the heap: with TLS it is several kilobytes, which a stream need not keep.
            let connecting = Box::pin(remote.connect());
            unless_left(caller, clock.within(limit, connecting)).await?
        };
        match connected {
            Some(Ok(transport)) => Ok(Exchange::on(Connection::new(remote, transport), false)),
            Some(Err(ConnectError::Tls(error))) => Err(unconnected(ErrorKind::Tls, &error)),
            Some(Err(ConnectError::Tcp(error))) => Err(unconnected(ErrorKind::Connect, &error)),
            None => Err(Broken::Upstream(ErrorKind::Connect)),
        }
    }

    /// Whether its connection was made for it.
    pub(super) fn is_new(&self) -> bool {
        !self.reused
    }

    /// Sends a request: the bytes of its head and of its body. It ends early if the upstream answers before it has read
    /// everything. `to_head` if it is a `HEAD`.
    ///
    /// # Errors
    /// [`Broken`]
    pub(super) async fn send(
        &mut self,
        (head, to_head): (Bytes, bool),
        body: Pieces,
        limit: Duration,
        clock: &Clock,
        caller: &mut Session<'_>,
    ) -> Result<(), Broken> {
        let connection = &mut self.connection;
        connection.begin(std::iter::once(head).chain(body), to_head);
        let sending = poll_fn(|cx| connection.poll_send(cx));
        let sent = unless_left(caller, clock.within(limit, sending)).await?.ok_or(Broken::TimedOut)?;
        sent.map_err(|error| self.broken(&error))
    }

    /// Reads the head of the answer; informational heads (1xx) are skipped.
    ///
    /// # Errors
    /// [`Broken`]
    pub(super) async fn read_head(
        &mut self,
        until: Tick,
        clock: &Clock,
        timer: &mut Timer,
        caller: &mut Session<'_>,
    ) -> Result<(), Broken> {
        let connection = &mut self.connection;
        let read = until_ready(until, clock, timer, caller, |cx| connection.poll_head(cx)).await?;
        read.ok_or(Broken::TimedOut)?.map_err(|error| self.broken(&error))?;
        if self.reused && self.connection.is_answered_too_soon() {
            // To an earlier request: this one gets another connection.
            self.connection.distrust();
            return Err(Broken::Stale);
        }
        Ok(())
    }

    /// The head of the answer as a map.
    pub(super) fn head(&self) -> Option<&ResponseHeader> {
        self.fields()?.map()
    }

    /// The head of the answer as it came: for whoever needs no map.
    pub(super) fn fields(&self) -> Option<&AnswerHead> {
        self.connection.answer().head()
    }

    /// The status of the answer.
    pub(super) fn status(&self) -> Option<StatusCode> {
        self.fields().map(|fields| fields.status)
    }

    /// Whether the body ends with the connection, so that a broken answer looks like a complete one.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.connection.answer().framing().is_some_and(|framing| framing.extent == Extent::UntilClose)
    }

    /// The body's length, if the head has it.
    pub(super) fn content_length(&self) -> Option<usize> {
        usize::try_from(self.connection.answer().framing()?.length?).ok()
    }

    /// Reads the next bytes of the body. Returns `Quiet` if none came before `until`; reading can continue after that.
    ///
    /// # Errors
    /// [`Broken`]
    pub(super) async fn next(
        &mut self,
        until: Tick,
        clock: &Clock,
        timer: &mut Timer,
        caller: &mut Session<'_>,
    ) -> Result<BodyEvent, Broken> {
        let (connection, waited) = (&mut self.connection, &mut self.waited);
        *waited = false;
        let poll = |cx: &mut Context<'_>| {
            let read = connection.poll_body(cx);
            *waited |= read.is_pending();
            read
        };
        match until_ready(until, clock, timer, caller, poll).await? {
            Some(Ok(Some(bytes))) => Ok(BodyEvent::Data(bytes)),
            Some(Ok(None)) => Ok(BodyEvent::End),
            Some(Err(_)) => Err(Broken::Upstream(ErrorKind::Reset)),
            None => Ok(BodyEvent::Quiet),
        }
    }

    /// From here on, short pieces of the body that come together are one.
    pub(super) fn join_short_pieces(&mut self) {
        self.connection.join_short_pieces();
    }

    /// From here on the body comes in short pieces, over some time: see [`Connection::acknowledge_late`].
    pub(super) fn acknowledge_late(&self) {
        self.connection.acknowledge_late();
    }

    /// Whether the last bytes that were read had to be waited for.
    pub(super) fn has_waited(&self) -> bool {
        self.waited
    }

    /// Keeps the connection for another request if its answer was read to the end; otherwise closes it.
    pub(super) fn release(self, idle: &IdleConnections) {
        self.connection.release(idle);
    }

    /// Reads the rest of an answer whose caller has left, until `limit` or until `each` says that it is enough. Returns
    /// whether the answer ended.
    pub(super) async fn read_rest(&mut self, limit: Duration, mut each: impl FnMut(Bytes) -> bool) -> bool {
        let rest = async {
            while let Ok(Some(bytes)) = poll_fn(|cx| self.connection.poll_body(cx)).await {
                if each(bytes) {
                    break;
                }
            }
        };
        tokio::time::timeout(limit, rest).await.is_ok() && self.connection.answer().is_over()
    }

    /// Reads the last bytes of an answer so that its connection can be used again: those that are there at once, others in
    /// the background.
    pub(super) fn release_soon(mut self, idle: &Arc<IdleConnections>) {
        if !self.connection.may_be_kept() {
            return;
        }
        let mut left = DRAIN_BYTES;
        if self.poll_drain(&mut Context::from_waker(Waker::noop()), &mut left).is_ready() {
            return self.release(idle);
        }
        let idle = Arc::clone(idle);
        tokio::spawn(async move {
            let _ = tokio::time::timeout(DRAIN_TIME, poll_fn(|cx| self.poll_drain(cx, &mut left))).await;
            self.release(&idle);
        });
    }

    /// Reads on, at most so many bytes.
    fn poll_drain(&mut self, cx: &mut Context<'_>, left: &mut usize) -> Poll<()> {
        while let Ok(Some(bytes)) = ready!(self.connection.poll_body(cx)) {
            *left = left.saturating_sub(bytes.len());
            if *left == 0 {
                break;
            }
        }
        Poll::Ready(())
    }

    /// What an error of the connection means here.
    fn broken(&self, error: &ExchangeError) -> Broken {
        match error {
            ExchangeError::NoAnswer if self.reused => Broken::Stale,
            _ => Broken::Upstream(ErrorKind::Reset),
        }
    }
}

/// Does this before a point in time, unless the caller leaves; `None` if the time is over. Time and caller are watched
/// only while there is something to wait for.
async fn until_ready<T>(
    until: Tick,
    clock: &Clock,
    timer: &mut Timer,
    caller: &mut Session<'_>,
    mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Result<Option<T>, Broken> {
    let mut over = pin!(timer.until(until, clock));
    let mut left = pin!(caller.left());
    poll_fn(|cx| {
        if let Poll::Ready(done) = poll(cx) {
            return Poll::Ready(Ok(Some(done)));
        }
        if over.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(None));
        }
        left.as_mut().poll(cx).map(|()| Err(Broken::CallerLeft))
    })
    .await
}

/// Does this unless the caller leaves.
async fn unless_left<T>(caller: &mut Session<'_>, work: impl Future<Output = T>) -> Result<T, Broken> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        () = caller.left() => Err(Broken::CallerLeft),
    }
}

/// Most bytes that are read so that a connection can be used again.
const DRAIN_BYTES: usize = 64 * 1024;
const DRAIN_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
