//! How many pages that are kept up to date each person has open, and how many of its requests are answered at once.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::actor::{Actor, SignedIn};

/// Most places of one person: one can't take them from the others.
const OF_ONE: usize = 8;

/// The number of places that each person has taken.
#[derive(Debug, Default)]
pub(super) struct PlacesOf(Mutex<HashMap<String, usize>>);

/// A person's place, until it is dropped.
pub(super) struct OwnPlace<'p>(&'p Mutex<HashMap<String, usize>>, Option<String>);

impl PlacesOf {
    /// Another place; `None` if the person has too many. Others than persons have no bound of their own.
    pub(super) fn enter(&self, actor: &Actor) -> Option<OwnPlace<'_>> {
        let Actor::Person(SignedIn { session, .. }) = actor else { return Some(OwnPlace(&self.0, None)) };
        let subject = session.person.subject.clone();
        let mut places = self.0.lock();
        let count = places.entry(subject.clone()).or_default();
        if *count >= OF_ONE {
            return None;
        }
        *count += 1;
        Some(OwnPlace(&self.0, Some(subject)))
    }
}

impl Drop for OwnPlace<'_> {
    fn drop(&mut self) {
        let Some(subject) = &self.1 else { return };
        let mut places = self.0.lock();
        if let Some(count) = places.get_mut(subject) {
            *count -= 1;
            if *count == 0 {
                places.remove(subject);
            }
        }
    }
}
