//! A lock, as a trait: a model checker brings its own.

use std::ops::DerefMut;

/// Holds a value that one at a time may change.
pub trait Cell<T> {
    /// Access to the value; gives up the lock when dropped.
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
