//! Of equal requests at the same time, one is sent; the others wait for its answer.

use std::collections::HashMap;
use std::collections::hash_map::Entry as MapEntry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use spillway_plugins::cache::{CacheKey, KeyState};
use tokio::sync::watch;

/// The state of a flight: of one request that others wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlightState {
    /// It is under way.
    InFlight,
    /// Its answer is in the cache.
    Stored,
    /// Its answer came, but must not be cached.
    NotKept,
}

/// The flights under way, each with its channel if somebody waits for it: mostly nobody does.
type Shard = Mutex<HashMap<CacheKey, Option<watch::Sender<FlightState>>, KeyState>>;

/// The flights under way.
#[derive(Debug, Clone)]
pub struct Flights(Arc<All>);

#[derive(Debug)]
struct All {
    /// Each with its lock; as many as a power of two.
    shards: Vec<Shard>,
    /// How many have ended, or are about to.
    ended: AtomicU64,
}

/// The part of a request in a flight.
#[derive(Debug)]
pub enum FlightRole {
    /// It sends the request.
    Lead(Flight),
    /// It waits. The channel closes without a state if the leader gives up.
    Follow(watch::Receiver<FlightState>),
}

/// A flight, held by its leader. Dropping it ends the flight.
#[derive(Debug)]
pub struct Flight {
    key: CacheKey,
    flights: Flights,
    ended: bool,
}

impl Flights {
    /// With at least so many locks: requests with different keys seldom wait for the same one.
    pub fn new(locks: usize) -> Self {
        Flights(Arc::new(All { shards: (0..locks.next_power_of_two()).map(|_| Mutex::default()).collect(), ended: AtomicU64::new(0) }))
    }

    fn shard(&self, key: &CacheKey) -> &Shard {
        &self.0.shards[usize::from(key.0[0]) & (self.0.shards.len() - 1)]
    }

    /// How many have ended. A flight's answer is in the cache before it is counted, and it is counted before another
    /// flight with its key can begin.
    pub fn ended(&self) -> u64 {
        self.0.ended.load(Ordering::Acquire)
    }

    /// Joins the flight for `key`, or begins it.
    pub fn board(&self, key: CacheKey) -> FlightRole {
        match self.shard(&key).lock().entry(key) {
            MapEntry::Occupied(mut flight) => {
                let state = flight.get_mut().get_or_insert_with(|| watch::Sender::new(FlightState::InFlight));
                FlightRole::Follow(state.subscribe())
            }
            MapEntry::Vacant(none) => {
                none.insert(None);
                FlightRole::Lead(Flight { key, flights: self.clone(), ended: false })
            }
        }
    }
}

impl Flight {
    /// Reports the result to the requests that wait.
    pub fn end(mut self, state: FlightState) {
        if let Some(waited) = self.remove() {
            waited.send_replace(state);
        }
    }

    /// Ends the flight. Returns its channel, if somebody waits.
    fn remove(&mut self) -> Option<watch::Sender<FlightState>> {
        self.ended = true;
        self.flights.0.ended.fetch_add(1, Ordering::Release);
        self.flights.shard(&self.key).lock().remove(&self.key).flatten()
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Another request may have begun a flight with this key since it ended.
        if !self.ended {
            self.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: CacheKey = CacheKey([7; 32]);

    #[tokio::test]
    async fn one_leads_and_the_others_follow() {
        let flights = Flights::new(4);
        let FlightRole::Lead(flight) = flights.board(KEY) else { panic!("nobody else leads") };
        let FlightRole::Follow(mut other) = flights.board(KEY) else { panic!("there is a flight") };
        assert!(matches!(flights.board(CacheKey([8; 32])), FlightRole::Lead(_)));
        flight.end(FlightState::Stored);
        assert_eq!(other.wait_for(|state| *state != FlightState::InFlight).await.map(|state| *state).ok(), Some(FlightState::Stored));
        assert!(matches!(flights.board(KEY), FlightRole::Lead(_)), "it is over");
    }

    #[tokio::test]
    async fn the_end_of_a_flight_is_counted_and_ends_no_other_one() {
        let flights = Flights::new(4);
        let FlightRole::Lead(flight) = flights.board(KEY) else { panic!("nobody else leads") };
        assert_eq!(flights.ended(), 0);
        flight.end(FlightState::NotKept);
        assert_eq!(flights.ended(), 1);
        let FlightRole::Lead(flight) = flights.board(KEY) else { panic!("it is over") };
        assert!(matches!(flights.board(KEY), FlightRole::Follow(_)), "it is still under way");
        drop(flight);
        assert_eq!(flights.ended(), 2);
    }

    #[tokio::test]
    async fn a_leader_that_gives_up_is_noticed() {
        let flights = Flights::new(4);
        let FlightRole::Lead(flight) = flights.board(KEY) else { panic!("nobody else leads") };
        let FlightRole::Follow(mut other) = flights.board(KEY) else { panic!("there is a flight") };
        drop(flight);
        assert!(other.wait_for(|state| *state != FlightState::InFlight).await.is_err());
    }
}
