//! What was decided for a request, and what the log says of it.
//!
//! A decision is: refused by which limit; or which deployment was asked first, and which one served it, in which tier; or no
//! deployment was left. What a backend answered is not a decision.

use std::fmt;
use std::sync::Arc;

use super::limits::Limit;
use crate::simulate::seen::{Seen, SeenEnd};

/// The end of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::simulate) enum End {
    /// Its consumer may not use the model.
    NotAllowed,
    /// A limit refused it.
    Limit(Limit),
    /// The deployment with this index serves it.
    Served(usize),
    /// No deployment was left.
    NoBackend,
    /// The caller left.
    Left,
    /// It is answered without a backend.
    Unasked,
}

/// What was decided for a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::simulate) struct Decision {
    /// The deployment that was asked first.
    pub(in crate::simulate) first: Option<usize>,
    pub(in crate::simulate) end: End,
}

/// A decision as text, for people.
pub(super) struct Shown<'s>(pub(super) &'s Decision, pub(super) &'s [Arc<str>]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown(decision, names) = self;
        let name = |index: usize| names.get(index).map_or("?", |name| &**name);
        if let Some(first) = decision.first.filter(|first| decision.end != End::Served(*first)) {
            write!(f, "{} asked first, then ", name(first))?;
        }
        match &decision.end {
            End::NotAllowed => f.write_str("not allowed"),
            End::Limit(Limit { owner, kind }) => write!(f, "refused by {} of {owner}", kind.label()),
            End::Served(index) => write!(f, "served by {}", name(*index)),
            End::NoBackend => f.write_str("no deployment left"),
            End::Left => f.write_str("the caller left"),
            End::Unasked => f.write_str("answered without a backend"),
        }
    }
}

/// What the gateway decided, by its own log; `None` if the log doesn't say, or the decision doesn't depend on the config alone.
/// `asked`: the deployments that were asked, in order.
pub(in crate::simulate) fn logged(seen: &Seen, asked: &[usize]) -> Option<Decision> {
    let first = asked.first().copied();
    let end = match &seen.end {
        SeenEnd::Limit(owner, Some(kind)) => End::Limit(Limit { owner: Arc::clone(owner), kind: *kind }),
        SeenEnd::Served => End::Served(*asked.last()?),
        SeenEnd::NoBackend => End::NoBackend,
        SeenEnd::Unknown | SeenEnd::Limit(_, None) | SeenEnd::Failed | SeenEnd::Unasked => return None,
    };
    Some(Decision { first, end })
}
