//! A lock, as a trait: a model checker has its own implementation.

use std::ops::DerefMut;

/// A value that only one thread at a time may change.
pub trait Cell<T> {
    /// Access to the value; dropping it releases the lock.
    type Guard<'c>: DerefMut<Target = T>
    where
        Self: 'c;

    /// Puts a value in.
    fn new(value: T) -> Self;

    /// Waits for access.
    fn lock(&self) -> Self::Guard<'_>;
}

impl<T> Cell<T> for parking_lot::Mutex<T> {
    type Guard<'c>
        = parking_lot::MutexGuard<'c, T>
    where
        T: 'c;

    fn new(value: T) -> Self {
        parking_lot::Mutex::new(value)
    }

    fn lock(&self) -> Self::Guard<'_> {
        self.lock()
    }
}
