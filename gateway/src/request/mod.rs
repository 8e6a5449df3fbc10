//! The state of one request, in parts, so that a stage takes only the parts that it needs. Nothing here calls a stage.

mod attempts;
mod body;
mod facts;
mod in_flight;
mod metering;
mod model_request;
mod replay;
mod reply;
mod timing;

pub use attempts::{AttemptRecord, Attempts};
pub use body::RequestBody;
pub use facts::Facts;
pub use in_flight::{Counted, InFlight};
pub use metering::Metering;
pub use model_request::ModelRequest;
pub use replay::{BodyBuffer, BufferBudget, BufferShare, Edit, Pieces, ReplayBody};
pub use reply::{RefusedBy, Reply};
pub use timing::Timing;

pub use crate::request_end::End;
