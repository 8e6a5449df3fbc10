//! Work on a body: a short body at once, a long one on another thread, so that no other request has to wait.

use std::sync::Arc;

use bytes::Bytes;

use super::refusal::Refusal;
use crate::request::BodyBuffer;
use crate::shares::{FairSlots, Owner};

/// Bodies up to this length are processed at once: that takes a few milliseconds at worst, and for most of them a change of
/// threads would take longer.
const SHORT: usize = 64 * 1024;

/// Whether bytes are processed at once.
pub(super) fn is_short(bytes: &[u8]) -> bool {
    bytes.len() <= SHORT
}

/// Limits the work on long bodies: one job per processor. The next slot is for the owner that has fewest.
pub(super) type Turns = FairSlots<Owner>;

/// Runs work of any length for an owner, on a blocking thread.
///
/// # Errors
/// If the work panics.
pub(super) async fn apart<T: Send + 'static>(
    turns: &Arc<Turns>,
    owner: Owner,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    let turn = turns.wait(owner).await;
    let done = tokio::task::spawn_blocking(move || {
        let done = work();
        // Not before: if the caller leaves, the work still runs.
        drop(turn);
        done
    });
    done.await.map_err(|_| Refusal::Internal)
}

/// Runs work on so many bytes: at once if they are few, else on a blocking thread.
///
/// # Errors
/// If the work panics.
pub(super) async fn of_length<T: Send + 'static>(
    turns: &Arc<Turns>,
    owner: Owner,
    length: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    if length <= SHORT {
        return Ok(work());
    }
    // On the heap, so that short bodies don't reserve memory for it.
    Box::pin(apart(turns, owner, work)).await
}

/// Runs work on a body that is being collected, and gives the body back.
///
/// # Errors
/// If the work panics.
pub(super) async fn on_buffer<T: Send + 'static>(
    turns: &Arc<Turns>,
    owner: impl FnOnce() -> Owner,
    mut buffer: BodyBuffer,
    work: impl FnOnce(&mut BodyBuffer) -> T + Send + 'static,
) -> Result<(BodyBuffer, T), Refusal> {
    if buffer.len() <= SHORT {
        let done = work(&mut buffer);
        return Ok((buffer, done));
    }
    // On the heap, so that short bodies don't reserve memory for it.
    Box::pin(apart(turns, owner(), move || {
        let done = work(&mut buffer);
        (buffer, done)
    }))
    .await
}

/// Runs work on bytes that are held elsewhere.
///
/// # Errors
/// If the work panics.
pub(super) async fn on_bytes<T: Send + 'static>(
    turns: &Arc<Turns>,
    owner: impl FnOnce() -> Owner,
    bytes: &Bytes,
    work: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> Result<T, Refusal> {
    if bytes.len() <= SHORT {
        return Ok(work(bytes));
    }
    let bytes = bytes.clone();
    Box::pin(apart(turns, owner(), move || work(&bytes))).await
}

#[cfg(test)]
mod tests {
    use std::thread;

    use prometheus::IntGauge;

    use super::*;
    use crate::request::BufferBudget;

    fn buffer(length: usize) -> BodyBuffer {
        let mut buffer = BodyBuffer::new(&Arc::new(BufferBudget::new(1 << 24, IntGauge::new("g", "h").unwrap())));
        buffer.push(vec![b' '; length].into(), None);
        buffer
    }

    #[tokio::test]
    async fn only_long_bodies_leave_the_thread_and_come_back() {
        let turns = crate::gateway::turns();
        for (length, leaves) in [(0, false), (SHORT, false), (SHORT + 1, true)] {
            let at = |buffer: &mut BodyBuffer| (buffer.len(), thread::current().id());
            let (back, (seen, id)) = on_buffer(&turns, || None, buffer(length), at).await.unwrap();
            assert_eq!((back.len(), seen, id != thread::current().id()), (length, length, leaves));
            let bytes = Bytes::from(vec![b' '; length]);
            let (seen, id) = on_bytes(&turns, || None, &bytes, |bytes| (bytes.len(), thread::current().id())).await.unwrap();
            assert_eq!((seen, id != thread::current().id()), (length, leaves));
        }
    }

    #[tokio::test]
    async fn the_next_turn_is_for_whoever_has_fewest() {
        let turns = FairSlots::new(2, 1);
        let (end, ended) = std::sync::mpsc::sync_channel::<()>(1);
        let busy = apart(&turns, Some("a".into()), move || ended.recv());
        let second = apart(&turns, Some("a".into()), || "a");
        let other = apart(&turns, Some("b".into()), || "b");
        let (mut busy, mut second) = (Box::pin(busy), Box::pin(second));
        // A has all the slots that it may have; B needn't wait for it.
        let first = tokio::select! {
            biased;
            _ = &mut busy => "busy",
            done = &mut second => done.unwrap(),
            done = other => done.unwrap(),
        };
        assert_eq!(first, "b");
        end.send(()).unwrap();
        assert_eq!((busy.await.unwrap(), second.await.unwrap()), (Ok(()), "a"));
    }

    #[tokio::test]
    async fn work_that_panics_is_an_error_and_gives_its_turn_back() {
        let turns = FairSlots::new(1, 1);
        assert_eq!(apart(&turns, None, || -> () { panic!("on purpose") }).await, Err(Refusal::Internal));
        assert_eq!(apart(&turns, None, || 1).await, Ok(1));
    }
}
