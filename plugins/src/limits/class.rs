//! Priority classes. If there is not enough capacity, a lower class is refused first; but a class that was refused gets
//! a reserved share, so that no class starves.

use serde::{Deserialize, Serialize};

/// A class of callers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A person waits for the answer.
    Interactive,
    /// The usual.
    #[default]
    Standard,
    /// It can wait.
    Batch,
}

impl Class {
    /// All of them, the most urgent first.
    pub const ALL: [Class; 3] = [Class::Interactive, Class::Standard, Class::Batch];

    /// Its name in configs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Class::Interactive => "interactive",
            Class::Standard => "standard",
            Class::Batch => "batch",
        }
    }

    /// How many of `places` may be in use for a request of this class to get one.
    pub fn room_in(self, places: usize) -> usize {
        usize::try_from(share(places as u64, self.ceiling())).unwrap_or(places)
    }

    /// How much of a limit may be used, in percent, for a request of this class to be admitted.
    pub(super) fn ceiling(self) -> u64 {
        match self {
            Class::Interactive => 100,
            Class::Standard => 95,
            Class::Batch => 80,
        }
    }

    /// How much of a limit is reserved for this class, in percent, after a refusal.
    pub(super) fn floor(self) -> u64 {
        match self {
            Class::Interactive => 20,
            Class::Standard => 10,
            Class::Batch => 5,
        }
    }
}

/// How long a share is reserved for a class that was refused, in seconds.
const HUNGER: u64 = 60;

/// Until when a share is reserved for each class that was refused.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hunger([Option<u64>; 3]);

impl Hunger {
    /// A request of `class` was refused at `second`.
    pub(super) fn note(&mut self, class: Class, second: u64) {
        self.0[class as usize] = Some(second + HUNGER);
    }

    /// How much of `limit` is reserved for other classes than `class`. `used` is the usage of each class. At most each
    /// class's floor, however much it asked for: otherwise a large request that is refused again and again would
    /// reserve most of the limit.
    pub(super) fn kept_from(&self, class: Class, limit: u64, used: &[u64; 3], second: u64) -> u64 {
        let kept = |other: Class| {
            self.0[other as usize].filter(|until| second < *until)?;
            Some(share(limit, other.floor()).saturating_sub(used[other as usize]))
        };
        Class::ALL.into_iter().filter(|other| *other != class).filter_map(kept).sum()
    }
}

/// `percent` of `limit`, rounded up: a share is never zero.
pub(super) fn share(limit: u64, percent: u64) -> u64 {
    u64::try_from((u128::from(limit) * u128::from(percent)).div_ceil(100)).unwrap_or(u64::MAX)
}
