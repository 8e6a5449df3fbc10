//! What happens at a time, and in which order.

use std::cmp::Ordering;

use super::call::{Call, Served};
use super::reaction::Reaction;
use crate::balance::route::Pick;
use crate::clock::Tick;

/// What happens.
#[derive(Debug)]
pub(super) enum What {
    /// A request may try again.
    Again(Box<Call>),
    /// A deployment refuses a call.
    Refuses(Box<(Call, Pick, Reaction)>),
    /// A call's answer begins.
    Begins(Box<Served>),
    /// A call ends.
    End(Box<Served>),
}

/// When it happens. `order`: the time, and a number that tells apart events of the same time.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) order: (Tick, u64),
    pub(super) what: What,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> Ordering {
        self.order.cmp(&other.order)
    }
}
