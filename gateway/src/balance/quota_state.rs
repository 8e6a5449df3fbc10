//! What is known of a quota pool, and how 429s and answers change it.
//!
//! A 429 doesn't say whether it is about the quota that the config says the members share, or about a lower limit of
//! its deployment. The config is believed, unless the members' own headers contradict it: then a trial finds out
//! whether the other members still take requests. See decision 38.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Tick;

/// A member that reports a larger share of its limits as left contradicts a 429 of another member.
const ROOM: f64 = 0.1;
/// How long such a report counts.
const FRESH: Duration = Duration::from_secs(5);
/// Answers of the other members in a trial that show that they don't share the quota.
const ENOUGH: u32 = 20;
/// How long it counts that they don't share it.
const SEPARATE: Duration = Duration::from_secs(600);
/// How long it counts that they share it. That is shorter: if it is wrong, members with room are closed; if it is
/// right, the next trial costs one attempt.
const SHARED: Duration = Duration::from_secs(120);

/// A number that stands for a member: a hash of its target's name.
pub type MemberId = u64;

/// What a trial showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// The members share a quota, as the config says: a 429 of one closes all.
    Shared,
    /// They have limits of their own: a 429 of one closes only that one.
    Separate,
}

/// A 429 about a quota.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    /// The member that answered.
    pub(super) member: MemberId,
    /// A number that stands for the consumer; 0 if callers are not told apart.
    pub(super) by: u64,
    /// Until when it closes what it is about.
    pub(super) until: Tick,
}

/// Only the refused member is closed, to see whether the others take requests.
#[derive(Debug, Clone, Copy)]
struct Trial {
    /// The refusal that began it. It ends with its time.
    first: Refusal,
    /// When it began.
    began: Tick,
    /// Attempts that began in it, and that other members served.
    served: u32,
}

/// What is known of a quota pool.
#[derive(Debug, Default)]
pub(super) struct State {
    /// Closed for all until then.
    pub(super) shared: Tick,
    /// Closed for one consumer until then: a second one's 429 closes it for all.
    pub(super) own: Option<(u64, Tick)>,
    /// The latest report of what is left: whose, whether it has room, and when.
    report: Option<(MemberId, bool, Tick)>,
    trial: Option<Trial>,
    learned: Option<(Sharing, Tick)>,
    /// The only consumer that ever asked, and whether there were several.
    pub(super) askers: (Option<u64>, bool),
}

impl State {
    /// Until when it is closed for this consumer.
    pub(super) fn closed_until(&self, by: u64) -> Tick {
        let own = self.own.filter(|(who, _)| *who == by).map_or(Tick(0), |(_, until)| until);
        self.shared.max(own)
    }

    /// Until when it is closed for all, or for the only consumer if there is only one.
    pub(super) fn shown_until(&self) -> Tick {
        match self.askers {
            (Some(only), false) => self.closed_until(only),
            _ => self.shared,
        }
    }

    /// From when on it is open to all.
    pub(super) fn open_from(&self) -> Tick {
        self.own.map_or(self.shared, |(_, until)| self.shared.max(until))
    }

    pub(super) fn note_asker(&mut self, by: u64) {
        match self.askers.0 {
            None => self.askers.0 = Some(by),
            Some(only) => self.askers.1 |= only != by,
        }
    }

    pub(super) fn reset(&mut self) {
        *self = State { askers: self.askers, ..State::default() };
    }

    /// What was learned, and until when that counts.
    pub(super) fn learned(&self, now: Tick) -> Option<(Sharing, Tick)> {
        self.learned.filter(|(_, until)| *until > now)
    }

    pub(super) fn learn(&mut self, sharing: Sharing, until: Tick) {
        self.learned = Some((sharing, until));
    }

    /// A member served an attempt that began at `began`; `left` is the share of its limits that is left.
    pub(super) fn served(&mut self, member: MemberId, left: Option<f64>, began: Tick, now: Tick) {
        self.end_trial(now);
        if let Some(left) = left {
            self.report = Some((member, left > ROOM, now));
        }
        if let Some(trial) = &mut self.trial
            && trial.first.member != member
            && began >= trial.began
        {
            trial.served += 1;
        }
    }

    /// A member answered with a 429 about its quota.
    pub(super) fn refused(&mut self, refusal: Refusal, now: Tick) {
        self.end_trial(now);
        match (self.learned(now).map(|(sharing, _)| sharing), self.trial) {
            (Some(Sharing::Shared), _) => self.close(refusal, now),
            // The member of the trial says nothing new.
            (_, Some(trial)) if trial.first.member == refusal.member => {}
            (known, Some(trial)) => {
                self.trial = None;
                if trial.served >= ENOUGH {
                    self.learn(Sharing::Separate, now + SEPARATE);
                } else if known.is_none() {
                    self.learn(Sharing::Shared, now + SHARED);
                    self.close(trial.first, now);
                    self.close(refusal, now);
                }
            }
            (None, None) if !self.others_have_room(refusal.member, now) || self.closed_until(refusal.by) > now => {
                self.close(refusal, now);
            }
            // What is known is seen again, or forgotten in time.
            (Some(Sharing::Separate) | None, None) => self.trial = Some(Trial { first: refusal, began: now, served: 0 }),
        }
    }

    /// Ends a trial whose time is over: no second member was refused. That shows something only if enough was served.
    fn end_trial(&mut self, now: Tick) {
        if let Some(trial) = self.trial.take_if(|trial| trial.first.until <= now)
            && trial.served >= ENOUGH
        {
            self.learn(Sharing::Separate, now + SEPARATE);
        }
    }

    /// Whether the latest report is another member's, and says that it has room. An older one would say nothing: if they
    /// share a quota, it may have been used up since.
    fn others_have_room(&self, member: MemberId, now: Tick) -> bool {
        self.report.is_some_and(|(other, room, at)| other != member && room && at + FRESH >= now)
    }

    /// One consumer's 429 closes it for that consumer, and for all once a second consumer gets one in its time.
    fn close(&mut self, refusal: Refusal, now: Tick) {
        let Refusal { by, until, .. } = refusal;
        match self.own.filter(|(_, until)| *until > now) {
            _ if by == 0 => self.shared = self.shared.max(until),
            Some((other, _)) if other != by => self.shared = self.shared.max(until),
            before => self.own = Some((by, before.map_or(until, |(_, known)| known.max(until)))),
        }
    }
}
