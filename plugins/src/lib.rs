//! The stages that a request passes through, independent of any proxy framework.
//!
//! Everything here works on bytes, headers and plain types; `now` is an argument. The gateway crate calls these stages
//! in the order that `docs/request-path.md` shows:
//!
//! | stage | module | question it answers |
//! |---|---|---|
//! | identify | [`auth`] | who is calling? |
//! | read | [`request`] | which model, streamed or not, and where is the name in the bytes? |
//! | take turns | [`responses_socket`] | which request is a message on a socket, and which messages answer it? |
//! | transform | [`transform`] | what is set, capped or removed in a request? |
//! | refer | [`objects`] | which stored objects does it refer to, and which did an answer make? |
//! | check | [`request_rules`] | does one request ask for more than it may? |
//! | admit | [`limits`] | do the limits of this consumer, model, group and pool allow it? |
//! | guard | [`guard`] | may this prompt be sent, and this answer be shown? |
//! | look up | [`cache`] | is the answer known already? |
//! | judge | [`retry`] | is this upstream answer delivered, or does the request go to another target? |
//! | meter | [`tokens`] | what did the answer use? |
//! | price | [`prices`] | what does that cost? |
//! | observe | [`stream`] | has output begun, is the answer complete, did it fail inside HTTP 200? |
//! | rescue | [`rescue`] | does a second answer repeat what was sent of a broken one, and what is the rest? |
//! | log | [`prompt_log`] | what of prompt and answer is recorded, and what is redacted? |
//! | trace | [`trace`] | which trace is it part of, and what do its spans contain? |
//!
//! Plugins that check a request share a stage of the gateway, behind the hook in [`checks`].
//!
//! Plugins don't know of each other. The other modules are what they share: the operations ([`api`], [`realtime`],
//! [`service_tier`], `names`), formats ([`json`], [`sse`], [`frames`], [`multipart`], [`query`], [`otlp`], [`semconv`]),
//! readers of heads, requests and answers ([`fields`], `prompt`, `offered`, [`answer`], `excerpt`, `walk`), other forms of a
//! text (`escapes`, `visible`, `mapped`), and a hash ([`fnv`]).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

pub mod answer;
pub mod api;
pub mod auth;
pub mod cache;
pub mod checks;
mod escapes;
mod excerpt;
pub mod fields;
pub mod fnv;
pub mod frames;
pub mod guard;
pub mod json;
pub mod limits;
mod mapped;
pub mod multipart;
mod names;
pub mod objects;
mod offered;
pub mod otlp;
pub mod prices;
mod prompt;
pub mod prompt_log;
pub mod query;
pub mod realtime;
pub mod request;
pub mod request_rules;
pub mod rescue;
pub mod responses_socket;
pub mod retry;
mod scan;
pub mod semconv;
pub mod service_tier;
pub mod sse;
pub mod stream;
pub mod tokens;
pub mod trace;
pub mod transform;
mod visible;
mod walk;
