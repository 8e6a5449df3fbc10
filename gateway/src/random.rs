//! Each thread's source of randomness.

use std::cell::RefCell;

thread_local! {
    static RNG: RefCell<fastrand::Rng> = RefCell::new(fastrand::Rng::new());
}

/// Runs `use_it` with this thread's source of randomness.
pub fn with_rng<T>(use_it: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
    RNG.with(|rng| use_it(&mut rng.borrow_mut()))
}
