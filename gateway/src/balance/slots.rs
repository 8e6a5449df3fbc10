//! The slots for requests in flight at a target, and how the consumers share them.
//!
//! A request that is here as a whole ends by itself, so one consumer may have all slots while no other needs any. A
//! socket or an upload lasts as long as its caller likes: with these a consumer always leaves room for others.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use smallvec::SmallVec;

use super::belief::RequestKey;
use crate::clock::Tick;
use crate::shares::leaves_room;

/// How long after its last request a consumer still counts as one that needs slots.
const WANTED: Duration = Duration::from_secs(60);

/// The slots of one target.
#[derive(Debug)]
pub(super) struct Slots {
    most: AtomicU32,
    taken: AtomicU32,
    shares: Mutex<Shares>,
}

/// One slot, to be given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    /// The consumer whose share it is part of; none without a bound.
    share_of: Option<u64>,
}

/// How the consumers share the slots. Only used with a bound.
#[derive(Debug, Default)]
struct Shares {
    /// How many slots each consumer has.
    held: SmallVec<[(u64, u32); 2]>,
    /// The two consumers that asked last, and when.
    askers: [Option<(u64, Tick)>; 2],
}

impl Slots {
    /// All slots free; `None` is no bound.
    pub(super) fn new(most: Option<u32>) -> Self {
        let slots = Slots { most: AtomicU32::new(0), taken: AtomicU32::new(0), shares: Mutex::default() };
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
        let mut shares = self.shares.lock();
        shares.note(key.by, now);
        shares.allows(key, self.taken(), most, now)
    }

    /// Whether this consumer may take a slot now.
    pub(super) fn has_one_for(&self, key: RequestKey, now: Tick) -> bool {
        let most = self.most.load(Ordering::Relaxed);
        most == u32::MAX || self.shares.lock().allows(key, self.taken(), most, now)
    }

    /// Takes a slot, if this consumer may have one.
    pub(super) fn take(&self, key: RequestKey, now: Tick) -> Option<Slot> {
        let most = self.most.load(Ordering::Relaxed);
        if most == u32::MAX {
            self.taken.fetch_add(1, Ordering::AcqRel);
            return Some(Slot { share_of: None });
        }
        let mut shares = self.shares.lock();
        shares.allows(key, self.taken(), most, now).then(|| {
            self.taken.fetch_add(1, Ordering::AcqRel);
            shares.add(key.by);
            Slot { share_of: Some(key.by) }
        })
    }

    /// Gives a slot back.
    pub(super) fn give_back(&self, slot: Slot) {
        self.taken.fetch_sub(1, Ordering::AcqRel);
        if let Some(by) = slot.share_of {
            self.shares.lock().remove(by);
        }
    }
}

impl Shares {
    fn note(&mut self, by: u64, now: Tick) {
        if self.askers[0].is_none_or(|(last, _)| last != by) {
            self.askers.swap(0, 1);
        }
        self.askers[0] = Some((by, now));
    }

    fn allows(&self, key: RequestKey, taken: u32, most: u32, now: Tick) -> bool {
        if taken >= most {
            return false;
        }
        let held = self.held.iter().find(|(by, _)| *by == key.by).map_or(0, |(_, held)| *held);
        let wanted = self.askers.iter().flatten().any(|(by, at)| *by != key.by && now < *at + WANTED);
        // The number 0 stands for callers that are not told apart: there is no other consumer to leave room for.
        let lasts = key.is_open_ended() && key.by != 0;
        held == 0 || !(wanted || lasts) || leaves_room(held as usize + 1, (most - taken - 1) as usize)
    }

    fn add(&mut self, by: u64) {
        match self.held.iter_mut().find(|(known, _)| *known == by) {
            Some((_, held)) => *held += 1,
            None => self.held.push((by, 1)),
        }
    }

    fn remove(&mut self, by: u64) {
        let Some(at) = self.held.iter().position(|(known, _)| *known == by) else { return };
        self.held[at].1 -= 1;
        if self.held[at].1 == 0 {
            self.held.swap_remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
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
