//! What a fault showed, in numbers: of the gateway's metrics and of what callers saw.
//!
//! | file | idea |
//! |---|---|
//! | `figures` | the gateway's metrics |
//! | `sums` | of each pool, and of each limit |
//! | `alerts` | which alerts it sets off |

pub(super) mod alerts;
pub(super) mod figures;
pub(super) mod sums;
