//! One event, and what becomes of it.

use std::borrow::Cow;

#[cfg(doc)]
use crate::excerpt;

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It is passed on.
    Pass,
    /// It is taken out. One that was too long to be kept has passed already.
    Drop,
}

/// One event: the bytes of its `data` and `event` fields.
#[derive(Debug, PartialEq, Eq)]
pub struct Event<'a> {
    /// The `event` field's value, empty if there is none.
    pub name: &'a [u8],
    /// The `data` field's value; several lines are joined with LF. Of an event that was too long to be kept, what
    /// [`excerpt::event`] wants of it.
    pub data: Cow<'a, [u8]>,
    /// How many bytes of what it says are not in `data`; `None` if all of it is there.
    pub cut: Option<u64>,
}
