//! What an account of provisioned throughput tells: operators, other nodes, and the process that takes over.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::balance::ptu::saved::Saved;
use crate::balance::ptu::under_way::Load;
use crate::clock::Tick;

/// What was learned of provisioned throughput, for another process.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Learned {
    /// The twin's state.
    #[serde(flatten)]
    pub twin: Saved,
    /// The rate to which that refers, in input tokens per second.
    pub per_second: f64,
}

impl Learned {
    /// How full it is has changed by the time that another process reads it.
    #[must_use]
    pub fn without_level(self) -> Self {
        Learned { twin: self.twin.without_level(), ..self }
    }
}

/// What was decided about requests: each count by class, in the order of [`Class::ALL`](spillway_plugins::limits::Class::ALL).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Decided {
    /// There was room.
    pub fits: [u64; 3],
    /// Sent to find out whether there is room.
    pub probe: [u64; 3],
    /// Had to wait. A request that waits twice counts twice.
    pub wait: [u64; 3],
    /// Sent elsewhere, by why, in the order of [`Why::ALL`](crate::balance::ptu::steer::Why::ALL).
    pub spill: [[u64; 3]; 4],
    /// 429s: of probes, of others.
    pub refusals: [u64; 2],
    /// What the requests that it served would have cost at the next tier, in USD: those that didn't wait, those that did.
    pub saved: [[f64; 3]; 2],
}

/// What is known of a target's provisioned throughput now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct View {
    /// How full it is: 0 for empty, 1 for the line above which it answers 429. `None` until its rate is known.
    pub fill: Option<f64>,
    /// The share of its capacity that was used in the last minute, 0 to 1. `None` until its rate is known.
    pub utilisation: Option<f64>,
    /// Until a request without a guard fits; `None` if that is not foreseeable.
    pub room_in: Option<Duration>,
    /// The drain, as a share of the rate.
    pub drain: f64,
    /// Input tokens per second that it takes, as configured or learned; `None` until the first 429.
    pub per_second: Option<f64>,
    /// When it answered 429 last.
    pub refused: Option<Tick>,
    /// The configured rate is far off.
    pub is_implausible: bool,
    /// Its calls are too large for its depth, so that it can't be steered well.
    pub is_too_coarse: bool,
    /// What was decided.
    pub decided: Decided,
}

/// What this node has done since its start, for the others. All amounts are input tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tally {
    /// Booked.
    pub booked: f64,
    /// Expected to be used.
    pub expected: f64,
    /// The prompts in that.
    pub prompts: f64,
    /// Completions as long as their caps.
    pub capped: f64,
    /// Completions of a thousand tokens, for requests without a cap.
    pub uncapped: f64,
    /// Of what was booked: what has ended.
    pub ended: f64,
    /// The same of what was expected.
    pub ended_expected: f64,
    /// Of the prompts.
    pub ended_prompts: f64,
    /// Of the caps.
    pub ended_capped: f64,
    /// Of the requests without a cap.
    pub ended_uncapped: f64,
    /// What that used.
    pub used: f64,
    /// What of that a 429 had told before; may be negative.
    pub told: f64,
    /// Requests that were accepted.
    pub accepted: u64,
    /// 429s.
    pub refused: u64,
    /// The drain after the last one.
    pub drain: f64,
}

/// When there is room again by a node's last 429, and so the level is at the line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Full {
    /// How long until then; zero if that is over.
    pub left: Duration,
    /// How long ago that was; zero if it is still to come.
    pub ago: Duration,
}

impl Full {
    /// After so long it says nothing any more.
    pub(super) const TOLD_BY: Duration = Duration::from_secs(2);
}

impl Tally {
    /// A request was sent.
    pub(super) fn send(&mut self, load: Load) {
        self.booked += load.booked;
        self.expected += load.expected;
        self.prompts += load.prompt;
        self.capped += load.capped;
        self.uncapped += load.uncapped;
    }

    /// A request has ended.
    pub(super) fn end(&mut self, load: Load, used: f64, told: f64) {
        self.ended += load.booked;
        self.ended_expected += load.expected;
        self.ended_prompts += load.prompt;
        self.ended_capped += load.capped;
        self.ended_uncapped += load.uncapped;
        self.used += used;
        self.told += told;
    }

    /// What was sent.
    pub(super) fn sent(&self) -> Load {
        Load { booked: self.booked, expected: self.expected, prompt: self.prompts, capped: self.capped, uncapped: self.uncapped }
    }

    /// What of it has ended.
    pub(super) fn has_ended(&self) -> Load {
        Load {
            booked: self.ended,
            expected: self.ended_expected,
            prompt: self.ended_prompts,
            capped: self.ended_capped,
            uncapped: self.ended_uncapped,
        }
    }

    /// What was done since an earlier tally. `None` if that was another process's: nothing is ever taken off one.
    pub fn since(&self, before: &Tally) -> Option<Tally> {
        let more = |now: f64, before: f64| (now - before).max(0.0);
        (self.booked >= before.booked && self.ended >= before.ended).then(|| Tally {
            booked: self.booked - before.booked,
            expected: more(self.expected, before.expected),
            prompts: more(self.prompts, before.prompts),
            capped: more(self.capped, before.capped),
            uncapped: more(self.uncapped, before.uncapped),
            ended: self.ended - before.ended,
            ended_expected: more(self.ended_expected, before.ended_expected),
            ended_prompts: more(self.ended_prompts, before.ended_prompts),
            ended_capped: more(self.ended_capped, before.ended_capped),
            ended_uncapped: more(self.ended_uncapped, before.ended_uncapped),
            used: more(self.used, before.used),
            told: self.told - before.told,
            accepted: self.accepted.saturating_sub(before.accepted),
            refused: self.refused.saturating_sub(before.refused),
            drain: self.drain,
        })
    }
}
