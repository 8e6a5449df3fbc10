//! What is known of a PTU deployment without its telling: how full it is, how fast it drains, and who may use its room.
//!
//! | file | idea |
//! |---|---|
//! | [`twin`] | the level of its bucket and its drain, learned from what it accepts and refuses |
//! | `filter` | how observations change what is believed of it |
//! | `hour` | whether an hour's refusals were above their budget |
//! | [`saved`] | that state for a restart or another process |
//! | [`fading`] | a sum whose parts fade with time |
//! | [`load`] | what a call adds to the level: expected, and used |
//! | [`rates`] | the shipped table: what a unit takes of each model |
//! | [`shares`] | what consumers, groups and classes are guaranteed of it |
//! | [`under_way`] | the load of calls: booked, expected, and what may be reserved |
//! | [`steer`] | who may use the room, who waits, who goes elsewhere |
//!
//! The unit of load is the second of configured capacity: 2.0 is what the configured rate drains in two seconds.

pub mod fading;
mod filter;
mod hour;
pub mod load;
pub mod rates;
pub mod saved;
pub mod shares;
pub mod steer;
pub mod twin;
pub mod under_way;
