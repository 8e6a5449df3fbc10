//! Replays traffic on virtual time: what a config would have done with it.
//!
//! Requests go through the code that the gateway runs: [`Route`](crate::balance::route::Route), targets, and the account of
//! provisioned throughput. Behind each PTU deployment is a true bucket that only answers or refuses, as Azure does. There
//! is no network, no thread and no clock; memory does not grow with the length of the traffic.
//!
//! | file | idea |
//! |---|---|
//! | [`request`] | one request of the traffic |
//! | [`seen`] | what really came of it |
//! | [`trace`] | traffic from the ledger, from a CSV file, or from another gateway's log |
//! | [`set`] | changes to a config: `pools.chat.spill="ahead"` |
//! | [`scenario`] | a config to try |
//! | [`bucket`] | what a PTU deployment really takes |
//! | [`world`] | routes, deployments and consumers of a config |
//! | [`call`] | a request on its way |
//! | [`reaction`] | how a deployment reacts to a call |
//! | [`event`] | what happens at a time |
//! | [`run`] | events in virtual time |
//! | [`shadow`] | what a run adds to shadow a log: limits, what backends answered, comparison |
//! | [`tally`] | sums by hour |
//! | [`outcome`] | what a run came to |
//! | [`replay`] | all scenarios in one pass over the traffic |
//! | [`report`] | as text |
//! | [`picture`] | as a page with charts |

pub mod bucket;
mod call;
mod event;
pub mod outcome;
pub mod picture;
mod reaction;
pub mod replay;
pub mod report;
pub mod request;
pub mod run;
pub mod scenario;
pub mod seen;
pub mod set;
pub mod shadow;
mod tally;
pub mod trace;
pub mod world;

#[cfg(test)]
mod tests;
