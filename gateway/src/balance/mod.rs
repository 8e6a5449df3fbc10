//! Chooses the deployment that serves a request, and knows which ones must not.
//!
//! Pure: nothing here does I/O or reads a clock; `now` and `rng` are arguments, so the same code
//! runs in the gateway, in property tests and in the simulation.
//!
//! | file | idea |
//! |---|---|
//! | [`target`] | one deployment at one backend: throttle, circuit, outage, slots |
//! | [`belief`] | what one consumer met, and what is believed for all |
//! | [`change`] | what an outcome changed |
//! | [`circuit`] | closed, open until, half-open |
//! | `state` | what is known of a target, and how outcomes change it |
//! | [`member`] | a target as a member of a pool |
//! | [`quota_pool`] | a quota that several targets share |
//! | `quota_state` | what is known of it, and how 429s and answers change it |
//! | [`policy`] | which of the usable members of a tier |
//! | [`route`] | tiers in order, tried members, the location fence; the error when no member is left |
//! | [`ptu`] | how full a PTU is, and who may use its room |
//! | [`provisioned`] | the provisioned throughput of a target: what is known of it, and what requests take of it |
//! | [`durations`] | how long answers take |
//! | [`budget`] | how many retries after failures a pool may make |
//! | [`snapshot`] | all of it for the admin API |

pub mod belief;
pub mod budget;
pub mod change;
pub mod circuit;
pub mod durations;
pub mod latency;
pub mod member;
pub mod member_state;
pub mod policy;
pub mod provisioned;
pub mod ptu;
pub mod quota_pool;
mod quota_state;
pub mod route;
mod slots;
pub mod snapshot;
mod state;
pub mod target;
pub mod target_state;
pub mod waiting;

#[cfg(test)]
mod quota_simulation;
#[cfg(test)]
mod simulation;
