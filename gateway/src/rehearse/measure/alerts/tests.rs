use super::*;
use crate::rehearse::outcome::Served;

const FILE: &str = include_str!("../../../../../deploy/prometheus/spillway.alerts.yml");

/// Name, severity and `for` in seconds of every alert of the file.
fn file() -> Vec<(String, String, f64)> {
    let seconds = |text: &str| {
        let (number, unit) = text.split_at(text.len() - 1);
        number.parse::<f64>().unwrap() * if unit == "h" { 3600.0 } else { 60.0 }
    };
    let after = |text: &str, name: &str| text.lines().find_map(|line| line.trim().strip_prefix(name).map(|rest| rest.trim().to_owned()));
    let one = |text: &str| {
        let severity = after(text, "labels:").unwrap();
        let severity = if severity.contains("page") { "page" } else { "ticket" };
        let name = text.lines().next().unwrap().trim().to_owned();
        (name, severity.to_owned(), after(text, "for:").map_or(0.0, |text| seconds(&text)))
    };
    FILE.split("- alert:").skip(1).map(one).collect()
}

#[test]
fn the_table_is_that_of_the_rules_file() {
    let file = file();
    for rule in &RULES {
        let (_, severity, lasts) = file.iter().find(|(name, ..)| name == rule.name).unwrap_or_else(|| panic!("{} is gone", rule.name));
        assert_eq!((severity.as_str(), *lasts), (rule.severity, rule.lasts), "{}", rule.name);
    }
    for (name, ..) in &file {
        let here = RULES.iter().filter(|rule| rule.name == name).count() + NOT_REHEARSED.iter().filter(|other| *other == name).count();
        assert_eq!(here, 1, "{name}: is it rehearsed or not?");
    }
    assert_eq!(file.len(), RULES.len() + NOT_REHEARSED.len());
}

#[test]
fn its_numbers_are_those_of_the_rules_file() {
    for (name, numbers) in [
        ("SpillwayErrorBudgetBurnFast", &["ratio_rate1h > 14.4 * 0.001", "increase1h >= 10"][..]),
        ("SpillwayErrorBudgetBurn", &["ratio_rate6h > 6 * 0.001", "increase6h >= 10"]),
        ("SpillwayErrorBudgetBurnSlow", &["ratio_rate1d > 3 * 0.001"]),
        ("SpillwayErrorBudgetBurnCreeping", &["ratio_rate3d > 1 * 0.001"]),
        ("SpillwayPoolOut", &["usable:sum == 0"]),
        ("SpillwayVisible429s", &["ratio_rate5m > 0.001"]),
        ("SpillwayManyVisible429s", &["ratio_rate5m > 0.05"]),
        ("SpillwaySpillHigh", &["ratio_rate30m > 0.5", "rate30m > 0.1"]),
        ("SpillwayFirstTierUnderused", &["ratio_rate30m > 0.2", "rate30m > 0.1", "< 0.05"]),
        ("SpillwayTargetNeedsHands", &["misconfigured|out-of-quota|unresolved"]),
        ("SpillwayLimitsUnshared", &["spillway_limits_shared == 0", "spillway_redis_failures_total"]),
    ] {
        let text = FILE.split("- alert:").find(|text| text.trim_start().lines().next() == Some(name)).unwrap();
        let expression = text.split("labels:").next().unwrap();
        numbers.iter().for_each(|number| assert!(expression.contains(number), "{name}: {number} is not in {expression}"));
    }
}

fn requests(statuses: &[(u16, usize)]) -> Vec<RequestOutcome> {
    let one = |status: u16| RequestOutcome {
        pool: "chat".to_owned(),
        model: "m".to_owned(),
        stream: false,
        consumer: None,
        at: Duration::ZERO,
        status,
        whole: true,
        retry_after: None,
        served: Served::Nobody,
        attempts: Vec::new(),
        added: Duration::ZERO,
        took: Duration::ZERO,
    };
    statuses.iter().flat_map(|(status, count)| std::iter::repeat_n(one(*status), *count)).collect()
}

fn fired(statuses: &[(u16, usize)], metrics: &str) -> Vec<(&'static str, u64)> {
    let (requests, figures) = (requests(statuses), Figures::read(metrics));
    let evidence = Evidence { requests: &requests, figures: &figures, span: Duration::from_secs(60) };
    alerts(&evidence).iter().map(|alert| (alert.name, alert.after.as_secs())).collect()
}

const READY: &str = "spillway_target_state{pool=\"chat\",state=\"ready\"} 1\n";

#[test]
fn errors_burn_the_budget_the_sooner_the_more_there_are() {
    assert!(fired(&[(200, 24)], READY).is_empty());
    let all = fired(&[(503, 24)], READY);
    assert_eq!(all[0], ("SpillwayErrorBudgetBurnFast", 120 + 52), "1.44 % of an hour, and two minutes");
    let some = fired(&[(200, 18), (502, 6)], READY);
    assert_eq!(some[0], ("SpillwayErrorBudgetBurnFast", 120 + 207));
}

#[test]
fn what_the_gateway_says_of_its_targets_sets_off_theirs() {
    let out = fired(&[(200, 24)], "spillway_target_state{pool=\"chat\",state=\"tripped\"} 1\n");
    assert_eq!(out, [("SpillwayPoolOut", 120)]);
    let revoked = fired(&[(200, 24)], &format!("{READY}spillway_target_state{{pool=\"chat\",state=\"misconfigured\"}} 1\n"));
    assert_eq!(revoked, [("SpillwayTargetNeedsHands", 300)]);
    let full = fired(&[(429, 12), (200, 12)], &format!("{READY}spillway_rejections_total{{code=\"rate_limit_exceeded\"}} 12\n"));
    assert_eq!(full.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["SpillwayManyVisible429s", "SpillwayVisible429s"]);
    let limited = format!(
        "{READY}spillway_rejections_total{{code=\"rate_limit_exceeded\"}} 12\nspillway_limit_refusals_total{{limit=\"requests_per_minute\"}} 12\n"
    );
    assert!(fired(&[(429, 12), (200, 12)], &limited).is_empty(), "a consumer's own limit is no want of capacity");
}
