//! Keys that are issued at run time, for consumers of the config: stored as digests in `server.state_dir`, known to all
//! nodes through Redis. Requests are checked against [`LiveKeys`] without a lock.
//!
//! ```text
//! issue, revoke, rotate → file (on the disk) → memory → live table → requests
//!                                                ↕
//!                                              Redis → other nodes
//! ```

mod error;
mod exchange;
mod file;
mod kept;
mod key_state;
mod live;
mod memory;
mod random_key;
mod record;
mod rules;
mod shapes;
mod signed;
mod store;
mod text;
mod when;

pub use error::{IssueError, KeyFileError, KeysError};
pub use key_state::state;
pub use live::{LiveKey, LiveKeys};
pub use random_key::{NoRandomNumbers, random_id, random_key};
pub use shapes::{Issued, KeyRecord, NewKey};
pub use store::IssuedKeys;
pub use when::when;
