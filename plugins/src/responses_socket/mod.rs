//! The Responses API over a WebSocket: each message of the caller asks for one response, and the events of that
//! response are the messages of the answer.
//!
//! Sources: Azure's "Use WebSockets with the Responses API" and OpenAI's guide "WebSocket mode" (2026). A message is
//! the body of `POST /responses` with `"type": "response.create"`; `stream` and `background` don't apply. The last
//! response that isn't stored is kept as long as its connection: only that one can be named by `previous_response_id`
//! without being stored.

mod create;
mod event;
mod memory;
#[cfg(test)]
mod tests;

pub use create::{Create, CreateError};
pub use event::{Turn, error, of_previous, warm_up, whole};
pub use memory::Memory;
