//! Limits that were not kept.

use super::shown::Shown;
use crate::rehearse::fault::FaultKind;
use crate::rehearse::finding::{Finding, Severity};
use crate::rehearse::findings::view::View;

/// Limits that let more through than they allow.
pub(in crate::rehearse::findings) fn find(view: &View<'_>, shown: &Shown<'_>) -> Vec<Finding> {
    let fault = &shown.fault.fault;
    let lost = matches!(fault.kind, FaultKind::RedisSlow | FaultKind::RedisGone);
    let broken = shown.fault.limits.iter().filter(|limit| !limit.kept);
    broken
        .map(|limit| {
            let text = format!(
                "With this fault ({}), '{}' let {} through, and allows {}.",
                fault.kind.says(),
                limit.limit,
                limit.used,
                limit.allowed
            );
            let (key, remedy) = if lost {
                ("redis.quotas_when_lost".to_owned(), "Use \"share\" or \"refuse\": \"allow\" lets everything through.")
            } else {
                (fault.place.key.clone(), "This is a defect of Spillway: please report it.")
            };
            view.finding("limit-not-kept", if lost { Severity::Warning } else { Severity::Error }, &key, text, remedy)
        })
        .collect()
}
