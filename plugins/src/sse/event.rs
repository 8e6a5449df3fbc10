//! One event, and whether it is passed on.

use std::borrow::Cow;

#[cfg(doc)]
use crate::excerpt;

/// What happens to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is passed on.
    Pass,
    /// It is removed. One that was too long to be kept has been passed on already.
    Drop,
}

/// Reads the events of a stream, and decides their fate.
pub trait EventReader {
    /// The length of the event at the beginning of `bytes`, if it is complete there, was read, and is passed on: it needs
    /// no parsing then. `bytes` begin with an event and are not empty.
    fn known(&mut self, bytes: &[u8]) -> Option<usize> {
        let _ = bytes;
        None
    }

    /// Reads an event. `block`: its bytes in the stream with the blank line at their end, empty if it was too long to be
    /// kept.
    fn event(&mut self, event: Event<'_>, block: &[u8]) -> Fate;
}

/// A function that reads events.
pub(super) struct ByFunction<F>(pub(super) F);

impl<F: FnMut(Event<'_>) -> Fate> EventReader for ByFunction<F> {
    fn event(&mut self, event: Event<'_>, _: &[u8]) -> Fate {
        self.0(event)
    }
}

/// One event: the bytes of its `data` and `event` fields.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event` field's value, empty if there is none.
    pub name: &'a [u8],
    /// The `data` field's value; several lines are joined with LF. For an event that was too long to be kept, the
    /// excerpt that [`excerpt::event`] defines.
    pub data: Cow<'a, [u8]>,
    /// How many bytes of its texts are not in `data`; `None` if it is complete.
    pub cut: Option<u64>,
}
