//! A caller left in the middle of its answer, and the config says to read on: until the answer has told
//! what it used, or the time for that is over.

use std::time::Duration;

use super::exchange::Exchange;
use super::metering::Estimate;
use super::unfinished::Reading;
use crate::balance::target::Lease;
use crate::gateway::Gateway;
use crate::shares::{Owner, Place};

/// An answer to be read on.
pub(super) struct Abandoned {
    pub(super) exchange: Exchange,
    pub(super) reading: Reading,
    /// What is booked if it doesn't tell.
    pub(super) estimate: Estimate,
    /// Its target's slot is taken for as long as it works.
    pub(super) lease: Lease,
    pub(super) place: Place<Owner>,
}

/// Reads on, in a task of its own.
pub(super) fn read_on(gateway: &Gateway, abandoned: Abandoned, limit: Duration) {
    let gateway = gateway.clone();
    tokio::spawn(async move {
        let Abandoned { mut exchange, mut reading, mut estimate, lease, mut place } = abandoned;
        let rest = exchange.read_rest(limit, |bytes| match &mut reading {
            Reading::Stream(watch) => {
                watch.feed(bytes);
                // Behind the last event nothing is told, and not every connection ends there.
                watch.state().done
            }
            Reading::Plain(tap) => {
                tap.push(&bytes);
                false
            }
        });
        let whole = tokio::select! {
            whole = rest => whole,
            // The gateway stops, or somebody with fewer needs the place: what was read must do.
            () = gateway.stopping.notified() => false,
            () = place.asked_back() => false,
        };
        if whole {
            exchange.release(&gateway.connector).await;
        }
        match &mut reading {
            Reading::Stream(watch) => {
                watch.end();
                let over = watch.state().finished || watch.state().done;
                if over {
                    estimate.is_told(&watch.state().reported);
                }
                estimate.has_read(watch.take_output(), watch.state().reported, over);
            }
            Reading::Plain(tap) => {
                let reported = tap.read();
                estimate.is_told(&reported);
                if let Some(output) = tap.take_output() {
                    estimate.has_read(output, reported, whole);
                }
            }
        }
        drop(lease);
        estimate.hand_over(&gateway);
        drop(place);
    });
}

#[cfg(test)]
mod tests;
