//! What policies ask for, before it is known for which pools.

use crate::import::draft::{Draft, DraftAuth, DraftLimits, DraftRetry, Millis, Safety};

/// What one policy document asks for.
#[derive(Debug, Default)]
pub(in crate::import) struct Wish {
    pub(super) file: String,
    /// Backends that it sends requests to, and the positions of these settings.
    pub(super) targets: Vec<(String, Target)>,
    pub(super) auth: Option<DraftAuth>,
    pub(super) retry: DraftRetry,
    /// Timeout of an answer.
    pub(super) answer: Option<Millis>,
    pub(super) limits: DraftLimits,
    pub(super) per_consumer: Vec<(String, DraftLimits)>,
    pub(super) lookup: Option<Lookup>,
    pub(super) stored: Option<Millis>,
    /// The backend that checks content, and how.
    pub(super) safety: Option<(String, String, Safety)>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Target {
    Backend(String),
    Url(String),
}

/// A look-up in a semantic cache.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) place: String,
    pub(super) backend: String,
    /// In ten thousandths.
    pub(super) threshold: u32,
    pub(super) dry_run: bool,
    pub(super) max_messages: Option<u64>,
    pub(super) ignore_system: bool,
}

/// What all policies ask for.
#[derive(Debug, Default)]
pub(in crate::import) struct Wishes(pub(super) Vec<Wish>);

impl Wishes {
    /// Whether a policy sends requests to the backend of this name.
    pub(in crate::import) fn names(&self, backend: &str) -> bool {
        self.0.iter().any(|wish| {
            wish.targets.iter().any(|(_, target)| matches!(target, Target::Backend(name) if name.eq_ignore_ascii_case(backend)))
                || wish.lookup.as_ref().is_some_and(|lookup| lookup.backend.eq_ignore_ascii_case(backend))
        })
    }

    /// Whether the backend of this name checks content instead of serving models.
    pub(in crate::import) fn is_safety(&self, backend: &str) -> bool {
        self.0.iter().any(|wish| wish.safety.as_ref().is_some_and(|(_, name, _)| name.eq_ignore_ascii_case(backend)))
    }

    /// Stores the addresses of services that are in no pool.
    pub(in crate::import) fn know<'s>(&self, singles: impl Iterator<Item = (&'s str, &'s str, &'s DraftAuth)>, draft: &mut Draft) {
        let judges = singles.filter(|(name, _, _)| self.is_safety(name));
        draft.services = judges.map(|(name, url, auth)| (name.to_owned(), url.to_owned(), auth.clone())).collect();
    }
}
