//! What the head of the mock's answers says: the state of the deployment's limits, and which deployment served.

use std::ops::{Deref, DerefMut};

use super::buckets::Standing;

/// What the head of an answer says.
#[derive(Debug, Clone, Default)]
pub(super) struct HeadFacts {
    pub(super) standing: Standing,
    /// The full deployment that was asked, and the one that serves in its place.
    pub(super) spilled: Option<(String, String)>,
}

impl HeadFacts {
    /// The fields that say that another deployment serves.
    pub(super) fn spillover(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.spilled.iter().flat_map(|(from, by)| {
            [("x-ms-spillover-from-deployment", from.as_str()), ("x-ms-deployment-name", by.as_str()), ("x-ms-spillover-error", "429")]
        })
    }
}

impl From<Standing> for HeadFacts {
    fn from(standing: Standing) -> Self {
        HeadFacts { standing, spilled: None }
    }
}

impl Deref for HeadFacts {
    type Target = Standing;

    fn deref(&self) -> &Standing {
        &self.standing
    }
}

impl DerefMut for HeadFacts {
    fn deref_mut(&mut self) -> &mut Standing {
        &mut self.standing
    }
}
