//! The slots for requests in flight at a target, and how the consumers share them.
//!
//! A request that is here as a whole ends by itself, so one consumer may have all slots while no other needs any. A
//! socket or an upload lasts as long as its caller likes: with these a consumer always leaves room for others.

use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::belief::RequestKey;
use crate::clock::Tick;
use crate::shares::leaves_room;

/// For how many seconds after its last request a consumer still counts as one that needs slots.
const WANTED: u32 = 60;

/// The slots of one target.
#[derive(Debug)]
#[repr(C)] // What every request reads comes first.
pub(super) struct Slots {
    most: AtomicU32,
    taken: AtomicU32,
    askers: Askers,
    held: Mutex<Held>,
}

/// One slot, to be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// The consumer whose share it is part of; none without a bound.
    share_of: Option<u64>,
}

/// How many slots each consumer has. Only used with a bound.
#[derive(Debug, Default)]
struct Held(SmallVec<[(u64, u32); 2]>);

/// The two consumers that asked last, and when. Every request asks each member of its tier, so this takes no lock, and
/// writes nothing if it already says so.
#[derive(Debug, Default)]
struct Askers([AtomicU64; 2]);

impl Slots {
    /// All slots free; `None` is no bound.
    pub(super) fn new(most: Option<u32>) -> Self {
        let slots = Slots { most: AtomicU32::new(0), taken: AtomicU32::new(0), askers: Askers::default(), held: Mutex::default() };
        slots.set_most(most);
        slots
    }

    /// Sets another bound. Requests above it go on.
    pub(super) fn set_most(&self, most: Option<u32>) {
        self.most.store(most.unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// How many slots are taken.
    pub(super) fn taken(&self) -> u32 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Whether all slots are taken.
    pub(super) fn is_full(&self) -> bool {
        self.taken() >= self.most.load(Ordering::Relaxed)
    }

    /// Whether this consumer may take a slot now. It counts as one that needs slots from now on.
    pub(super) fn wants(&self, key: RequestKey, now: Tick) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        if most == u32::MAX {
            return true;
        }
        self.askers.note(key.by, now);
        self.allows(key, most, now, || self.held.lock().of(key.by))
    }

    /// Whether this consumer may take a slot now.
    pub(super) fn has_one_for(&self, key: RequestKey, now: Tick) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        most == u32::MAX || self.allows(key, most, now, || self.held.lock().of(key.by))
    }

    /// Whether a consumer with so many slots may take one more of `most`.
    fn allows(&self, key: RequestKey, most: u32, now: Tick, held: impl FnOnce() -> u32) -> bool {
        let taken = self.taken();
        if taken >= most {
            return false;
        }
        let (taken, left) = (taken as usize, (most - taken - 1) as usize);
        // Nobody holds more than all that are taken.
        if leaves_room(taken + 1, left) {
            return true;
        }
        let held = held() as usize;
        // The number 0 stands for callers that are not told apart: there is no other consumer to leave room for.
        let lasts = key.is_open_ended() && key.by != 0;
        held == 0 || !(lasts || self.askers.are_others(key.by, now)) || leaves_room(held + 1, left)
    }

    /// Takes a slot, if this consumer may have one.
    pub(super) fn take(&self, key: RequestKey, now: Tick) -> Option<Slot> {
        let most = self.most.load(Ordering::Relaxed);
        if most == u32::MAX {
            self.taken.fetch_add(1, Ordering::AcqRel);
            return Some(Slot { share_of: None });
        }
        let mut held = self.held.lock();
        self.allows(key, most, now, || held.of(key.by)).then(|| {
            self.taken.fetch_add(1, Ordering::AcqRel);
            held.add(key.by);
            Slot { share_of: Some(key.by) }
        })
    }

    /// Gives a slot back.
    pub(super) fn give_back(&self, slot: Slot) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
        if let Some(by) = slot.share_of {
            self.held.lock().remove(by);
        }
    }
}

impl Held {
    fn of(&self, by: u64) -> u32 {
        self.0.iter().find(|(known, _)| *known == by).map_or(0, |(_, held)| *held)
    }

    fn add(&mut self, by: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == by) {
            Some((_, held)) => *held += 1,
            None => self.0.push((by, 1)),
        }
    }

    fn remove(&mut self, by: u64) {
        let Some(at) = self.0.iter().position(|(known, _)| *known == by) else { return };
        self.0[at].1 -= 1;
        if self.0[at].1 == 0 {
            self.0.swap_remove(at);
        }
    }
}

impl Askers {
    fn note(&self, by: u64, now: Tick) {
        let asker = asker(by, now);
        if self.0.iter().any(|known| known.load(Ordering::Relaxed) == asker) {
            return;
        }
        let last = self.0[0].swap(asker, Ordering::Relaxed);
        if who(last) != who(asker) {
            self.0[1].store(last, Ordering::Relaxed);
        }
    }

    /// Whether another consumer has asked in the last while.
    fn are_others(&self, by: u64, now: Tick) -> bool {
        let me = asker(by, now);
        let is_other = |known: u64| known != NOBODY && who(known) != who(me) && (known as u32).saturating_add(WANTED) > me as u32;
        self.0.iter().any(|known| is_other(known.load(Ordering::Relaxed)))
    }
}

/// Nobody has asked.
const NOBODY: u64 = 0;

/// A consumer, and the second in which it asked: half of the bits each. Two consumers that can't be told apart by half
/// of their number are treated as one.
fn asker(by: u64, now: Tick) -> u64 {
    let second = (now.0 / 1_000_000_000).clamp(1, u32::MAX.into());
    (by ^ (by >> 32)) << 32 | second
}

/// The consumer's half.
fn who(asker: u64) -> u32 {
    (asker >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use spillway_plugins::api::Api;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn whole(by: u64) -> RequestKey {
        RequestKey { by, ..RequestKey::default() }
    }

    fn socket(by: u64) -> RequestKey {
        RequestKey { api: Api::Realtime, ..whole(by) }
    }

    fn at(seconds: u32) -> Tick {
        Tick(0) + SECOND * seconds
    }

    fn takes_all(slots: &Slots, key: RequestKey, now: Tick) -> Vec<Slot> {
        slots.wants(key, now);
        (0..100).map_while(|_| slots.take(key, now)).collect()
    }

    #[test]
    fn sockets_of_one_consumer_leave_a_quarter() {
        let slots = Slots::new(Some(16));
        assert_eq!(takes_all(&slots, socket(1), at(1)).len(), 12);
        assert!(!slots.has_one_for(socket(1), at(1)) && slots.has_one_for(socket(2), at(1)) && slots.has_one_for(whole(2), at(1)));
        assert_eq!(takes_all(&Slots::new(Some(16)), socket(0), at(1)).len(), 16, "nobody to leave room for");
        assert_eq!(takes_all(&Slots::new(Some(1)), socket(1), at(1)).len(), 1, "its only one");
    }

    #[test]
    fn requests_may_have_all_while_nobody_else_wants_any() {
        let slots = Slots::new(Some(8));
        let mut all = takes_all(&slots, whole(1), at(1));
        assert!(all.len() == 8 && slots.is_full() && !slots.wants(whole(2), at(2)));
        slots.give_back(all.pop().unwrap());
        assert!(!slots.has_one_for(whole(1), at(3)), "lent; now another wants it");
        let other = slots.take(whole(2), at(3)).unwrap();
        slots.give_back(other);
        assert!(slots.has_one_for(whole(1), at(70)), "that was long ago");
    }

    #[test]
    fn the_last_two_that_asked_are_known_however_often_each_asks() {
        let askers = Askers::default();
        askers.note(3, at(1));
        for second in 1..100 {
            for by in [1, 2, 2, 1, 1] {
                askers.note(by, at(second));
            }
        }
        assert!(askers.are_others(1, at(99)) && askers.are_others(2, at(99)));
        assert!(askers.are_others(1, at(158)) && !askers.are_others(1, at(159)), "a minute after the other one has asked");
        assert!(!Askers::default().are_others(1, at(1)));
    }

    #[test]
    fn bounds_may_come_and_go() {
        let slots = Slots::new(None);
        let unbounded = takes_all(&slots, whole(1), at(1));
        slots.set_most(Some(50));
        assert!(unbounded.len() == 100 && !slots.has_one_for(whole(2), at(1)));
        unbounded.into_iter().for_each(|slot| slots.give_back(slot));
        let bounded = takes_all(&slots, whole(1), at(1));
        slots.set_most(None);
        bounded.iter().for_each(|slot| slots.give_back(*slot));
        slots.set_most(Some(4));
        assert_eq!((bounded.len(), slots.taken(), takes_all(&slots, socket(1), at(1)).len()), (50, 0, 3));
    }

    proptest! {
        /// However one consumer opens and closes sockets and requests, another one gets a slot as soon as the requests
        /// above the first one's share have ended.
        #[test]
        fn one_consumer_never_keeps_another_out(most in 2u32..40, steps in prop::collection::vec((0u8..3, any::<bool>()), 0..200)) {
            let slots = Slots::new(Some(most));
            let (mut held, now) = ([Vec::new(), Vec::new()], at(1));
            for (what, lasts) in steps {
                let held_of_these = &mut held[usize::from(lasts)];
                match what {
                    0 => held_of_these.pop().into_iter().for_each(|slot| slots.give_back(slot)),
                    _ => held_of_these.extend(slots.take(if lasts { socket(1) } else { whole(1) }, now)),
                }
                prop_assert_eq!(slots.taken() as usize, held[0].len() + held[1].len());
                prop_assert!(slots.taken() <= most);
                prop_assert!((held[1].len() as u32) < most, "sockets alone never have all");
            }
            slots.wants(whole(2), now);
            held[0].drain(..).for_each(|slot| slots.give_back(slot));
            prop_assert!(slots.has_one_for(whole(2), now) && slots.has_one_for(socket(2), now));
        }
    }
}
