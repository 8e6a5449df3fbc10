//! Whether the new process answers what limits admit: while it doesn't, the old one decides by itself.

use std::time::Duration;

/// An answer that comes within this time is quick enough to let requests wait for answers again.
const QUICK: Duration = Duration::from_millis(500);

/// Whether the new process answers.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum Silence {
    /// It does.
    #[default]
    None,
    /// It hasn't in time.
    Silent,
    /// Whether it does again is asked by the question of this number, since this time on the monotonic clock.
    Asked { number: u64, since: Duration },
    /// It does again.
    Over,
}

impl Silence {
    /// The question of this number is answered.
    pub(super) fn answered(&mut self, number: u64, now: Duration) {
        if let Silence::Asked { number: asked, since } = *self
            && asked == number
        {
            *self = if now.saturating_sub(since) <= QUICK { Silence::Over } else { Silence::Silent };
        }
    }
}
