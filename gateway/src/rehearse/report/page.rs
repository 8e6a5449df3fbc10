//! A rehearsal as a page.

use crate::rehearse::outcome::Rehearsal;

/// The page.
pub fn page(rehearsal: &Rehearsal) -> String {
    format!("<!doctype html><title>{}</title>", rehearsal.config)
}
