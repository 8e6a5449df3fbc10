//! The faults that need both consumers, by name, and the generated rounds.
//!
//! What holds each fault that was found once, here or in `tests/it`:
//!
//! - One caller never changes what others get: refusals (`refusals_for_what_an_account_lacks`; `it/isolation`), failures
//!   inside streams (`failures_inside_a_stream`), usage reports (`words_about_stream_options`), timeouts and resets
//!   (`failures_resets_and_silence`), a 429 for one request (`it/isolation`), memories that all share (`it/shares`).
//! - Nothing is used uncounted: usage in any place, of any length, late, unlabelled, compressed
//!   (`usage_wherever_it_stands`; `it/whole_usage`), callers that leave (`callers_that_leave`; `it/settling`), odd
//!   `stream_options` (`usage_that_is_asked_for_oddly`), caps, attempts and prices (`it/settling`), sockets
//!   (`it/whole_usage`), judged prompts (`it/shares`).
//! - What a caller names is checked: stored things (`things_of_others`; `it/references`, `it/stored`), models and
//!   deployments (`models_of_others`; `it/reading`), pools (`a_pool_of_which_no_model_is_ones_own`), framing
//!   (`requests_within_requests`; `it/reading`, `it/abuse`), forms and codings (`it/reading_forms`, `it/reading`),
//!   redirects (`redirects_and_answers_that_are_none`; `it/reading`), subprotocols (`it/reading`), sealed reasoning
//!   (`it/references`).
//! - No caller holds others up: long and deep bodies (`long_and_deep_bodies`), dripping uploads and such as never end (`uploads_that_drip`,
//!   `bodies_that_never_end`),
//!   heads, deadlines and connections (`it/reading`, `it/abuse`, `it/admin`), classes (`plugins`' `limits/tests`).

mod generated;
mod named;
mod soak;
