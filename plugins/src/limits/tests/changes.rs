//! A scope that is watched: whatever changes its usage is told.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Mutex, ask, now, quota, scope, tokens, used};
use crate::limits::*;

#[derive(Debug, Clone)]
enum Act {
    Ask { child: usize, need: u64 },
    Drop(prop::sample::Index),
    Spend(prop::sample::Index),
    Settle(prop::sample::Index, u64),
    Book(prop::sample::Index, u64),
    Renew(prop::sample::Index),
    Release(prop::sample::Index),
    Revoke(prop::sample::Index),
    Reload(bool),
    Inherit(u64),
    Restore(u64),
    Look,
    Pass(u64),
}

fn act() -> impl Strategy<Value = Act> {
    let any = any::<prop::sample::Index>;
    prop_oneof![
        6 => (0usize..2, 1u64..50).prop_map(|(child, need)| Act::Ask { child, need }),
        1 => any().prop_map(Act::Drop),
        1 => any().prop_map(Act::Spend),
        2 => (any(), 0u64..80).prop_map(|(which, used)| Act::Settle(which, used)),
        2 => (any(), 0u64..80).prop_map(|(which, used)| Act::Book(which, used)),
        2 => any().prop_map(Act::Renew),
        2 => any().prop_map(Act::Release),
        1 => any().prop_map(Act::Revoke),
        1 => proptest::bool::ANY.prop_map(Act::Reload),
        1 => (1u64..50).prop_map(Act::Inherit),
        1 => (1u64..50).prop_map(Act::Restore),
        4 => Just(Act::Look),
        2 => (0u64..70_000).prop_map(Act::Pass),
    ]
}

fn rules(has_guarantee: bool) -> Rules {
    let own = Guarantee { child: "own".into(), amounts: vec![2, 100, 1, 100, 100] };
    let mut windows = vec![quota(Period::Minute, 5000)];
    windows.extend(has_guarantee.then(|| quota(Period::Hour, 5000)));
    Rules {
        requests_per_minute: Some(1000),
        tokens_per_minute: Some(1000),
        concurrent: Some(1000),
        windows,
        guaranteed: has_guarantee.then_some(own).into_iter().collect(),
        classes: has_guarantee,
        ..Rules::default()
    }
}

struct Watched {
    scope: Arc<Scope>,
    begun: Vec<Begun>,
    permits: Vec<Permit<Mutex>>,
    millis: u64,
}

impl Watched {
    fn happen(&mut self, act: &Act) {
        let at = now(self.millis);
        let one = |permits: &[Permit<Mutex>], which: &prop::sample::Index| (!permits.is_empty()).then(|| which.index(permits.len()));
        match act {
            Act::Ask { child, need } => {
                let mut path = Path::new();
                path.push(Arc::clone(&self.scope), self.scope.guarantee_of(["own", "other"][*child]));
                self.permits.extend(admit(&path, tokens(*need), at, |_, _| {}));
            }
            Act::Drop(which) => drop(one(&self.permits, which).map(|at| self.permits.swap_remove(at))),
            Act::Spend(which) => {
                if let Some(at) = one(&self.permits, which) {
                    self.permits.swap_remove(at).spend();
                }
            }
            Act::Settle(which, tokens) => {
                if let Some(which) = one(&self.permits, which) {
                    self.permits.swap_remove(which).settle(used(*tokens), at, |_, _| {});
                }
            }
            Act::Book(which, tokens) => {
                one(&self.permits, which).iter().for_each(|of| self.permits[*of].book(used(*tokens), at, |_, _| {}))
            }
            Act::Renew(which) => one(&self.permits, which).iter().for_each(|of| self.permits[*of].renew(at)),
            Act::Release(which) => one(&self.permits, which).iter().for_each(|of| self.permits[*of].release_slot()),
            Act::Revoke(which) => one(&self.permits, which).into_iter().for_each(|at| self.permits.swap_remove(at).revoke()),
            Act::Reload(has_guarantee) => (self.scope, self.begun) = self.scope.with_rules(rules(*has_guarantee)),
            Act::Inherit(need) => {
                let other = scope(Rank::Group, rules(true));
                let _permit = ask(&[Arc::clone(&other)], tokens(*need), at).unwrap();
                self.scope.add_difference(None, &other.tally(at), 0, at);
            }
            Act::Restore(amount) => self.begun.iter().for_each(|begun| self.scope.restore(begun, *amount, at.unix)),
            Act::Look => {}
            Act::Pass(millis) => self.millis += millis,
        }
    }
}

proptest! {
    #[test]
    fn whatever_changes_the_usage_is_told_once(acts in prop::collection::vec(act(), 1..60)) {
        let (scope, begun) = Scope::begin(Rank::Group, "parent".into(), rules(true), false);
        let (changes, others) = (Arc::new(Changes::default()), Arc::new(Changes::default()));
        scope.watch(&changes);
        scope.watch(&others);
        let mut watched = Watched { scope, begun, permits: Vec::new(), millis: 0 };
        let mut told = changes.take().len();
        prop_assert_eq!(told, 1, "once at first");
        for act in &acts {
            let at = now(watched.millis);
            let before = watched.scope.tally(at);
            watched.happen(act);
            let is_changed = watched.scope.tally(at) != before;
            told += changes.take().len();
            prop_assert!(told <= 1, "{act:?}");
            prop_assert!(told == 1 || !is_changed, "{act:?}");
            if matches!(act, Act::Look) {
                watched.scope.seen(&changes);
                told = 0;
            }
        }
        prop_assert_eq!(others.take().len(), 1, "who doesn't look is told once");
        watched.scope.unwatch(&changes);
        watched.scope.seen(&changes);
        watched.permits.clear();
        watched.happen(&Act::Inherit(1));
        prop_assert!(told == 1 || changes.take().is_empty());
    }
}
