//! How many pages each person has open that are kept up to date.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::actor::{Actor, SignedIn};

/// Most pages of one person: one can't take them from the others.
const OF_ONE: usize = 8;

/// The number of pages that each person has open.
#[derive(Debug, Default)]
pub(super) struct PagesOf(Mutex<HashMap<String, usize>>);

/// A person's page, until it is dropped.
pub(super) struct OwnPage<'p>(&'p PagesOf, Option<String>);

impl PagesOf {
    /// A place for another page; `None` if the person has too many. Others than persons have no bound of their own.
    pub(super) fn enter(&self, actor: &Actor) -> Option<OwnPage<'_>> {
        let Actor::Person(SignedIn { session, .. }) = actor else { return Some(OwnPage(self, None)) };
        let subject = session.person.subject.clone();
        let mut pages = self.0.lock();
        let count = pages.entry(subject.clone()).or_default();
        if *count >= OF_ONE {
            return None;
        }
        *count += 1;
        Some(OwnPage(self, Some(subject)))
    }
}

impl Drop for OwnPage<'_> {
    fn drop(&mut self) {
        let Some(subject) = &self.1 else { return };
        let mut pages = self.0.0.lock();
        if let Some(count) = pages.get_mut(subject) {
            *count -= 1;
            if *count == 0 {
                pages.remove(subject);
            }
        }
    }
}
