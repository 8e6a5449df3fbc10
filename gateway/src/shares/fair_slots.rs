//! FairSlots for work that takes a while: a limited number, with a share for each owner.
//!
//! Work that may be stopped early is asked to stop when an owner with less needs its place ([`FairSlots::take`],
//! [`FairSlot::asked_back`]). For other work the newcomer waits, and the next free place goes to the owner that holds
//! least ([`FairSlots::wait`]).

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::{Notify, oneshot};

use super::Shares;

/// A limited number of places.
pub struct FairSlots<O: Clone + Eq + Hash> {
    most: usize,
    each: usize,
    state: Mutex<State<O>>,
    emptied: Notify,
}

struct State<O: Clone + Eq + Hash> {
    shares: Shares<O>,
    /// Each owner's places, the oldest first, and the channels to ask for them back.
    held: HashMap<O, BTreeMap<u64, oneshot::Sender<()>>>,
    /// Who waits; the owner that was served last is at the end.
    waiting: VecDeque<(O, VecDeque<oneshot::Sender<FairSlot<O>>>)>,
    /// FairSlots that are not given back yet, with those that were asked back.
    out: usize,
    numbers: u64,
}

/// A place. It is given back when dropped.
pub struct FairSlot<O: Clone + Eq + Hash> {
    places: Arc<FairSlots<O>>,
    owner: O,
    number: u64,
    asked: oneshot::Receiver<()>,
}

impl<O: Clone + Eq + Hash> fmt::Debug for FairSlots<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FairSlots({} of {})", self.state.lock().shares.total(), self.most)
    }
}

impl<O: Clone + Eq + Hash> fmt::Debug for FairSlot<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FairSlot({})", self.number)
    }
}

impl<O: Clone + Eq + Hash> FairSlots<O> {
    /// `most` places for all together, and no more than `each` for one owner.
    pub fn new(most: usize, each: usize) -> Arc<Self> {
        let state = State { shares: Shares::default(), held: HashMap::new(), waiting: VecDeque::new(), out: 0, numbers: 0 };
        Arc::new(FairSlots { most, each, state: Mutex::new(state), emptied: Notify::new() })
    }

    /// Takes a place at once. If none is free, one is asked back from the owner that holds most, if that one keeps at
    /// least as much as this owner has then.
    pub fn take(self: &Arc<Self>, owner: O) -> Option<FairSlot<O>> {
        self.take_of(owner, self.most, |_| true)
    }

    /// As [`FairSlots::take`], but this owner may use only `most` places, and only some owners `give_way` to it.
    pub fn take_of(self: &Arc<Self>, owner: O, most: usize, give_way: impl Fn(&O) -> bool) -> Option<FairSlot<O>> {
        let mut state = self.state.lock();
        if most == 0 || state.shares.held(&owner) >= self.each {
            return None;
        }
        if state.shares.total() >= most {
            let loser = state.shares.loses_to(&owner, give_way).cloned()?;
            state.ask_back(&loser);
        }
        Some(self.enter(&mut state, owner))
    }

    /// Takes a place as soon as it is this owner's turn.
    pub async fn wait(self: &Arc<Self>, owner: O) -> FairSlot<O> {
        loop {
            let turn = {
                let mut state = self.state.lock();
                // An owner that waits already, although there is room, has all that it may have.
                if state.shares.total() < self.most && state.shares.held(&owner) < self.each {
                    return self.enter(&mut state, owner);
                }
                let (sender, receiver) = oneshot::channel();
                match state.waiting.iter_mut().find(|(other, _)| *other == owner) {
                    Some((_, queue)) => queue.push_back(sender),
                    None => state.waiting.push_back((owner.clone(), VecDeque::from([sender]))),
                }
                receiver
            };
            if let Ok(place) = turn.await {
                return place;
            }
        }
    }

    /// Waits until all places are given back.
    pub async fn empty(&self) {
        loop {
            let emptied = std::pin::pin!(self.emptied.notified());
            let mut emptied = emptied;
            emptied.as_mut().enable();
            if self.state.lock().out == 0 {
                return;
            }
            emptied.await;
        }
    }

    fn enter(self: &Arc<Self>, state: &mut State<O>, owner: O) -> FairSlot<O> {
        let (ask, asked) = oneshot::channel();
        state.numbers += 1;
        state.out += 1;
        let number = state.numbers;
        state.shares.add(&owner);
        state.held.entry(owner.clone()).or_default().insert(number, ask);
        FairSlot { places: Arc::clone(self), owner, number, asked }
    }

    /// Gives free places to the waiting owners.
    fn serve(self: &Arc<Self>, mut state: MutexGuard<'_, State<O>>) {
        let mut served = Vec::new();
        while state.shares.total() < self.most
            && let Some((owner, waiter)) = state.next(self.each)
        {
            if !waiter.is_closed() {
                served.push((waiter, self.enter(&mut state, owner)));
            }
        }
        drop(state);
        for (waiter, place) in served {
            // If it has left meanwhile, the place is given back.
            drop(waiter.send(place));
        }
    }
}

impl<O: Clone + Eq + Hash> State<O> {
    /// The next waiter: of the owner that holds least.
    fn next(&mut self, each: usize) -> Option<(O, oneshot::Sender<FairSlot<O>>)> {
        let shares = &self.shares;
        let least = self.waiting.iter().enumerate().map(|(at, (owner, _))| (shares.held(owner), at));
        let (_, at) = least.filter(|(held, _)| *held < each).min()?;
        let (owner, mut queue) = self.waiting.remove(at)?;
        let waiter = queue.pop_front();
        if !queue.is_empty() {
            self.waiting.push_back((owner.clone(), queue));
        }
        waiter.map(|waiter| (owner, waiter))
    }

    fn ask_back(&mut self, owner: &O) {
        if let Some((_, ask)) = self.held.get_mut(owner).and_then(BTreeMap::pop_first) {
            let _ = ask.send(());
        }
        self.gave_back(owner);
    }

    fn gave_back(&mut self, owner: &O) {
        self.shares.remove(owner);
        if self.held.get(owner).is_some_and(BTreeMap::is_empty) {
            self.held.remove(owner);
        }
    }
}

impl<O: Clone + Eq + Hash> FairSlot<O> {
    /// Returns when an owner with less needs this place: then its work should stop.
    pub async fn asked_back(&mut self) {
        if (&mut self.asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl<O: Clone + Eq + Hash> Drop for FairSlot<O> {
    fn drop(&mut self) {
        let mut state = self.places.state.lock();
        state.out -= 1;
        if state.out == 0 {
            self.places.emptied.notify_waiters();
        }
        // A place that was asked back belongs to another owner already.
        if state.held.get_mut(&self.owner).and_then(|held| held.remove(&self.number)).is_some() {
            state.gave_back(&self.owner);
            self.places.serve(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use proptest::prelude::*;

    use super::*;

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
        match future.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    #[test]
    fn one_that_has_all_of_them_gives_way() {
        let places = FairSlots::new(4, 4);
        let mut of_a: Vec<_> = (0..4).map(|_| places.take("a").unwrap()).collect();
        assert!(places.take("a").is_none());
        let of_b: Vec<_> = (0..2).map(|_| places.take("b").unwrap()).collect();
        assert!(places.take("b").is_none(), "half is its share");
        let asked: Vec<bool> = of_a.iter_mut().map(|place| poll(pin!(place.asked_back())).is_some()).collect();
        assert_eq!(asked, [true, true, false, false], "the oldest ones");
        drop(of_a.drain(..2));
        assert!(places.take("a").is_none(), "they were given away already");
        drop(of_b);
        assert!(places.take("a").is_some());
    }

    #[test]
    fn the_next_place_is_for_whoever_has_least() {
        let places = FairSlots::new(2, 2);
        let mut of_a: Vec<_> = (0..2).map(|_| places.take("a").unwrap()).collect();
        let (mut more, mut left, mut other) = (pin!(places.wait("a")), Box::pin(places.wait("b")), pin!(places.wait("b")));
        assert!(poll(more.as_mut()).is_none() && poll(left.as_mut()).is_none() && poll(other.as_mut()).is_none());
        drop(left);
        of_a.pop();
        assert!(poll(more.as_mut()).is_none(), "it has one, and was first in vain");
        let of_b = poll(other.as_mut()).unwrap();
        drop((of_a, of_b));
        assert!(poll(more.as_mut()).is_some());
    }

    #[test]
    fn nobody_has_more_than_its_own_most() {
        let places = FairSlots::new(4, 3);
        let held: Vec<_> = (0..3).map(|_| places.take("a").unwrap()).collect();
        let mut more = pin!(places.wait("a"));
        assert!(places.take("a").is_none() && poll(more.as_mut()).is_none());
        let of_b = poll(pin!(places.wait("b")));
        assert!(of_b.is_some(), "there is one that a may not have");
        drop(held);
        assert!(poll(more.as_mut()).is_some());
    }

    #[test]
    fn the_end_is_told_when_all_are_back() {
        let places = FairSlots::new(1, 1);
        let mut first = places.take("a").unwrap();
        let mut empty = pin!(places.empty());
        assert!(poll(empty.as_mut()).is_none());
        assert!(poll(pin!(first.asked_back())).is_none());
        drop(first);
        assert!(poll(empty.as_mut()).is_some());
    }

    proptest! {
        #[test]
        fn whoever_is_below_its_share_gets_a_place(most in 1usize..12, steps in prop::collection::vec((any::<bool>(), 0u8..3), 0..120)) {
            let places = FairSlots::new(most, most);
            let mut held: Vec<(u8, FairSlot<u8>)> = Vec::new();
            for (take, owner) in steps {
                // An owner that is asked for a place gives it back.
                held.retain_mut(|(_, place)| poll(pin!(place.asked_back())).is_none());
                let has = held.iter().filter(|(other, _)| *other == owner).count();
                if take {
                    let place = places.take(owner);
                    prop_assert!(place.is_some() || has >= most / 3, "{} of {}", has, most);
                    held.extend(place.map(|place| (owner, place)));
                } else if let Some(at) = held.iter().position(|(other, _)| *other == owner) {
                    held.remove(at);
                }
                prop_assert!(places.state.lock().shares.total() <= most);
            }
            drop(held);
            prop_assert_eq!(places.state.lock().shares.total(), 0);
        }
    }
}
