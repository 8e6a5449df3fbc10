//! The tokenizers that estimates need: loaded for the first one, shared, and given back when none was needed for a while.

use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use spillway_plugins::tokens::{Encoding, Tokenizer};
use tracing::warn;

use crate::clock::{Clock, Tick};

/// How long a tokenizer is kept that is not used.
const KEPT: Duration = Duration::from_secs(600);

/// What all gateways of this process have loaded: a rehearsal has many.
static LOADED: [Mutex<Weak<Tokenizer>>; Encoding::ALL.len()] = [const { Mutex::new(Weak::new()) }; Encoding::ALL.len()];

/// A tokenizer, and when it was needed last.
struct Held {
    encoding: Encoding,
    tokenizer: Arc<Tokenizer>,
    used: Tick,
}

/// The loaded tokenizers. Only threads that make estimates wait for its lock.
pub(crate) struct Tokenizers {
    clock: Clock,
    held: Mutex<Vec<Held>>,
}

impl Tokenizers {
    /// None is loaded yet.
    pub(crate) fn new(clock: Clock) -> Self {
        Tokenizers { clock, held: Mutex::default() }
    }

    /// A tokenizer. Loading one takes one or two seconds: call it on a thread that may wait. `None` if it can't be
    /// loaded.
    pub(crate) fn get(&self, encoding: Encoding) -> Option<Arc<Tokenizer>> {
        let now = self.clock.now();
        let mut held = self.held.lock();
        if let Some(held) = held.iter_mut().find(|held| held.encoding == encoding) {
            held.used = now;
            return Some(Arc::clone(&held.tokenizer));
        }
        let tokenizer = shared(encoding)?;
        held.push(Held { encoding, tokenizer: Arc::clone(&tokenizer), used: now });
        Some(tokenizer)
    }

    /// Gives back what was not used for ten minutes.
    pub(crate) fn give_back(&self) {
        let now = self.clock.now();
        let mut held = self.held.lock();
        held.retain(|held| now.since(held.used) < KEPT);
        if held.is_empty() {
            held.shrink_to_fit();
        }
    }

    /// How many are loaded.
    #[cfg(test)]
    pub(crate) fn loaded(&self) -> usize {
        self.held.lock().len()
    }
}

/// The tokenizer that this process has loaded already, or a new one. Whoever needs it meanwhile waits for it.
fn shared(encoding: Encoding) -> Option<Arc<Tokenizer>> {
    let mut loaded = LOADED[encoding as usize].lock();
    if let Some(tokenizer) = loaded.upgrade() {
        return Some(tokenizer);
    }
    let tokenizer = Tokenizer::load(encoding).inspect_err(|error| warn!(%error, "estimates are made by length")).ok()?;
    let tokenizer = Arc::new(tokenizer);
    *loaded = Arc::downgrade(&tokenizer);
    Some(tokenizer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokenizer_is_loaded_once_and_given_back_after_ten_minutes_without_use() {
        let clock = Clock::standing();
        let tokenizers = Tokenizers::new(clock.clone());
        let first = tokenizers.get(Encoding::O200k).unwrap();
        assert_eq!((first.count("hello world"), tokenizers.loaded()), (2, 1));
        clock.pass(KEPT - Duration::from_secs(1));
        tokenizers.give_back();
        assert!(Arc::ptr_eq(&first, &tokenizers.get(Encoding::O200k).unwrap()), "it is shared");
        clock.pass(KEPT - Duration::from_secs(1));
        tokenizers.give_back();
        assert_eq!(tokenizers.loaded(), 1, "it was used since");
        clock.pass(Duration::from_secs(1));
        tokenizers.give_back();
        assert_eq!(tokenizers.loaded(), 0);
    }

    #[test]
    fn the_gateways_of_a_process_share_a_tokenizer() {
        let [one, other] = [Clock::standing(), Clock::standing()].map(Tokenizers::new);
        let first = one.get(Encoding::O200k).unwrap();
        assert!(Arc::ptr_eq(&first, &other.get(Encoding::O200k).unwrap()));
    }
}
