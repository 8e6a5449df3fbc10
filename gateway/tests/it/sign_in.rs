//! Persons sign in on the admin listener: the good way, and every answer that must not let anybody in.

pub mod browser;
mod callback;
mod canary;
mod fresh;
mod issuer_logout;
mod misuse;
mod online;
mod rights;
mod session;
mod token;
