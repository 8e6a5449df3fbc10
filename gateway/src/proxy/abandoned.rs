//! A caller left in the middle of its answer, and the config says to read the rest (`on_disconnect: drain`): until the
//! answer has reported its usage, or a time limit.

use std::time::Duration;

use super::exchange::Exchange;
use super::metering::Estimate;
use super::unfinished::AnswerReader;
use crate::balance::target::Lease;
use crate::gateway::Gateway;
use crate::shares::{FairSlot, Owner};

/// An answer whose rest is read.
pub(super) struct Abandoned {
    pub(super) exchange: Exchange,
    pub(super) reading: AnswerReader,
    /// Booked if the answer doesn't report its usage.
    pub(super) estimate: Estimate,
    /// Keeps the target's slot, because the target is still working.
    pub(super) lease: Lease,
    pub(super) place: FairSlot<Owner>,
}

/// Reads the rest, in a separate task.
pub(super) fn read_on(gateway: &Gateway, abandoned: Abandoned, limit: Duration) {
    let gateway = gateway.clone();
    tokio::spawn(async move {
        let Abandoned { mut exchange, mut reading, mut estimate, lease, mut place } = abandoned;
        let rest = exchange.read_rest(limit, |bytes| match &mut reading {
            AnswerReader::Stream(watch) => {
                watch.feed(bytes);
                // Nothing is reported after the last event, and not every connection ends there.
                watch.state().done
            }
            AnswerReader::Plain(tap) => {
                tap.push(&bytes);
                false
            }
        });
        let whole = tokio::select! {
            whole = rest => whole,
            // The gateway is stopping, or an owner with fewer such answers needs the slot: book with what was read so
            // far.
            () = gateway.stopping.notified() => false,
            () = place.asked_back() => false,
        };
        if whole {
            exchange.release(&gateway.idle);
        }
        match &mut reading {
            AnswerReader::Stream(watch) => {
                watch.end();
                let over = watch.state().finished || watch.state().done;
                let reported = watch.state().reported.clone();
                if over {
                    estimate.set_reported(watch.state().usage(estimate.api()));
                }
                estimate.has_read(watch.take_output(), reported, over);
            }
            AnswerReader::Plain(tap) => {
                let reported = tap.read();
                estimate.set_reported(reported.usage(estimate.api()));
                estimate.has_length(tap.length());
                estimate.has_read(tap.take_output().unwrap_or_default(), reported, whole);
            }
        }
        drop(lease);
        estimate.hand_over(&gateway);
        drop(place);
    });
}

#[cfg(test)]
mod tests;
