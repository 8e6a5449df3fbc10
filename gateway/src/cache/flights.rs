//! Of equal requests at the same time, one is sent; the others wait for its answer.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use spillway_plugins::cache::CacheKey;
use tokio::sync::watch;

/// The state of a flight: of one request that others wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is under way.
    InFlight,
    /// Its answer is in the cache.
    Stored,
    /// Its answer came, but must not be cached.
    NotKept,
}

/// Number of locks, so that requests with different keys seldom wait for the same one.
const SHARDS: usize = 16;

type Shard = Mutex<HashMap<CacheKey, watch::Receiver<State>>>;

/// The flights under way.
#[derive(Debug, Clone, Default)]
pub struct Flights(Arc<[Shard; SHARDS]>);

/// The part of a request in a flight.
#[derive(Debug)]
pub enum Role {
    /// It sends the request.
    Lead(Flight),
    /// It waits. The channel closes without a state if the leader gives up.
    Follow(watch::Receiver<State>),
}

/// A flight, held by its leader. Dropping it ends the flight.
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

    /// Joins the flight for `key`, or begins it.
    pub fn board(&self, key: CacheKey) -> Role {
        let mut shard = self.shard(&key).lock();
        if let Some(flight) = shard.get(&key) {
            return Role::Follow(flight.clone());
        }
        let (state, receiver) = watch::channel(State::InFlight);
        shard.insert(key, receiver);
        drop(shard);
        Role::Lead(Flight { key, state, flights: self.clone() })
    }
}

impl Flight {
    /// Reports the result to the requests that wait.
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
        let Role::Lead(flight) = flights.board(KEY) else { panic!("nobody else leads") };
        let Role::Follow(mut other) = flights.board(KEY) else { panic!("there is a flight") };
        assert!(matches!(flights.board(CacheKey([8; 32])), Role::Lead(_)));
        flight.end(State::Stored);
        assert_eq!(other.wait_for(|state| *state != State::InFlight).await.map(|state| *state).ok(), Some(State::Stored));
        assert!(matches!(flights.board(KEY), Role::Lead(_)), "it is over");
    }

    #[tokio::test]
    async fn a_leader_that_gives_up_is_noticed() {
        let flights = Flights::default();
        let Role::Lead(flight) = flights.board(KEY) else { panic!("nobody else leads") };
        let Role::Follow(mut other) = flights.board(KEY) else { panic!("there is a flight") };
        drop(flight);
        assert!(other.wait_for(|state| *state != State::InFlight).await.is_err());
    }
}
