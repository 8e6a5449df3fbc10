//! Answers without a model: the last resort of a pool, and the imitation of Azure OpenAI that
//! `spillway mock` serves.
//!
//! | file | idea |
//! |---|---|
//! | [`answer`] | well-formed answers of every API, plain and streamed |
//! | [`body`] | what is read of a request |
//! | [`buckets`] | Azure's limits: tokens and requests per minute, a PTU's leaky bucket |
//! | `part` | what parts of an API answer: counts, and a conversation made shorter |
//! | `question` | what is asked of the imitation |
//! | [`fault`] | what can be made to go wrong, and how it is asked for |
//! | [`settings`] | the imitation's own little config |
//! | [`server`] | puts them together on a socket |

pub mod answer;
pub mod body;
pub mod buckets;
pub mod fault;
mod part;
mod question;
pub mod server;
pub mod settings;
