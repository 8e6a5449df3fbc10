//! Answers without a model: the last resort of a pool, and the mock of Azure OpenAI that `spillway mock` serves.
//!
//! | file | idea |
//! |---|---|
//! | [`answer`] | well-formed answers of every API, plain and streamed |
//! | [`body`] | what the mock reads of a request |
//! | [`buckets`] | Azure's limits: tokens and requests per minute |
//! | `prompt_cache` | which prompts a PTU has cached |
//! | [`ptu`] | the bucket of a provisioned deployment |
//! | `part` | answers of sub-operations: token counts, and a compacted conversation |
//! | `question` | a request, as the mock sees it |
//! | [`fault`] | faults, and how they are requested |
//! | [`forced`] | faults that are switched on and off from outside |
//! | `refusals` | the answers of faults that refuse |
//! | `oversized` | long answers |
//! | [`settings`] | the mock's own config |
//! | [`ptu_settings`] | the settings of a PTU in it |
//! | [`server`] | serves all of it on a socket |

pub mod answer;
pub mod body;
pub mod buckets;
mod deployed;
pub mod fault;
pub mod forced;
mod oversized;
mod part;
mod prompt_cache;
pub mod ptu;
pub mod ptu_settings;
mod question;
mod refusals;
pub mod server;
pub mod settings;
mod spill;
