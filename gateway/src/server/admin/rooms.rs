//! Room on the admin listener: silent, slow or unauthorised clients can't use up the room of operators and probes.
//!
//! The kind of a request is known only when its head is complete. Until then its connection waits in a lobby. A new
//! connection always gets a place there: if the lobby is full, the one that has waited longest is closed. Probes send
//! their head at once, so they leave the lobby before others can displace them. After that there is a room for each
//! kind of request.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Connections that wait for a head.
const LOBBY: usize = 256;
/// Answers under way, for each kind.
const EACH: usize = 64;

/// The kind of a request, which determines its room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Health and metrics, which must always be available.
    Probe,
    /// A request with the token, or one that needs none.
    Operator,
    /// A person's request about what is theirs.
    Member,
    /// All others: the page, and refusals.
    Stranger,
}

/// The rooms.
#[derive(Debug)]
pub(super) struct Rooms {
    lobby: Arc<Lobby>,
    answers: [Arc<Semaphore>; 4],
}

#[derive(Debug)]
struct Lobby {
    most: usize,
    /// Waiting connections, in the order in which they came.
    waiting: Mutex<(u64, BTreeMap<u64, oneshot::Sender<()>>)>,
}

/// A place in the lobby, given back when dropped.
#[derive(Debug)]
pub(super) struct Waiting {
    lobby: Arc<Lobby>,
    number: u64,
    leave: oneshot::Receiver<()>,
}

impl Rooms {
    pub(super) fn new() -> Self {
        Rooms::of(LOBBY, EACH)
    }

    fn of(lobby: usize, each: usize) -> Self {
        let answers = std::array::from_fn(|_| Arc::new(Semaphore::new(each)));
        Rooms { lobby: Arc::new(Lobby { most: lobby, waiting: Mutex::default() }), answers }
    }

    /// A place to wait for a head; if none is free, the connection that has waited longest is closed.
    pub(super) fn wait(&self) -> Waiting {
        let (go, leave) = oneshot::channel();
        let mut waiting = self.lobby.waiting.lock();
        if waiting.1.len() >= self.lobby.most {
            // Dropping its sender notifies it.
            waiting.1.pop_first();
        }
        waiting.0 += 1;
        let number = waiting.0;
        waiting.1.insert(number, go);
        Waiting { lobby: Arc::clone(&self.lobby), number, leave }
    }

    /// Room for an answer, if there is any.
    pub(super) fn enter(&self, kind: Kind) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.answers[kind as usize]).try_acquire_owned().ok()
    }
}

impl Waiting {
    /// Returns when this connection must be closed.
    pub(super) async fn must_go(&mut self) {
        let _ = (&mut self.leave).await;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.lobby.waiting.lock().1.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_has_waited_longest_goes() {
        let rooms = Rooms::of(2, 1);
        let (mut first, second) = (rooms.wait(), rooms.wait());
        let third = rooms.wait();
        first.must_go().await;
        drop(first);
        assert_eq!(rooms.lobby.waiting.lock().1.len(), 2);
        drop((second, third));
        assert!(rooms.lobby.waiting.lock().1.is_empty());
    }

    #[test]
    fn no_kind_takes_the_room_of_another() {
        let rooms = Rooms::of(1, 1);
        let taken = rooms.enter(Kind::Stranger);
        assert!(taken.is_some() && rooms.enter(Kind::Stranger).is_none());
        assert!(rooms.enter(Kind::Operator).is_some() && rooms.enter(Kind::Probe).is_some());
        drop(taken);
        assert!(rooms.enter(Kind::Stranger).is_some());
    }
}
