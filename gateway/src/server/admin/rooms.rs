//! Room on the admin listener: nobody who is silent, slow or a stranger takes it from those who watch the gateway.
//!
//! What a connection wants is known only once its head is there. Until then it waits in a lobby, in which a new
//! connection always has a place: where it is full, whoever has waited longest has to go. Probes send their head at
//! once, so they are through before anybody can push them out. Then there is a room for each kind of request.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Connections of which no head is there yet.
const LOBBY: usize = 256;
/// Answers under way of each kind.
const EACH: usize = 64;

/// What a request is, as far as room goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Health and metrics, which must always be answered.
    Probe,
    /// Whoever has the token, or needs none.
    Operator,
    /// Whoever else asks: the page, and refusals.
    Stranger,
}

/// The rooms.
#[derive(Debug)]
pub(super) struct Rooms {
    lobby: Arc<Lobby>,
    answers: [Arc<Semaphore>; 3],
}

#[derive(Debug)]
struct Lobby {
    most: usize,
    /// Who waits, by the order in which they came.
    waiting: Mutex<(u64, BTreeMap<u64, oneshot::Sender<()>>)>,
}

/// A place in the lobby; given up when dropped.
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

    /// A place to wait for a head; whoever has waited longest goes where none is free.
    pub(super) fn wait(&self) -> Waiting {
        let (go, leave) = oneshot::channel();
        let mut waiting = self.lobby.waiting.lock();
        if waiting.1.len() >= self.lobby.most {
            // Dropping its end tells it.
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
    /// Ends when this one has to go.
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
