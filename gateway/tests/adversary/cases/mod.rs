//! The faults that need both consumers, by name, and the generated rounds.

mod generated;
