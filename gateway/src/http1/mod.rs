//! An HTTP/1.1 client for one exchange at a time with a backend (RFC 9112): written for a gateway, so head and body of a
//! request leave in one write, and an answer is cut out of the buffer that it was read into.
//!
//! Parsing knows no I/O (`answer_head.rs`, `framing.rs`, `chunks.rs`, together in `answer.rs`; `request_head.rs` and
//! `fields.rs`); `known_answers.rs` compares a head with the last ones instead.
//! `remote.rs` is where a backend is, `transport.rs` opens a connection to it, `connection.rs` runs an exchange on one
//! (`unsent.rs` is what is left of the request), `idle.rs` keeps them for the next.

pub mod answer;
pub mod answer_head;
pub mod chunks;
pub mod connection;
pub mod fields;
pub mod framing;
pub mod idle;
pub mod known_answers;
pub mod remote;
pub mod request_head;
pub mod transport;
pub mod unsent;
