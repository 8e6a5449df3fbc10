//! What outlives a config: sessions, the key of logins under way, and what keeps the issuer from being flooded.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use ring::error::Unspecified;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use spillway_plugins::auth::{Digest, digest};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::SignInError;
use super::login::SealKey;
use super::pace::Pace;
use super::sessions::{SentSignIn, SessionChanges, Sessions};
use crate::clock::Tick;

/// Exchanges with the issuer at the same time.
const AT_ONCE: usize = 8;
/// Logins that are remembered as finished. Each has cost an exchange, whose pace is bounded: these are more than there
/// can be within a login's lifetime. As many logout tokens are remembered, which only the issuer can make.
const FINISHED: usize = 4096;

/// What outlives a config.
#[derive(Debug)]
pub struct SignInState {
    /// Who is signed in.
    pub sessions: Sessions,
    rng: SystemRandom,
    key: ArcSwap<SealKey>,
    finished: Mutex<Once>,
    logouts: Mutex<Once>,
    exchanges: Semaphore,
    pace: Mutex<Pace>,
}

/// Digests of what happens once: the `state` of logins that are finished, and the `jti` of logout tokens that were used.
#[derive(Debug, Default)]
struct Once {
    known: HashSet<Digest>,
    order: VecDeque<Digest>,
}

impl Once {
    /// Whether it is new.
    fn insert(&mut self, one: Digest) -> bool {
        if !self.known.insert(one) {
            return false;
        }
        self.order.push_back(one);
        if self.order.len() > FINISHED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }

    /// All of them, the oldest first.
    fn texts(&self) -> Vec<String> {
        self.order.iter().map(Digest::to_string).collect()
    }

    /// Those that are not among `sent`, which then has them.
    fn unsent(&self, sent: &mut HashSet<Digest>) -> Vec<String> {
        self.order.iter().filter(|one| sent.insert(**one)).map(Digest::to_string).collect()
    }

    fn know(&mut self, texts: &[String]) {
        for one in texts.iter().filter_map(|text| text.parse().ok()) {
            self.insert(one);
        }
    }
}

/// What the process that takes over gets first.
#[derive(Serialize, Deserialize)]
pub struct SignInHandover {
    /// The key of logins under way, in Base64.
    key: String,
    /// Digests of logins that are finished, in hexadecimal.
    finished: Vec<String>,
    /// Digests of logout tokens that were used, in hexadecimal.
    #[serde(default)]
    logouts: Vec<String>,
}

impl std::fmt::Debug for SignInHandover {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignInHandover")
    }
}

impl SignInState {
    /// With a new key, and without sessions.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn new() -> Result<Self, Unspecified> {
        let rng = SystemRandom::new();
        Ok(SignInState {
            sessions: Sessions::default(),
            key: ArcSwap::from_pointee(SealKey::generate(&rng)?),
            rng,
            finished: Mutex::default(),
            logouts: Mutex::default(),
            exchanges: Semaphore::new(AT_ONCE),
            pace: Mutex::default(),
        })
    }

    /// For the process that takes over.
    pub fn hand_over(&self) -> SignInHandover {
        SignInHandover { key: self.key.load().to_text(), finished: self.finished.lock().texts(), logouts: self.logouts.lock().texts() }
    }

    /// Takes over from another process: logins that began there can be finished here.
    pub fn take_over(&self, handover: &SignInHandover) {
        if let Some(key) = SealKey::from_text(&handover.key) {
            self.key.store(Arc::new(key));
        }
        self.finished.lock().know(&handover.finished);
        self.logouts.lock().know(&handover.logouts);
    }

    /// Sessions that have begun and ended, and logins that were finished, since the last call with this `sent`.
    pub fn changes(&self, sent: &mut SentSignIn, now: Tick) -> SessionChanges {
        let finished = self.finished.lock().unsent(&mut sent.finished);
        let logouts = self.logouts.lock().unsent(&mut sent.logouts);
        let mut changes = self.sessions.changes(sent, now);
        (changes.finished, changes.logouts) = (finished, logouts);
        changes
    }

    /// Takes over what another process has sent with [`SignInState::changes`].
    pub fn take_over_changes(&self, changes: SessionChanges, now: Tick) {
        self.finished.lock().know(&changes.finished);
        self.logouts.lock().know(&changes.logouts);
        self.sessions.take_over(changes, now);
    }

    pub(super) fn rng(&self) -> &dyn SecureRandom {
        &self.rng
    }

    pub(super) fn key(&self) -> Arc<SealKey> {
        self.key.load_full()
    }

    /// Whether a login was finished before.
    pub(super) fn is_finished(&self, state: &str) -> bool {
        self.finished.lock().known.contains(&digest(state.as_bytes()))
    }

    /// Notes that a login is finished, well or not.
    ///
    /// # Errors
    /// [`SignInError::Again`], if it was finished before.
    pub(super) fn finish(&self, state: &str) -> Result<(), SignInError> {
        if self.finished.lock().insert(digest(state.as_bytes())) { Ok(()) } else { Err(SignInError::Again) }
    }

    /// Notes that the logout token with this id (`jti`) is used; `false` if it was used before.
    pub(super) fn use_logout(&self, jti: &str) -> bool {
        self.logouts.lock().insert(digest(jti.as_bytes()))
    }

    /// Room for an exchange with the issuer.
    ///
    /// # Errors
    /// [`SignInError::Busy`]
    pub(super) fn exchange(&self, now: Tick) -> Result<SemaphorePermit<'_>, SignInError> {
        let permit = self.exchanges.try_acquire().map_err(|_| SignInError::Busy)?;
        if self.pace.lock().admits(now) { Ok(permit) } else { Err(SignInError::Busy) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_finished_once_here_and_where_another_process_takes_over() {
        let (old, new) = (SignInState::new().unwrap(), SignInState::new().unwrap());
        assert!(old.finish("login").is_ok() && old.finish("login").is_err() && old.finish("another").is_ok());
        assert!(old.use_logout("one") && !old.use_logout("one"));
        let text = serde_json::to_string(&old.hand_over()).unwrap();
        new.take_over(&serde_json::from_str(&text).unwrap());
        assert!(new.finish("login").is_err() && new.finish("third").is_ok());
        // What is finished after that follows.
        let mut sent = SentSignIn::default();
        old.changes(&mut sent, Tick(0));
        assert!(old.finish("late").is_ok() && old.use_logout("two"));
        let text = serde_json::to_string(&old.changes(&mut sent, Tick(0))).unwrap();
        new.take_over_changes(serde_json::from_str(&text).unwrap(), Tick(0));
        assert!(new.is_finished("late") && new.finish("late").is_err());
        assert!(!new.use_logout("one") && !new.use_logout("two") && new.use_logout("three"));
        assert!(old.changes(&mut sent, Tick(0)).is_empty());
    }

    #[test]
    fn finished_logins_fill_a_bounded_memory() {
        let state = SignInState::new().unwrap();
        assert!((0..2 * FINISHED).all(|number| state.finish(&number.to_string()).is_ok()));
        let finished = state.finished.lock();
        assert_eq!((finished.known.len(), finished.order.len()), (FINISHED, FINISHED));
    }

    #[test]
    fn a_few_exchanges_run_at_once() {
        let state = SignInState::new().unwrap();
        let now = Tick(3_600_000_000_000);
        let running: Vec<_> = (0..AT_ONCE).map(|_| state.exchange(now).unwrap()).collect();
        assert!(matches!(state.exchange(now), Err(SignInError::Busy)));
        drop(running);
        assert!(state.exchange(now).is_ok());
    }
}
