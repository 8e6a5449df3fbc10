//! A tree of scopes, with two configs of what is guaranteed.

use std::sync::Arc;

use proptest::prelude::*;
use spillway_plugins::limits::{Guarantee, LimitKind, Path, Period, Rules, Scope, Window};

/// The limits of a scope.
#[derive(Debug, Clone)]
pub(super) struct Given {
    pub(super) parent: Option<usize>,
    pub(super) minute: u64,
    pub(super) at_once: u64,
    pub(super) hour: u64,
    pub(super) day: u64,
    /// What its parent guarantees it in each config, in percent.
    pub(super) parts: [u64; 2],
    pub(super) borrow: bool,
}

/// Parents stand before their children.
#[derive(Debug, Clone)]
pub(super) struct Tree(pub(super) Vec<Given>);

/// The most scopes on a path.
const DEEPEST: usize = 6;

pub(super) fn any() -> impl Strategy<Value = Tree> {
    let limits = [50u64..1500, 1u64..12, 100u64..3000, 200u64..5000];
    // Chains are as frequent as bushes.
    let parent = prop_oneof![(0usize..8).prop_map(Some), Just(None)];
    let scope = (parent, limits, [0u64..60, 0u64..60], prop::bool::weighted(0.8));
    prop::collection::vec(scope, 1..9).prop_map(|all| {
        let mut tree = Tree(Vec::new());
        for (at, (parent, [minute, at_once, hour, day], parts, borrow)) in all.into_iter().enumerate() {
            let parent = at.checked_sub(1).map(|last| parent.map_or(last, |parent| parent.min(last)));
            let parent = parent.map(|parent| if tree.lineage(parent).count() < DEEPEST { parent } else { 0 });
            tree.0.push(Given { parent, minute, at_once, hour, day, parts, borrow });
        }
        tree
    })
}

pub(super) fn name(at: usize) -> String {
    format!("group '{at}'")
}

impl Tree {
    /// A scope, its parent, and so on.
    pub(super) fn lineage(&self, at: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(at), |at| self.0[*at].parent)
    }

    /// What is guaranteed to a scope, in percent: children are never promised more than there is.
    fn part(&self, child: usize, config: usize) -> u64 {
        let elder = (0..child).filter(|other| self.0[*other].parent == self.0[child].parent);
        let promised: u64 = elder.map(|other| self.0[other].parts[config]).sum();
        self.0[child].parts[config].min(100u64.saturating_sub(promised))
    }

    pub(super) fn rules(&self, at: usize, config: usize) -> Rules {
        let given = &self.0[at];
        let own = |given: &Given| [given.minute, given.at_once, given.hour, given.day];
        let mut limits = own(given);
        // Who may not borrow has no more than is guaranteed to it, in one config.
        if let Some(parent) = given.parent.filter(|_| !given.borrow && self.part(at, 0) > 0) {
            let most = own(&self.0[parent]).map(|limit| limit * self.part(at, 0) / 100);
            limits = std::array::from_fn(|kind| limits[kind].min(most[kind]));
        }
        let [minute, at_once, hour, day] = limits;
        let mut rules = Rules {
            tokens_per_minute: Some(minute),
            concurrent: Some(at_once),
            windows: vec![
                Window::utc(LimitKind::Quota, Period::Hour, hour),
                Window::utc(LimitKind::Budget, Period::Day, day),
                Window::utc(LimitKind::RequestQuota, Period::Hour, hour / 8),
            ],
            ..Rules::default()
        };
        let amounts = |percent: u64| rules.limits().map(|(_, limit)| limit * percent / 100).collect();
        let children = (0..self.0.len()).filter(|child| self.0[*child].parent == Some(at));
        let promised = children.map(|child| (child, self.part(child, config))).filter(|(_, percent)| *percent > 0);
        let guaranteed = promised.map(|(child, percent)| Guarantee { child: name(child), amounts: amounts(percent) }).collect();
        rules.guaranteed = guaranteed;
        rules
    }

    /// The path of a request of one of the scopes.
    pub(super) fn path(&self, leaf: usize, scopes: &[Arc<Scope>]) -> Path {
        let mut path = Path::new();
        let mut below: Option<usize> = None;
        for at in self.lineage(leaf) {
            let via = below.and_then(|below| scopes[at].guarantee_of(&name(below)));
            path.push(Arc::clone(&scopes[at]), via);
            below = Some(at);
        }
        path
    }
}
