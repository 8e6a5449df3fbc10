//! Where a stored thing is.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One stored thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// The backend that made it.
    pub backend: Arc<str>,
    /// The consumer that owns it; `None` if callers needn't say who they are.
    pub consumer: Option<Arc<str>>,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Where it is, and whose.
    At(Pin),
    /// Nothing.
    Nothing,
    /// Nobody can say: the shared memory is out of reach.
    Unsure,
}

/// How long a look-up in the shared memory may take.
pub(super) const LOOK_UP: Duration = Duration::from_millis(250);
