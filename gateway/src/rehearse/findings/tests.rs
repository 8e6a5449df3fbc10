//! The corpus, and a test for each kind that is not in it.

mod corpus;
mod kinds;
