//! Prices per hour that are divided by shares, over all nodes.

use std::path::Path;

use spillway_plugins::prices::Money;
use spillway_plugins::tokens::{Metered, Usage};

use super::super::all_nodes::{self, AllNodes};
use super::super::by_share::PricesByShare;
use super::super::rollup::HOUR;
use super::super::row::Row;
use super::super::ship::rounds::{Round, Rounds};
use super::super::usage::UsageQuery;
use super::super::writer::Writer;
use super::by_share::{FIRST, cents, cost, owe_hour, prices};
use super::{place, row, writer_with};
use crate::config::{Payer, PriceByShare, ShipRules, ShipTo};
use crate::ledger::Cost;
use crate::ledger::ship::open_place;

const HOURS: i64 = 7 * 24;

struct Node {
    writer: Writer,
    rounds: Rounds,
}

impl Node {
    fn new(base: &Path, name: &str, prices: PricesByShare) -> Self {
        let (state, place) = (base.join(name), base.join("place"));
        std::fs::create_dir_all(&state).unwrap();
        std::fs::create_dir_all(&place).unwrap();
        let (every, retention) = (std::time::Duration::from_secs(60), std::time::Duration::from_secs(100 * 86_400));
        let rules = ShipRules { to: ShipTo::Folder(place.clone()), rows: false, every, retention };
        let place = open_place(&ShipTo::Folder(place), None).unwrap();
        let rounds = Rounds::new(state.clone(), name.to_owned(), "host".to_owned(), rules, place);
        Node { writer: writer_with(&state, prices), rounds }
    }

    fn ship(&mut self, now: i64) -> Round {
        self.rounds.round(now).unwrap()
    }
}

fn read(base: &Path) -> AllNodes {
    let mut place = open_place(&ShipTo::Folder(base.join("place")), None).unwrap();
    all_nodes::read(&mut *place, FIRST, FIRST + HOURS * HOUR, FIRST + HOURS * HOUR).unwrap()
}

fn query(by: &str) -> UsageQuery {
    UsageQuery { since: FIRST, until: FIRST + HOURS * HOUR, by: UsageQuery::dimensions(by).unwrap(), consumer: None }
}

fn used(at: i64, name: &str, tokens: u64) -> Row {
    let usage = Usage { input: tokens, ..Usage::default() };
    let hourly = Cost::Hourly(Money::from_usd(7.53).unwrap());
    Row { place: place("ptu", None), metered: Metered::reported(usage), ..row(at, name, 0, 0, hourly) }
}

fn ten(percent: f64) -> Vec<PriceByShare> {
    let payers = vec![Payer { percent, consumers: vec!["crm".to_owned()] }];
    vec![PriceByShare { backend: "b".into(), deployment: "ptu".to_owned(), per_hour: Money(10 * Money::USD.0), payers }]
}

#[test]
fn a_week_of_three_nodes_by_shares_is_right_to_the_cent_and_paid_once() {
    let base = tempfile::tempdir().unwrap();
    let mut nodes = ["a", "b", "c"].map(|name| Node::new(base.path(), name, prices()));
    let mut rng = fastrand::Rng::with_seed(20_261_130);
    let mut owed = [0.0; 5];
    for number in 0..HOURS {
        let now = FIRST + number * HOUR;
        let mut tokens = [0u64; 4];
        for (at, node) in nodes.iter_mut().enumerate() {
            // The third one is down every second hour.
            if at == 2 && number % 2 == 0 {
                continue;
            }
            node.writer.keep_house_at(now + 1);
            let rows: Vec<Row> = (0..rng.i64(0..3))
                .map(|call| {
                    let (who, count) = (rng.usize(..4), rng.u64(1..50_000));
                    tokens[who] += count;
                    used(now + call * 60_000, ["crm", "lab", "field", "other"][who], count)
                })
                .collect();
            node.writer.write(&rows);
            node.ship(now + 1);
        }
        owe_hour(&mut owed, tokens);
    }
    assert!(owed.iter().all(|usd| *usd > 50.0), "every case occurs: {owed:?}");
    for _ in 0..2 {
        let all = read(base.path());
        assert!(all.sources.conflicts.is_empty() && all.sources.set_aside.is_empty(), "{:?}", all.sources);
        let rows = all.database.usage(&query("consumer")).unwrap();
        for (who, name) in [Some("crm"), Some("lab"), Some("field"), Some("other"), None].into_iter().enumerate() {
            assert_eq!(cents(cost(&rows, name)), cents(owed[who]), "{name:?}");
        }
        let whole: f64 = rows.iter().map(|row| row.cost_usd.unwrap()).sum();
        assert_eq!(cents(whole), cents(HOURS as f64 * 7.53), "once for all nodes, hours without use included");
        let by_day: f64 = all.database.usage(&query("day,consumer,model")).unwrap().iter().map(|row| row.cost_usd.unwrap()).sum();
        assert_eq!(cents(by_day), cents(whole));
        // The same after hours are summed up and shipped once more.
        let end = FIRST + HOURS * HOUR;
        for node in &mut nodes {
            while node.writer.keep_house_at(end + 2 * HOUR) {}
            node.ship(end + 2 * HOUR);
        }
    }
}

#[test]
fn an_hour_without_use_is_shipped_and_again_only_if_its_shares_change() {
    let base = tempfile::tempdir().unwrap();
    let prices = PricesByShare::default();
    prices.set(&ten(40.0));
    let mut node = Node::new(base.path(), "a", prices.clone());
    node.writer.keep_house_at(FIRST);
    assert_eq!((node.ship(FIRST).files, node.ship(FIRST + 1).files), (1, 0));
    let crm = || cents(cost(&read(base.path()).database.usage(&query("consumer")).unwrap(), Some("crm")));
    assert_eq!(crm(), 400);
    // As after a restart: the same is kept once more.
    prices.set(&ten(50.0));
    prices.set(&ten(40.0));
    node.writer.keep_house_at(FIRST + 1);
    assert_eq!(node.ship(FIRST + 2).files, 0);
    prices.set(&ten(70.0));
    node.writer.keep_house_at(FIRST + 3);
    assert_eq!((node.ship(FIRST + 4).files, crm()), (1, 700));
    prices.set(&[]);
    node.writer.keep_house_at(FIRST + 5);
    assert_eq!(node.ship(FIRST + 6).files, 1);
    assert!(read(base.path()).database.usage(&query("consumer")).unwrap().is_empty(), "it has neither use nor shares");
}

#[test]
fn nodes_that_divide_an_hour_differently_are_named_and_the_hour_is_paid_once() {
    let base = tempfile::tempdir().unwrap();
    for (name, percent) in [("a", 40.0), ("b", 60.0)] {
        let prices = PricesByShare::default();
        prices.set(&ten(percent));
        let mut node = Node::new(base.path(), name, prices);
        node.writer.keep_house_at(FIRST);
        node.ship(FIRST);
    }
    let all = read(base.path());
    let rows = all.database.usage(&query("consumer")).unwrap();
    assert_eq!(cents(rows.iter().map(|row| row.cost_usd.unwrap()).sum()), 1000);
    assert_eq!(cents(cost(&rows, Some("crm"))), 600);
    let [conflict] = &all.sources.conflicts[..] else { panic!("{:?}", all.sources.conflicts) };
    assert!(conflict.node == "a" && conflict.what.contains("ptu at b by other shares"), "{conflict:?}");
}
