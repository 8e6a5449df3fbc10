//! Whole scenarios.

mod documented;
mod live;
mod shadowed;

use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use spillway_plugins::api::Api;
use spillway_plugins::limits::Class;
use spillway_plugins::tokens::Usage;

use super::outcome::{Figures, Outcome};
use super::picture;
use super::replay::{Traffic, replay};
use super::report;
use super::request::{Names, Request};
use super::scenario::{Draft, Scenario};
use super::trace::csv::CsvTrace;
use super::trace::order::Ordered;
use super::trace::{Trace, TraceError, Unused};
use super::world::Assumptions;
use crate::balance::target::TargetId;
use crate::clock::Tick;

/// The beginning of an hour.
const START: Tick = Tick(1_793_491_200_000_000_000);

/// A PTU deployment that takes 100 input tokens a second, 1,000 in a burst, for $3 an hour; and another one whose tokens
/// cost $1 and $10 a million.
const CONFIG: &str = "
[server]
listen = [\"127.0.0.1:0\"]
[[backends]]
name = \"ptu\"
kind = \"openai\"
url = \"http://127.0.0.1:1\"
ptu = { m = { tokens_per_minute = 6000, output_ratio = 1 } }
prices = { m = { usd_per_hour = 3.0 } }
[[backends]]
name = \"paid\"
kind = \"openai\"
url = \"http://127.0.0.1:2\"
prices = { m = { input = 1.0, output = 10.0, cached_input = 0.1 } }
[[pools]]
name = \"pool\"
models = [\"m\"]
members = [{ backend = \"ptu\", priority = 1 }, { backend = \"paid\", priority = 2 }]
";

/// Requests that a test has made.
struct Made {
    requests: std::vec::IntoIter<Request>,
    names: Vec<&'static str>,
}

impl Made {
    fn new(requests: Vec<Request>) -> Self {
        Made { requests: requests.into_iter(), names: vec!["m", "unknown"] }
    }
}

impl Trace for Made {
    fn next(&mut self, names: &mut Names) -> Result<Option<Request>, TraceError> {
        self.names.drain(..).for_each(|name| {
            names.number(name);
        });
        Ok(self.requests.next())
    }

    fn unused(&self) -> Unused {
        Unused::default()
    }
}

/// 100 tokens in, 100 out with that as its cap, 5 s.
fn request(seconds: f64) -> Request {
    Request {
        at: START + Duration::from_secs_f64(seconds),
        model: 0,
        consumer: None,
        api: Api::Chat,
        class: None,
        usage: Usage { input: 100, output: 100, ..Usage::default() },
        cap: Some(100),
        took: Some(Duration::from_secs(5)),
        first: None,
        deadline: None,
        seen: None,
    }
}

fn scenario(text: &str, changes: &[&str]) -> Scenario {
    let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
    Draft::new(Path::new("c.toml"), text.to_owned(), &changes).unwrap().scenario("c.toml").unwrap()
}

fn outcome(requests: Vec<Request>, changes: &[&str], assumptions: &Assumptions) -> Outcome {
    replay(&mut Made::new(requests), vec![scenario(CONFIG, changes)], assumptions).unwrap().1.remove(0)
}

fn close(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-9
}

#[test]
fn a_burst_fills_the_ptu_and_the_rest_spills() {
    let requests = std::iter::repeat_n(0.0, 12).chain([100.0]).map(request).collect();
    let outcome = outcome(requests, &[], &Assumptions::default());
    let total = &outcome.total;
    // Five of 200 tokens fill 1,000; the sixth meets a 429, the others know of it; the last one finds it empty again.
    let served: Vec<(u32, u64)> = total.tiers.iter().map(|tier| (tier.tier, tier.requests)).collect();
    assert_eq!(served, [(1, 6), (2, 7)]);
    assert_eq!((total.requests, total.refused, total.ptu_429s, total.other_429s), (13, 0, 1, 0));
    assert_eq!((total.spilled_requests, total.spilled_tokens, total.waited), (7, 1_400, 0));
    // Six calls of 200 tokens; 105 s until the last one ends.
    assert!(close(total.ptu_utilisation.unwrap(), 1_200.0 / (105.0 * 100.0)), "{total:?}");
    let call = (100.0 * 1.0 + 100.0 * 10.0) / 1e6;
    assert!(close(total.by_use_usd, 7.0 * call) && close(total.pay_as_you_go_usd, 13.0 * call), "{total:?}");
    assert!(close(total.ptu_usd.unwrap(), 3.0) && close(total.cost_usd(), 3.0 + 7.0 * call));
    assert!(close(total.saved_usd().unwrap(), 6.0 * call - 3.0));
    assert!(close(total.break_even_usd_per_hour.unwrap(), 6.0 * call));
    assert_eq!(total.break_even_usd_per_ptu_hour, None, "the config names no units");
    assert!(close(total.tiers[0].cost_usd, 3.0) && close(total.tiers[1].cost_usd, 7.0 * call));
}

#[test]
fn each_hour_begun_is_paid_and_work_is_in_its_hour() {
    let outcome = outcome([3_599.0, 7_300.0].map(request).to_vec(), &[], &Assumptions::default());
    assert_eq!(outcome.total.ptu_usd, Some(9.0), "three hours");
    let hours: Vec<(&str, f64)> = outcome.hours.iter().map(|hour| (hour.hour.as_str(), hour.figures.ptu_utilisation.unwrap())).collect();
    assert_eq!(hours.len(), 3);
    assert!(hours[0].0 == "2026-11-01T00:00:00Z" && close(hours[0].1, 1.0), "100 tokens in its one second: {hours:?}");
    assert!(close(hours[1].1, 100.0 / 360_000.0) && close(hours[2].1, 200.0 / (105.0 * 100.0)), "{hours:?}");
}

#[test]
fn patient_requests_wait_for_room_and_late_ones_are_told() {
    let ahead = ["pools.pool.spill=ahead", "pools.pool.patience={ standard = \"60s\" }"];
    let mut requests: Vec<Request> = std::iter::repeat_n(0.0, 12).map(request).collect();
    let waits = outcome(requests.clone(), &ahead, &Assumptions::default()).total;
    // The gateway asks once whether there is room before it is sure of it: that request doesn't wait for the throttle to end.
    assert!(waits.spilled_requests <= 2 && waits.requests == 12, "{waits:?}");
    assert!(waits.waited >= 4 && waits.wait_p95_seconds > 5.0, "{waits:?}");
    // The first one shows how long calls take.
    requests[1..].iter_mut().for_each(|later| later.at = request(100.0).at);
    requests.iter_mut().for_each(|request| request.deadline = Some(Duration::from_secs(5)));
    let hurried = outcome(requests.clone(), &ahead, &Assumptions::default()).total;
    assert!(hurried.spilled_requests > 0 && hurried.waited == 0 && hurried.deadlines == 12, "{hurried:?}");
    requests.iter_mut().for_each(|request| request.deadline = Some(Duration::from_secs(4)));
    assert_eq!(outcome(requests, &ahead, &Assumptions::default()).total.missed_deadlines, 12, "a call takes 5 s");
}

#[test]
fn a_quota_by_the_minute_refuses() {
    let limits = [(TargetId { backend: "paid".into(), deployment: "m".into() }, 1_000)].into();
    let all =
        outcome((0..20).map(|_| request(0.0)).collect(), &["pools.pool.retry.wait=0s"], &Assumptions { limits, ..Assumptions::default() })
            .total;
    assert_eq!(all.tiers.iter().map(|tier| tier.requests).collect::<Vec<_>>(), [5, 5]);
    assert!(all.refused == 10 && all.other_429s == 1, "{all:?}");
    let wrong = Assumptions { limits: [(TargetId { backend: "ptu".into(), deployment: "m".into() }, 1)].into(), ..Assumptions::default() };
    let error = replay(&mut Made::new(vec![request(0.0)]), vec![scenario(CONFIG, &[])], &wrong).unwrap_err();
    assert!(error.to_string().contains("--limit ptu/m"), "{error}");
}

#[test]
fn less_capacity_and_load_of_others_spill_more() {
    let steady = || (0..2_000).map(|number| request(f64::from(number) * 2.1)).collect::<Vec<_>>();
    let spilled = |foreign: f64, off: f64| outcome(steady(), &[], &Assumptions { foreign, off, ..Assumptions::default() }).total;
    let as_is = spilled(0.0, 0.0);
    assert_eq!(as_is.spilled_requests, 0);
    assert!((as_is.ptu_utilisation.unwrap() - 200.0 / 210.0).abs() < 0.01, "{as_is:?}");
    let (shared, smaller) = (spilled(0.3, 0.0), spilled(0.0, -0.3));
    assert!((50..700).contains(&shared.spilled_requests), "{shared:?}");
    assert!((400..700).contains(&smaller.spilled_requests), "{smaller:?}");
    assert!(smaller.ptu_utilisation.unwrap() > 0.97, "{smaller:?}");
}

#[test]
fn what_is_not_known_is_told() {
    let text = "time,model,input,output\n1793491200,m,100,100\n1793491201,gpt-x,1,1\nsoon,m,1,1\n1793511201,m,100,100\n";
    let no_price =
        CONFIG.replace("prices = { m = { usd_per_hour = 3.0 } }", "").replace("prices = { m = { input", "prices = { other = { input");
    let mut trace = Ordered::new(CsvTrace::new(text.as_bytes()).unwrap());
    let (traffic, outcomes) =
        replay(&mut trace, vec![scenario(&no_price, &["pools.pool.members.ptu.weight=0"])], &Assumptions::default()).unwrap();
    let (total, said) = (&outcomes[0].total, report::text(&traffic, &outcomes, true, false));
    assert_eq!((total.requests, total.unpriced, total.pay_as_you_go_unpriced, total.saved_usd()), (2, 2, 2, None));
    assert_eq!((total.ptu_usd, total.break_even_usd_per_hour), (None, None));
    for expected in [
        "3 requests from 2026-11-01T00:00:00Z to 2026-11-01T05:33:21Z",
        "1 rows can't be read and are left out; the first: line 4: 'soon' is not a time",
        "1 times of an hour or more without a request, 5 h in all",
        "1 requests for models that no pool has in 'c.toml' are left out: gpt-x",
        "ptu/m has no `usd_per_hour`: the cost is without it",
        "$0.00 + 2 unknown",
        "2026-11-01T05:00:00Z",
    ] {
        assert!(said.contains(expected), "{expected} is missing in\n{said}");
    }
    assert!(
        matches!(replay(&mut Made::new(Vec::new()), vec![], &Assumptions::default()).unwrap_err().to_string(), text if text.contains("no requests"))
    );
    let learned = scenario(CONFIG.replace("tokens_per_minute = 6000, output_ratio = 1", "").as_str(), &[]);
    let error = replay(&mut Made::new(vec![request(0.0)]), vec![learned], &Assumptions::default()).unwrap_err();
    assert!(error.to_string().contains("backends.ptu.ptu.m: its capacity is to be learned"), "{error}");
}

#[test]
fn the_page_has_all_charts_and_no_foreign_text() {
    let mut outcome = outcome((0..40).map(|hour| request(f64::from(hour) * 1_800.0)).collect(), &[], &Assumptions::default());
    outcome.name = "<b>".to_owned();
    let traffic = Traffic { requests: 40, from: "a".into(), to: "b".into(), gaps: 0, gap_seconds: 0, unused: Unused::default() };
    let page = picture::page(&traffic, &[outcome]);
    assert_eq!(page.matches("<svg").count(), 3);
    assert!(page.contains("&lt;b&gt;") && !page.contains("<b>") && !page.contains("<script") && !page.contains("NaN"));
    assert!(page.contains("2026-11-01T19:00:00Z") && page.contains("prefers-color-scheme: dark"));
}

fn any_request() -> impl Strategy<Value = Request> {
    let numbers = (0.0..9_000.0, 0_u64..3_000, 0_u64..600, 0.0..1.0, prop::option::of(0_u64..800));
    (numbers, 0_usize..4, 0_u64..20_000, prop::option::of(0_u64..60), 0_u32..30, 0_u32..4).prop_map(
        |((at, input, output, cached, cap), class, millis, deadline, model, consumer)| Request {
            model: u32::from(model == 0),
            consumer: (consumer > 0).then_some(consumer + 1),
            class: Class::ALL.get(class).copied(),
            usage: Usage { input, output, cached_input: (input as f64 * cached) as u64, ..Usage::default() },
            cap: cap.map(|cap| cap.max(output)),
            took: (millis > 100).then(|| Duration::from_millis(millis)),
            deadline: deadline.map(Duration::from_secs),
            ..request(at)
        },
    )
}

fn sum(outcome: &Outcome, of: impl Fn(&Figures) -> f64) -> f64 {
    outcome.hours.iter().map(|hour| of(&hour.figures)).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn every_request_has_one_end_and_sums_add_up(
        mut requests in prop::collection::vec(any_request(), 1..200),
        ahead: bool,
        savings: bool,
        foreign in 0.0..0.5,
        off in -0.5..0.5,
        limit in prop::option::of(0_u64..20_000),
        seed: u64,
    ) {
        requests.sort_by_key(|request| request.at);
        let unknown = requests.iter().filter(|request| request.model == 1).count() as u64;
        let mut changes = vec!["pools.pool.patience={ interactive = \"2s\", standard = \"10s\", batch = \"5m\" }"];
        changes.extend(ahead.then_some("pools.pool.spill=ahead"));
        changes.extend(savings.then_some("pools.pool.prefer=savings"));
        if !ahead { changes.clear(); }
        let limits = limit.map(|limit| (TargetId { backend: "paid".into(), deployment: "m".into() }, limit)).into_iter().collect();
        let assumptions = Assumptions { foreign, off, limits, seed };
        let all = outcome(requests.clone(), &changes, &assumptions);
        let total = &all.total;
        prop_assert_eq!(total.requests + unknown, requests.len() as u64);
        prop_assert_eq!(all.unknown_models.iter().map(|(_, count)| count).sum::<u64>(), unknown);
        prop_assert_eq!(total.tiers.iter().map(|tier| tier.requests).sum::<u64>() + total.refused, total.requests);
        prop_assert!(limit.is_some() || total.refused == 0);
        prop_assert!(total.spilled_requests <= total.requests && total.missed_deadlines <= total.deadlines);
        let tiers: f64 = total.tiers.iter().map(|tier| tier.cost_usd).sum();
        prop_assert!(close(tiers, total.cost_usd()), "{} {}", tiers, total.cost_usd());
        prop_assert!(close(sum(&all, |hour| hour.by_use_usd), total.by_use_usd));
        prop_assert!(close(sum(&all, |hour| hour.pay_as_you_go_usd), total.pay_as_you_go_usd));
        prop_assert_eq!(sum(&all, |hour| hour.requests as f64), total.requests as f64);
        prop_assert!(total.by_use_usd <= total.pay_as_you_go_usd + 1e-9);
        let busy = total.ptu_utilisation.unwrap_or(0.0);
        prop_assert!((-1e-9..=1.0 + 1e-9).contains(&busy), "{}", busy);
        let again = outcome(requests, &changes, &assumptions);
        prop_assert_eq!(&again.total, total);
    }
}
