//! Who goes first where room is short. A lower class is refused first; but a class that was refused has
//! a share kept free for it, so that none starves.

/// A class of callers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Somebody waits for the answer.
    Interactive,
    /// The usual.
    #[default]
    Standard,
    /// It can wait.
    Batch,
}

impl Class {
    /// Every one, from the one that goes first.
    pub const ALL: [Class; 3] = [Class::Interactive, Class::Standard, Class::Batch];

    /// Its name in configs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Class::Interactive => "interactive",
            Class::Standard => "standard",
            Class::Batch => "batch",
        }
    }

    /// How many of `places` may be taken when one of this class comes.
    pub fn room_in(self, places: usize) -> usize {
        usize::try_from(share(places as u64, self.ceiling())).unwrap_or(places)
    }

    /// How much of a limit may be used, in percent, when one of this class comes.
    pub(super) fn ceiling(self) -> u64 {
        match self {
            Class::Interactive => 100,
            Class::Standard => 95,
            Class::Batch => 80,
        }
    }

    /// How much of a limit is kept for this class, in percent, after one of it was refused.
    pub(super) fn floor(self) -> u64 {
        match self {
            Class::Interactive => 20,
            Class::Standard => 10,
            Class::Batch => 5,
        }
    }
}

/// How long a share is kept for a class that was refused, in seconds.
const HUNGER: u64 = 60;

/// Which classes were refused lately, and until when that is remembered.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Hunger([Option<u64>; 3]);

impl Hunger {
    /// One of `class` was refused at `second`.
    pub(super) fn note(&mut self, class: Class, second: u64) {
        self.0[class as usize] = Some(second + HUNGER);
    }

    /// How much of `limit` one of `class` may not use, because it is kept for others. `used` says what each
    /// class uses. It is a class's floor at most, however much was asked for: a large request that is refused again and
    /// again would keep most of the limit from everybody.
    pub(super) fn kept_from(&self, class: Class, limit: u64, used: &[u64; 3], second: u64) -> u64 {
        let kept = |other: Class| {
            self.0[other as usize].filter(|until| second < *until)?;
            Some(share(limit, other.floor()).saturating_sub(used[other as usize]))
        };
        Class::ALL.into_iter().filter(|other| *other != class).filter_map(kept).sum()
    }
}

/// `percent` of `limit`, rounded up: a share is never nothing.
pub(super) fn share(limit: u64, percent: u64) -> u64 {
    u64::try_from((u128::from(limit) * u128::from(percent)).div_ceil(100)).unwrap_or(u64::MAX)
}
