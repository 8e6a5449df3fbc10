//! What is rehearsed. Pure: a config and the lines of its file give the faults, and the requests for each.
//!
//! | file | idea |
//! |---|---|
//! | [`derive`] | which faults a config can meet |
//! | `traffic`, `credential` | the requests for a fault: when, for what, and who calls |

pub(super) mod credential;
pub mod derive;
pub(super) mod traffic;
