//! An estimate, which is made by a thread of its own: a tokenizer takes longer than a request should wait.

use std::sync::Arc;

use spillway_plugins::api::Api;
use spillway_plugins::limits::Permit;
use spillway_plugins::tokens::{OutputMeter, Reported, Usage};

use super::charge::Charge;
use super::evidence::Evidence;
use super::settled::Settled;
use crate::gateway::Gateway;
use crate::runtime::Runtime;

/// An estimate that is still to be made and booked.
pub(in crate::proxy) struct Estimate {
    pub(super) charge: Charge,
    pub(super) evidence: Evidence,
    /// The usage that the answer reported, if it did.
    pub(super) reported: Option<Usage>,
    pub(super) permit: Option<Permit>,
    /// The config of the request.
    pub(super) runtime: Arc<Runtime>,
}

impl Estimate {
    /// Makes and books the estimate, and settles what was reserved.
    pub(in crate::proxy) fn book(self, gateway: &Gateway) {
        let read = || self.evidence.settled(&self.charge.row.place, self.charge.price(), &gateway.tokenizers);
        let settled = self.reported.map_or_else(read, Settled::Reported);
        self.book_as(gateway, settled);
    }

    /// Sends it to the estimator's thread.
    pub(in crate::proxy) fn hand_over(self, gateway: &Gateway) {
        let of = gateway.clone();
        gateway.estimator.hand_over(move |has_time| if has_time { self.book(&of) } else { self.book_by_length(&of) });
    }

    fn book_as(self, gateway: &Gateway, settled: Settled) {
        let used = self.charge.book(gateway, settled);
        if let Some(permit) = self.permit {
            gateway.limits.settle(permit, used, gateway.limits.now());
        }
    }

    /// Adds what was read since: more text, and more reported usage. `whole`: the answer ended.
    pub(in crate::proxy) fn has_read(&mut self, output: OutputMeter, so_far: Reported, whole: bool) {
        self.charge.note_served(&self.runtime, so_far.service_tier(), so_far.parts().as_deref());
        self.evidence.output = output;
        self.evidence.so_far = so_far;
        self.evidence.whole = whole;
    }

    /// The answer has reported its usage after all, if it has.
    pub(in crate::proxy) fn set_reported(&mut self, usage: Option<Usage>) {
        self.reported = usage;
    }

    /// So many bytes of a plain answer were read.
    pub(in crate::proxy) fn has_length(&mut self, length: u64) {
        self.evidence.length = length;
    }

    /// The API that was called.
    pub(in crate::proxy) fn api(&self) -> Api {
        self.evidence.api
    }

    /// Like [`Estimate::book`], but without tokenizing any text.
    pub(in crate::proxy) fn book_by_length(self, gateway: &Gateway) {
        let settled = self.reported.map_or_else(|| self.evidence.bound(), Settled::Reported);
        self.book_as(gateway, settled);
    }
}
