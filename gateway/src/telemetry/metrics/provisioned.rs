//! The provisioned throughput (PTU) of targets, as the gateway knows it.

use std::collections::BTreeMap;

use prometheus::{CounterVec, GaugeVec, IntCounterVec, IntGaugeVec};
use spillway_plugins::limits::Class;

use super::registration::Registration;
use crate::balance::provisioned::View;
use crate::balance::ptu::steer::Why;
use crate::balance::route::Member;
use crate::clock::Tick;

/// What is known of provisioned throughput, and what was decided by it.
#[derive(Debug)]
pub struct ProvisionedFamilies {
    utilisation: GaugeVec,
    fill: GaugeVec,
    room: GaugeVec,
    drain: GaugeVec,
    rate: GaugeVec,
    last_refusal: GaugeVec,
    warning: IntGaugeVec,
    refusals: IntCounterVec,
    decisions: IntCounterVec,
    saved: CounterVec,
}

/// The time until there is room, if it can't be foreseen.
const UNFORESEEN: f64 = 600.0;

impl ProvisionedFamilies {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        let target: &[&str] = &["backend", "deployment"];
        let with = |labels: &[&'static str]| [target, labels].concat();
        Ok(ProvisionedFamilies {
            utilisation: to.levels(
                "spillway_ptu_utilisation",
                "The share of a PTU deployment's capacity that was used in the last minute, by the gateway's account, 0 to 1.",
                target,
            )?,
            fill: to.levels(
                "spillway_ptu_fill",
                "How full a PTU deployment is by the gateway's account: 1 is the line above which it answers 429.",
                target,
            )?,
            room: to.levels("spillway_ptu_room_seconds", "Time until a PTU deployment has room again; 600 if that can't be foreseen.", target)?,
            drain: to.levels(
                "spillway_ptu_drain_ratio",
                "What a PTU deployment takes, as a share of its configured or learned rate, less what reaches it past the gateway.",
                target,
            )?,
            rate: to.levels("spillway_ptu_tokens_per_second", "The configured or learned rate of a PTU deployment, in input tokens.", target)?,
            last_refusal: to.levels("spillway_ptu_last_refusal_seconds", "Time since a PTU deployment's last 429.", target)?,
            warning: to.gauges(
                "spillway_ptu_warning",
                "1 if the account can't be right: the configured rate is far off (rate_implausible), or calls are too large for its depth (too_coarse).",
                &with(&["kind"]),
            )?,
            refusals: to.counters(
                "spillway_ptu_refusals_total",
                "429s of a PTU deployment. Provoked ones were risked to learn how full it is.",
                &with(&["provoked"]),
            )?,
            decisions: to.counters(
                "spillway_ptu_decisions_total",
                "Requests that asked for the room of a PTU deployment. fits and probe: sent there; wait; full, cheap, reserved and deadline: sent elsewhere.",
                &with(&["decision", "class"]),
            )?,
            saved: to.fractions(
                "spillway_ptu_saved_usd_total",
                "What the requests that a PTU deployment served would have cost at the next tier, in US dollars; by whether they had waited for room.",
                &with(&["waited", "class"]),
            )?,
        })
    }

    /// Reads what is known now. Targets that a reload has removed disappear.
    pub(super) fn read<'r>(&self, members: impl Iterator<Item = &'r Member>, now: Tick) {
        for levels in [&self.utilisation, &self.fill, &self.room, &self.drain, &self.rate, &self.last_refusal] {
            levels.reset();
        }
        self.warning.reset();
        self.refusals.reset();
        self.decisions.reset();
        self.saved.reset();
        let provisioned = members.filter(|member| member.target.provisioned.is_on());
        let targets: BTreeMap<_, _> = provisioned.map(|member| (&member.target.id, &member.target.provisioned)).collect();
        for (id, provisioned) in targets {
            if let Some(view) = provisioned.view(now) {
                self.show([&id.backend, &id.deployment], &view, now);
            }
        }
    }

    fn show(&self, [backend, deployment]: [&str; 2], view: &View, now: Tick) {
        let set = |levels: &GaugeVec, value: f64| levels.with_label_values(&[backend, deployment]).set(value);
        if let Some(utilisation) = view.utilisation {
            set(&self.utilisation, utilisation);
            set(&self.fill, view.fill.unwrap_or(0.0));
            set(&self.room, view.room_in.map_or(UNFORESEEN, |room| room.as_secs_f64()));
            set(&self.drain, view.drain);
        }
        if let Some(rate) = view.per_second {
            set(&self.rate, rate);
        }
        if let Some(refused) = view.refused {
            set(&self.last_refusal, now.since(refused).as_secs_f64());
        }
        for (kind, is_so) in [("rate_implausible", view.is_implausible), ("too_coarse", view.is_too_coarse)] {
            self.warning.with_label_values(&[backend, deployment, kind]).set(i64::from(is_so));
        }
        for (provoked, count) in ["true", "false"].into_iter().zip(view.decided.refusals) {
            self.refusals.with_label_values(&[backend, deployment, provoked]).inc_by(count);
        }
        let decided = &view.decided;
        for (waited, saved) in ["false", "true"].into_iter().zip(decided.saved) {
            for (class, usd) in Class::ALL.into_iter().zip(saved) {
                self.saved.with_label_values(&[backend, deployment, waited, class.label()]).inc_by(usd);
            }
        }
        let sent = [("fits", decided.fits), ("probe", decided.probe), ("wait", decided.wait)];
        let elsewhere = Why::ALL.map(Why::label).into_iter().zip(decided.spill);
        for (decision, counts) in sent.into_iter().chain(elsewhere) {
            for (class, count) in Class::ALL.into_iter().zip(counts) {
                self.decisions.with_label_values(&[backend, deployment, decision, class.label()]).inc_by(count);
            }
        }
    }
}
