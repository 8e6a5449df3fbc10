//! Where a stored object is.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One stored object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObjectLocation {
    /// The backend that has it.
    pub backend: Arc<str>,
    /// The consumer that owns it; `None` if callers needn't identify themselves.
    pub consumer: Option<Arc<str>>,
}

/// The result of a look-up by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Its backend and its owner.
    At(ObjectLocation),
    /// The name is not known.
    Nothing,
    /// Unknown, because Redis can't be reached.
    Unsure,
}

/// Timeout of a look-up in Redis.
pub(super) const LOOK_UP: Duration = Duration::from_millis(250);
