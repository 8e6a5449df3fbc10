//! Runs that shadow a log.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use spillway_plugins::limits::LimitKind;
use spillway_plugins::prices::Money;
use spillway_plugins::retry::ThrottleScope;
use spillway_plugins::tokens::Usage;

use super::{CONFIG, Made, request, scenario};
use crate::balance::circuit::Failure;
use crate::simulate::outcome::Outcome;
use crate::simulate::replay::shadow;
use crate::simulate::request::Request;
use crate::simulate::seen::{Answer, Said, Seen, SeenEnd, place_name};
use crate::simulate::shadow::compared::Comparison;
use crate::simulate::world::Assumptions;

/// Numbers of names in the traffic: see [`names`].
const PTU: u32 = 2;
const PAID: u32 = 3;
const NOWHERE: u32 = 4;
const CRM: u32 = 5;
const GUEST: u32 = 6;

fn names() -> Vec<&'static str> {
    let place = |backend: &str| -> &'static str { place_name(backend, "m").leak() };
    vec!["m", "unknown", place("ptu"), place("paid"), place("nowhere"), "crm", "guest"]
}

fn shadowed(requests: Vec<Request>, more: &str) -> (Outcome, Comparison) {
    let text = format!("{CONFIG}[[consumers]]\nname = \"crm\"\nkeys = [{{ sha256 = \"{}\" }}]\n{more}\n", "ab".repeat(32));
    let mut trace = Made { requests: requests.into_iter(), names: names() };
    let (_, outcome, comparison) = shadow(&mut trace, scenario(&text, &[]), &Assumptions::default()).unwrap();
    (outcome, comparison)
}

fn answer(place: u32, said: Said) -> Answer {
    Answer { place, took: Duration::from_millis(20), said, used: None }
}

fn came(seconds: f64, end: SeenEnd, answers: &[Answer]) -> Request {
    let status = match end {
        SeenEnd::Served => Some(200),
        SeenEnd::NoBackend | SeenEnd::Limit(..) => Some(429),
        _ => Some(503),
    };
    let seen = Seen { answers: answers.iter().cloned().collect(), end, status, is_ours: true, ..Seen::default() };
    Request { seen: Some(Arc::new(seen)), ..request(seconds) }
}

const BUSY: Said = Said::Throttled(Some(Duration::from_secs(5)), ThrottleScope::Deployment);

#[test]
fn what_a_backend_answered_is_believed_and_its_throttle_kept() {
    let spilled = [answer(PTU, BUSY), answer(PAID, Said::Served(None))];
    let (outcome, comparison) = shadowed(
        vec![
            came(0.0, SeenEnd::Served, &spilled),
            // While the throttle lasts, the PTU is not asked; after it, it is.
            came(1.0, SeenEnd::Served, &spilled[1..]),
            came(6.0, SeenEnd::Served, &[answer(PTU, Said::Served(None))]),
            // The log says something else than the config would do.
            came(7.0, SeenEnd::Served, &spilled[1..]),
        ],
        "",
    );
    assert_eq!((comparison.compared, comparison.equal), (4, 3));
    let different = &comparison.differences[0];
    assert_eq!((different.log.as_str(), different.shadow.as_str()), ("served by paid/m", "served by ptu/m"));
    assert_eq!((outcome.total.spilled_requests, outcome.total.ptu_429s), (2, 1));
}

#[test]
fn a_success_that_says_nothing_is_left_closes_its_deployment() {
    let last = answer(PTU, Said::Served(Some(Duration::from_secs(30))));
    let (_, comparison) = shadowed(
        vec![
            came(0.0, SeenEnd::Served, &[last]),
            came(0.01, SeenEnd::Served, &[answer(PTU, Said::Served(None))]),
            came(1.0, SeenEnd::Served, &[answer(PAID, Said::Served(None))]),
        ],
        "",
    );
    assert_eq!((comparison.equal, comparison.compared), (3, 3), "{:?}", comparison.differences);
}

#[test]
fn limits_refuse_by_name_and_cached_answers_count_as_requests() {
    let of = |consumer: u32, request: Request| Request { consumer: Some(consumer), ..request };
    let served = || came(0.0, SeenEnd::Served, &[answer(PTU, Said::Served(None))]);
    let refused = SeenEnd::Limit("consumer 'crm'".into(), Some(LimitKind::Requests));
    let (_, comparison) = shadowed(
        vec![
            of(CRM, came(0.0, SeenEnd::Unasked, &[])),
            of(CRM, served()),
            of(CRM, came(0.0, refused, &[])),
            of(GUEST, served()),
            of(CRM, Request { at: request(61.0).at, ..served() }),
        ],
        "limits = { requests_per_minute = 2 }",
    );
    assert_eq!((comparison.equal, comparison.compared), (4, 4), "{:?}", comparison.differences);
    let limit = &comparison.limits[0];
    assert_eq!((&*limit.owner, limit.limit, limit.refused, limit.answered), ("consumer 'crm'", "requests_per_minute", 1, 0));
    assert_eq!(comparison.unknown_consumers, [("guest".into(), 1)]);
    let (_, comparison) = shadowed(vec![of(CRM, served())], "models = []");
    assert_eq!((comparison.not_allowed, comparison.requests), (1, 1));
}

fn any_said() -> impl Strategy<Value = Said> {
    let wait = prop::option::of((0_u64..20_000).prop_map(Duration::from_millis));
    prop_oneof![
        4 => Just(Said::Served(None)),
        1 => wait.clone().prop_map(Said::Served),
        2 => wait.clone().prop_map(|wait| Said::Throttled(wait, ThrottleScope::Quota)),
        1 => wait.prop_map(|wait| Said::Failed(Failure::Status(http::StatusCode::BAD_GATEWAY), wait)),
        1 => Just(Said::Passed),
        1 => Just(Said::Cancelled),
    ]
}

fn any_came() -> impl Strategy<Value = Request> {
    let end = prop_oneof![
        Just(SeenEnd::Served),
        Just(SeenEnd::NoBackend),
        Just(SeenEnd::Failed),
        Just(SeenEnd::Unasked),
        Just(SeenEnd::Unknown),
        Just(SeenEnd::Limit("x".into(), None))
    ];
    let answers = prop::collection::vec((prop::sample::select(vec![PTU, PAID, NOWHERE]), any_said()), 0..4);
    (0.0..300.0, end, answers, prop::option::of(prop::sample::select(vec![CRM, GUEST])), 0_u64..2_000, any::<bool>()).prop_map(
        |(seconds, end, answers, consumer, tokens, is_known)| {
            let answers: Vec<Answer> = answers.into_iter().map(|(place, said)| answer(place, said)).collect();
            let usage = Usage { input: tokens, output: tokens / 2, ..Usage::default() };
            Request { consumer, usage, cap: Some(tokens), model: u32::from(!is_known), ..came(seconds, end, &answers) }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn every_shadowed_request_has_one_end(mut requests in prop::collection::vec(any_came(), 1..150), limit in 1_u64..20_000) {
        requests.sort_by_key(|request| request.at);
        let known = requests.iter().filter(|request| request.model == 0).count() as u64;
        let ends = |end: &SeenEnd| requests.iter().filter(|request| request.model == 0 && request.seen.as_ref().unwrap().end == *end).count() as u64;
        let (unasked, unknown) = (ends(&SeenEnd::Unasked), ends(&SeenEnd::Unknown));
        let left = requests.iter().flat_map(|request| &request.seen.as_ref().unwrap().answers).filter(|answer| answer.said == Said::Cancelled).count() as u64;
        let (outcome, comparison) = shadowed(requests, &format!("limits = {{ tokens_per_minute = {limit}, concurrent_requests = 3 }}"));
        prop_assert_eq!(comparison.requests, known);
        prop_assert_eq!(comparison.log.known, known - unknown);
        let limited: u64 = comparison.limits.iter().map(|limit| limit.refused).sum();
        let served: u64 = comparison.deployments.iter().map(|deployment| deployment.requests).sum();
        prop_assert_eq!(served, outcome.total.tiers.iter().map(|tier| tier.requests).sum::<u64>());
        // What is left was answered without a backend, or its caller left.
        let rest = known - limited - served - outcome.total.refused;
        prop_assert!(rest <= unasked + left, "{} {} {}", rest, unasked, left);
        prop_assert!(comparison.equal <= comparison.compared && comparison.compared <= comparison.log.known);
        prop_assert_eq!(comparison.log.cost_usd, Money::default().usd());
    }
}
