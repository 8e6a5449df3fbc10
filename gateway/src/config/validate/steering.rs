//! Provisioned throughput, and how pools use it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::limits;
use crate::balance::provisioned::PtuConfig;
use crate::balance::ptu::rates::rate_of;
use crate::balance::ptu::shares::{Holder, Share};
use crate::balance::ptu::steer::{Prefer, Rules};
use crate::config::checker::Checker;
use crate::config::raw::{RawBackend, RawConsumer, RawGroup, RawPatience, RawPool, RawPrefer, RawPtu, RawShare, RawSpill};
use crate::config::{MemberConfig, number_of};

/// The most PTUs of one deployment that make sense: far above any quota that Azure grants.
const MOST_UNITS: u32 = 100_000;
/// The most input tokens per minute.
const MOST_TOKENS: u64 = 10_000_000_000;
/// What an output token weighs if neither the config nor the table says it.
const OUTPUT_RATIO: f64 = 4.0;

/// `backends.ptu`.
pub(super) fn deployments(raw: &RawBackend, names: &Names<'_>, key: &str, check: &mut Checker<'_>) -> BTreeMap<String, PtuConfig> {
    raw.ptu.iter().map(|(name, ptu)| (name.clone(), one(raw, name, ptu, names, &format!("{key}.ptu.{name}"), check))).collect()
}

fn one(backend: &RawBackend, name: &str, raw: &RawPtu, names: &Names<'_>, key: &str, check: &mut Checker<'_>) -> PtuConfig {
    let known = backend.deployments.iter().find(|(_, deployment)| *deployment == name).map(|(model, _)| model.as_str());
    let model = raw.model.as_deref().or(known).unwrap_or(name);
    let rate = rate_of(model).or_else(|| rate_of(name));
    if raw.units.is_some() && raw.tokens_per_minute.is_some() {
        check.problem(&format!("{key}.tokens_per_minute"), "give either 'units' or 'tokens_per_minute'");
    }
    if raw.tokens_per_minute.is_some_and(|tokens| tokens == 0 || tokens > MOST_TOKENS) {
        check.problem(&format!("{key}.tokens_per_minute"), format!("must be from 1 to {MOST_TOKENS}"));
    }
    if raw.output_ratio.is_some_and(|ratio| !(0.1..=100.0).contains(&ratio)) {
        check.problem(&format!("{key}.output_ratio"), "must be from 0.1 to 100");
    }
    let by_units = raw.units.and_then(|units| {
        let at = format!("{key}.units");
        if units == 0 || units > MOST_UNITS {
            check.problem(&at, format!("must be from 1 to {MOST_UNITS}"));
        }
        let Some(rate) = rate else {
            check.problem(&at, format!("what a PTU takes is not known for '{model}'; set 'model', or 'tokens_per_minute' instead"));
            return None;
        };
        let least = rate.regional.map_or(rate.global.least, |regional| regional.least.min(rate.global.least));
        if units < least {
            check.warn(&at, format!("Azure sells at least {least} PTUs of '{model}'"));
        }
        Some(rate.per_second(units))
    });
    if raw.model.is_some() && rate.is_none() {
        check.problem(
            &format!("{key}.model"),
            format!("what a PTU takes is not known for '{model}'; set 'tokens_per_minute' and 'output_ratio'"),
        );
    }
    if raw.refusal_percent.is_some_and(|percent| !(0.05..=20.0).contains(&percent)) {
        check.problem(&format!("{key}.refusal_percent"), "must be from 0.05 to 20");
    }
    let depth = check.span(raw.depth, 10, &format!("{key}.depth"));
    if depth > Duration::from_secs(600) {
        check.problem(&format!("{key}.depth"), "must be at most 10m");
    }
    PtuConfig {
        per_second: raw.tokens_per_minute.map(|tokens| tokens as f64 / 60.0).or(by_units),
        output_ratio: raw.output_ratio.or(rate.map(|rate| rate.output_ratio)).unwrap_or(OUTPUT_RATIO),
        depth,
        refusals: raw.refusal_percent.unwrap_or(0.4) / 100.0,
        shares: shares(&raw.shares, names, &format!("{key}.shares"), check),
    }
}

/// The consumers and groups that may have a share.
pub(super) struct Names<'n> {
    /// Consumers.
    pub(super) consumers: &'n [RawConsumer],
    /// Groups.
    pub(super) groups: &'n [RawGroup],
}

fn shares(raw: &[RawShare], names: &Names<'_>, key: &str, check: &mut Checker<'_>) -> Arc<[Share]> {
    let (mut all, mut sum): (Vec<Share>, f64) = (Vec::new(), 0.0);
    for (at, share) in raw.iter().enumerate() {
        let key = format!("{key}[{at}]");
        if !(share.percent > 0.0 && share.percent <= 100.0) {
            check.problem(&format!("{key}.percent"), "must be more than 0 and at most 100");
        }
        sum += share.percent;
        let consumers = || names.consumers.iter().map(|consumer| consumer.name.as_str());
        let groups = || names.groups.iter().map(|group| group.name.as_str());
        let holder = match (&share.consumer, &share.group, share.class) {
            (Some(name), None, None) => {
                if !consumers().any(|known| known == name) {
                    check.unknown(&format!("{key}.consumer"), "consumer", name, consumers());
                }
                Holder::Consumer(number_of(name))
            }
            (None, Some(name), None) => {
                if !groups().any(|known| known == name) {
                    check.unknown(&format!("{key}.group"), "group", name, groups());
                }
                Holder::Group(number_of(name))
            }
            (None, None, Some(class)) => Holder::Class(limits::class(Some(class))),
            _ => {
                check.problem(&key, "give one of 'consumer', 'group' and 'class'");
                continue;
            }
        };
        if all.iter().any(|known| known.holder == holder) {
            check.problem(&key, "has a share already");
        }
        all.push(Share { holder, part: share.percent / 100.0 });
    }
    if sum > 100.0 {
        check.problem(key, format!("the shares add up to {sum} percent"));
    }
    all.into()
}

/// The steering of a pool; `None` if it spills only on a 429.
pub(super) fn pool(raw: &RawPool, members: &[MemberConfig], backends: &[RawBackend], key: &str, check: &mut Checker<'_>) -> Option<Rules> {
    let ahead = raw.spill == Some(RawSpill::Ahead);
    for (given, name) in [(raw.prefer.is_some(), "prefer"), (raw.patience.is_some(), "patience")] {
        if given && !ahead {
            check.problem(&format!("{key}.{name}"), "has an effect only with spill = \"ahead\"");
        }
    }
    if !ahead {
        return None;
    }
    let serves = |member: &MemberConfig| {
        let backend = &backends[member.backend];
        raw.models.iter().any(|model| backend.ptu.contains_key(backend.deployments.get(model).unwrap_or(model)))
    };
    let steered: Vec<u32> = members.iter().filter(|member| serves(member)).map(|member| member.priority).collect();
    let spill = format!("{key}.spill");
    if steered.is_empty() {
        check.warn(&spill, "no member has provisioned throughput: set 'ptu' at its backend");
    } else if !members.iter().any(|member| steered.iter().all(|priority| member.priority > *priority)) {
        check.warn(&spill, "there is no lower tier that requests could go to: they will wait, or get a 429, before the deployment is full");
    }
    let none = RawPatience::default();
    let patience = raw.patience.as_ref().unwrap_or(&none);
    Some(Rules {
        prefer: match raw.prefer.unwrap_or_default() {
            RawPrefer::FirstCome => Prefer::FirstCome,
            RawPrefer::Savings => Prefer::Savings,
        },
        patience: [patience.interactive, patience.standard, patience.batch].map(|given| given.map_or(Duration::ZERO, |given| given.0)),
        ..Rules::default()
    })
}
