//! One request under way for all that ask the same: the others wait for its answer.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use spillway_plugins::cache::CacheKey;
use tokio::sync::watch;

/// What has become of a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is under way.
    Flying,
    /// Its answer is kept.
    Landed,
    /// Its answer came, and is none to be kept.
    NotKept,
}

/// Parts, so that requests with different keys seldom meet at a lock.
const SHARDS: usize = 16;

type Shard = Mutex<HashMap<CacheKey, watch::Receiver<State>>>;

/// The flights under way.
#[derive(Debug, Clone, Default)]
pub struct Flights(Arc<[Shard; SHARDS]>);

/// Who boards a flight.
#[derive(Debug)]
pub enum Boarding {
    /// Asks.
    Lead(Flight),
    /// Waits. The channel closes without a state if the one who asks gives up.
    Follow(watch::Receiver<State>),
}

/// A flight, held by the one who asks. Dropped, it is over.
#[derive(Debug)]
pub struct Flight {
    key: CacheKey,
    state: watch::Sender<State>,
    flights: Flights,
}

impl Flights {
    fn shard(&self, key: &CacheKey) -> &Shard {
        &self.0[usize::from(key.0[0]) % SHARDS]
    }

    /// Boards the flight for `key`, or begins it.
    pub fn board(&self, key: CacheKey) -> Boarding {
        let mut shard = self.shard(&key).lock();
        if let Some(flight) = shard.get(&key) {
            return Boarding::Follow(flight.clone());
        }
        let (state, receiver) = watch::channel(State::Flying);
        shard.insert(key, receiver);
        drop(shard);
        Boarding::Lead(Flight { key, state, flights: self.clone() })
    }
}

impl Flight {
    /// Tells those who wait what became of it.
    pub fn end(self, state: State) {
        self.state.send_replace(state);
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.shard(&self.key).lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: CacheKey = CacheKey([7; 32]);

    #[tokio::test]
    async fn one_leads_and_the_others_follow() {
        let flights = Flights::default();
        let Boarding::Lead(flight) = flights.board(KEY) else { panic!("nobody else leads") };
        let Boarding::Follow(mut other) = flights.board(KEY) else { panic!("there is a flight") };
        assert!(matches!(flights.board(CacheKey([8; 32])), Boarding::Lead(_)));
        flight.end(State::Landed);
        assert_eq!(other.wait_for(|state| *state != State::Flying).await.map(|state| *state).ok(), Some(State::Landed));
        assert!(matches!(flights.board(KEY), Boarding::Lead(_)), "it is over");
    }

    #[tokio::test]
    async fn a_leader_that_gives_up_is_noticed() {
        let flights = Flights::default();
        let Boarding::Lead(flight) = flights.board(KEY) else { panic!("nobody else leads") };
        let Boarding::Follow(mut other) = flights.board(KEY) else { panic!("there is a flight") };
        drop(flight);
        assert!(other.wait_for(|state| *state != State::Flying).await.is_err());
    }
}
