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
