//! The corpus, a test for each kind that is not in it, and what a run adds.

mod corpus;
mod kinds;
mod page;
mod runs;
