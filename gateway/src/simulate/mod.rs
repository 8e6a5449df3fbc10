//! Replays traffic on virtual time: what a config would have done with it.
//!
//! Requests go through the code that the gateway runs: [`Route`](crate::balance::route::Route), targets, and the account of
//! provisioned throughput. Behind each PTU deployment is a true bucket that only answers or refuses, as Azure does. There
//! is no network, no thread and no clock; memory does not grow with the length of the traffic.
//!
//! | file | idea |
//! |---|---|
//! | [`request`] | one request of the traffic |
//! | [`trace`] | traffic from the ledger or from a CSV file |
//! | [`set`] | changes to a config: `pools.chat.spill="ahead"` |
//! | [`scenario`] | a config to try |
//! | [`bucket`] | what a PTU deployment really takes |
//! | [`world`] | routes, deployments and consumers of a config |
//! | [`call`] | a request on its way |
//! | [`run`] | events in virtual time |
//! | [`tally`] | sums by hour |
//! | [`outcome`] | what a run came to |
//! | [`replay`] | all scenarios in one pass over the traffic |
//! | [`report`] | as text |
//! | [`picture`] | as a page with charts |

pub mod bucket;
mod call;
pub mod outcome;
pub mod picture;
pub mod replay;
pub mod report;
pub mod request;
pub mod run;
pub mod scenario;
pub mod set;
mod tally;
pub mod trace;
pub mod world;

#[cfg(test)]
mod tests;
