//! One process takes over from another: for a while both admit requests.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Mutex, now, quota, tokens, used};
use crate::limits::*;

fn rules(limit: u64, own: u64) -> Rules {
    let guaranteed = vec![Guarantee { child: "own".into(), amounts: vec![own.min(20), own, 2, own, own] }];
    let windows = vec![quota(Period::Hour, limit * 4), quota(Period::Minute, limit * 2)];
    Rules { requests_per_minute: Some(40), tokens_per_minute: Some(limit), concurrent: Some(5), windows, guaranteed, ..Rules::default() }
}

fn scope(rules: Rules) -> Arc<Scope> {
    Scope::new(Rank::Group, "parent".into(), rules, false)
}

fn ask(scope: &Arc<Scope>, child: &str, need: u64, at: Timestamps) -> Result<Permit<Mutex>, Refused> {
    let mut path = Path::new();
    path.push(Arc::clone(scope), scope.guarantee_of(child));
    admit(&path, tokens(need), at, |_, _| {})
}

/// As it arrives at the other process.
fn sent<T: serde::Serialize + serde::de::DeserializeOwned>(message: &T) -> T {
    serde_json::from_str(&serde_json::to_string(message).unwrap()).unwrap()
}

/// An old process, and one that takes over; the new one's monotonic clock is ahead.
struct Both {
    scopes: [Arc<Scope>; 2],
    ahead: i64,
    told: Option<Tally>,
}

impl Both {
    fn new(rules: &Rules, ahead: i64) -> Self {
        Both { scopes: [scope(rules.clone()), scope(rules.clone())], ahead, told: None }
    }

    fn at(&self, which: usize, millis: u64) -> Timestamps {
        let ahead = if which == 1 { self.ahead * 1000 } else { 0 };
        Timestamps { monotonic: now(millis.saturating_add_signed(ahead)).monotonic, ..now(millis) }
    }

    fn old_tells(&mut self, millis: u64) {
        let tally: Tally = sent(&self.scopes[0].tally(self.at(0, millis)));
        self.scopes[1].add_difference(self.told.as_ref(), &tally, self.ahead, self.at(1, millis));
        self.told = Some(tally);
    }

    fn new_tells(&self, millis: u64) {
        let own: OwnUse = sent(&self.scopes[1].own_use(self.told.as_ref(), self.ahead, self.at(1, millis)));
        self.scopes[0].leave_to(&own, self.at(0, millis));
    }
}

#[test]
fn the_old_process_admits_what_the_new_one_leaves() {
    let mut both = Both::new(&Rules { tokens_per_minute: Some(100), ..Rules::default() }, 7);
    let ask = |both: &Both, which: usize, need, millis| ask(&both.scopes[which], "", need, both.at(which, millis));
    let _before = ask(&both, 0, 30, 0).unwrap();
    both.old_tells(0);
    let _new = ask(&both, 1, 50, 100).unwrap();
    both.new_tells(200);
    assert!(matches!(ask(&both, 0, 21, 200), Err(Refused::Share(_))));
    let _old = ask(&both, 0, 20, 200).unwrap();
    both.new_tells(300);
    assert!(ask(&both, 0, 1, 300).is_err(), "what was taken over isn't the new one's own");
    both.old_tells(400);
    assert!(ask(&both, 1, 1, 400).is_err());
    both.new_tells(61_500);
    assert!(ask(&both, 0, 100, 61_500).is_ok(), "a minute later all is free again");
}

proptest! {
    /// If each tells the other at once, both together admit what one alone would.
    #[test]
    fn two_processes_that_tell_each_other_admit_what_one_would(
        steps in prop::collection::vec((0u64..9000, 0usize..2, any::<bool>(), 1u64..60, 0u64..100, any::<bool>()), 1..100),
        ahead in -50i64..50,
        (limit, own) in (100u64..200, 0u64..100),
    ) {
        let rules = rules(limit, own);
        let (mut both, alone) = (Both::new(&rules, ahead), scope(rules));
        let mut time = 100_000_000;
        let mut open = Vec::new();
        both.old_tells(time);
        for (pause, which, through, need, percent, settles) in steps {
            time += pause;
            let child = if through { "own" } else { "other" };
            both.new_tells(time);
            let (one, all) = (ask(&both.scopes[which], child, need, both.at(which, time)), ask(&alone, child, need, now(time)));
            prop_assert_eq!(one.is_ok(), all.is_ok(), "{:?} {:?}", one, all);
            open.extend(one.ok().zip(all.ok()).map(|(one, all)| (which, one, all, need * percent / 100)));
            if settles && !open.is_empty() {
                let (which, one, all, really) = open.remove(0);
                one.settle(used(really), both.at(which, time), |_, _| {});
                all.settle(used(really), now(time), |_, _| {});
            }
            both.old_tells(time);
            prop_assert_eq!(both.scopes[1].snapshot(both.at(1, time)), alone.snapshot(now(time)));
        }
    }
}

/// A parent whose child has half of it, and whose sibling has used more than it reserved.
fn exceeded() -> Arc<Scope> {
    let of = |amount| vec![Guarantee { child: "own".into(), amounts: vec![amount, amount] }];
    let rules = Rules { tokens_per_minute: Some(1000), windows: vec![quota(Period::Hour, 1000)], guaranteed: of(500), ..Rules::default() };
    let old = scope(rules);
    ask(&old, "other", 500, now(0)).unwrap().settle(used(550), now(0), |_, _| {});
    old
}

#[test]
fn a_guarantee_is_as_large_after_an_upgrade_as_before() {
    let old = exceeded();
    let new = scope(old.rules.clone());
    let told: Tally = sent(&old.tally(now(0)));
    new.add_difference(None, &told, 0, now(0));
    for parent in [&old, &new] {
        let own = ask(parent, "own", 500, now(0)).unwrap();
        assert!(ask(parent, "own", 1, now(0)).is_err() && ask(parent, "other", 1, now(0)).is_err());
        drop(own);
    }
    // What is told later, too.
    let held = ask(&old, "own", 100, now(0)).unwrap();
    held.settle(used(700), now(0), |_, _| {});
    new.add_difference(Some(&told), &old.tally(now(0)), 0, now(0));
    assert_eq!(new.snapshot(now(0)), old.snapshot(now(0)));
    assert_eq!(old.tally(now(0)), new.tally(now(0)));
}

#[test]
fn an_upgrade_that_guarantees_more_does_not_exceed_the_limit_for_it() {
    let old = exceeded();
    let mut rules = old.rules.clone();
    // Of the hour; of the minute it is as before.
    rules.guaranteed[0].amounts[1] = 600;
    let new = scope(rules);
    new.add_difference(None, &sent(&old.tally(now(0))), 0, now(0));
    assert!(ask(&new, "own", 451, now(0)).is_err());
    assert!(ask(&new, "own", 450, now(0)).is_ok());
}
