//! Prices per hour that are divided by shares.

use std::path::Path;

use spillway_plugins::prices::Money;
use spillway_plugins::tokens::{Metered, Usage};

use super::super::by_share::PricesByShare;
use super::super::reconcile::{BilledAs, reconcile};
use super::super::report_database::ReportDatabase;
use super::super::rollup::HOUR;
use super::super::row::Row;
use super::super::usage::{UsageQuery, UsageRow, usage};
use super::{known, place, report, row, schema, writer, writer_with};
use crate::config::{Config, Payer, PriceByShare, Secrets};
use crate::ledger::Cost;

/// Sunday, 2026-11-01, 0:00 UTC.
pub(super) const FIRST: i64 = 1_793_491_200_000;
const HOURS: i64 = 30 * 24;

const CONFIG: &str = "[server]\nlisten = [\"127.0.0.1:0\"]\nstate_dir = \"/tmp\"\n
[[backends]]\nname = \"b\"\nkind = \"azure-openai\"\nurl = \"https://contoso.openai.azure.com\"\ndeployments = { m = \"ptu\" }
[backends.prices.ptu]\nusd_per_hour = 7.53
[backends.ptu.ptu]\ntokens_per_minute = 100_000\ncost = \"by-share\"
shares = [{ consumer = \"crm\", percent = 40 }, { group = \"research\", percent = 25 }]
[[pools]]\nname = \"p\"\nmodels = [\"m\"]\nmembers = [{ backend = \"b\" }]
[[groups]]\nname = \"research\"\nlimits = { requests_per_minute = 9 }
[[consumers]]\nname = \"crm\"\ngroup = \"research\"\nkeys = [{ sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a01\" }]
[[consumers]]\nname = \"lab\"\ngroup = \"research\"\nkeys = [{ sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a02\" }]
[[consumers]]\nname = \"field\"\ngroup = \"research\"\nkeys = [{ sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a03\" }]
[[consumers]]\nname = \"other\"\nkeys = [{ sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a04\" }]
";

/// To whole cents.
pub(super) fn cents(usd: f64) -> i64 {
    (usd * 100.0).round() as i64
}

pub(super) fn prices() -> PricesByShare {
    let config = Config::parse(CONFIG, Path::new("t.toml"), &Secrets::default()).unwrap();
    let prices = PricesByShare::default();
    prices.set(&config.prices_by_share);
    prices
}

/// Adds what each owes for an hour, in dollars, worked out here a second time: crm, lab, field, other, nobody. `tokens`: what
/// the first four used in it.
pub(super) fn owe_hour(owed: &mut [f64; 5], tokens: [u64; 4]) {
    owed[0] += 7.53 * 0.4;
    match (tokens[1], tokens[2]) {
        (0, 0) => [1, 2].into_iter().for_each(|who| owed[who] += 7.53 * 0.25 / 2.0),
        (lab, field) => {
            [(1, lab), (2, field)].into_iter().for_each(|(who, used)| owed[who] += 7.53 * 0.25 * used as f64 / (lab + field) as f64)
        }
    }
    owed[if tokens[3] > 0 { 3 } else { 4 }] += 7.53 * 0.35;
}

pub(super) fn cost(rows: &[UsageRow], consumer: Option<&str>) -> f64 {
    rows.iter().filter(|row| row.by["consumer"].as_str() == consumer).map(|row| row.cost_usd.unwrap()).sum()
}

#[test]
fn a_month_by_shares_is_right_to_the_cent() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::parse(CONFIG, Path::new("t.toml"), &Secrets::default()).unwrap();
    let mut writer = writer_with(folder.path(), prices());
    let mut rng = fastrand::Rng::with_seed(20_261_101);
    let hour = Money::from_usd(7.53).unwrap();
    let mut owed = [0.0; 5];
    for number in 0..HOURS {
        writer.keep_house_at(FIRST + number * HOUR + 1);
        let mut tokens = [0u64; 4];
        let rows: Vec<Row> = (0..rng.i64(0..6))
            .map(|call| {
                let who = rng.usize(..4);
                let usage = Usage { input: rng.u64(1..50_000), output: rng.u64(1..4000), ..Usage::default() };
                tokens[who] += usage.input + usage.output;
                let name = ["crm", "lab", "field", "other"][who];
                let at = FIRST + number * HOUR + call * 60_000;
                Row { place: place("ptu", None), metered: Metered::reported(usage), ..row(at, name, 0, 0, Cost::Hourly(hour)) }
            })
            .collect();
        writer.write(&rows);
        owe_hour(&mut owed, tokens);
    }
    assert!(owed.iter().all(|usd| *usd > 300.0), "every case occurs: {owed:?}");
    let all = FIRST + HOURS * HOUR;
    let bill = format!(
        "Date,ResourceId,MeterName,Quantity,UnitOfMeasure,CostInBillingCurrency,AdditionalInfo\n\
         2026-11-01,/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/contoso,Provisioned Managed Global Unit,\
         {HOURS},1/Hour,{},\"{{\"\"deploymentName\"\":\"\"ptu\"\"}}\"\n2026-11-30,/x/accounts/contoso,Provisioned Managed Global Unit,0,1/Hour,0,\"{{\"\"deploymentName\"\":\"\"ptu\"\"}}\"\n",
        HOURS as f64 * 7.53
    );
    for _ in 0..2 {
        let rows = report(folder.path(), FIRST, all, "consumer");
        for (who, name) in [Some("crm"), Some("lab"), Some("field"), Some("other"), None].into_iter().enumerate() {
            assert_eq!(cents(cost(&rows, name)), cents(owed[who]), "{name:?}");
        }
        let whole: f64 = rows.iter().map(|row| row.cost_usd.unwrap()).sum();
        assert_eq!(cents(whole), cents(HOURS as f64 * 7.53), "hours without use are in it");
        let by_day: f64 = report(folder.path(), FIRST, all, "day,consumer,model").iter().map(|row| row.cost_usd.unwrap()).sum();
        assert_eq!(cents(by_day), cents(whole));
        let only = |name: &str| {
            let query = UsageQuery { since: FIRST, until: all, by: Vec::new(), consumer: Some(name.to_owned()) };
            usage(folder.path(), &query).unwrap().iter().map(|row| row.cost_usd.unwrap()).sum::<f64>()
        };
        assert_eq!(cents(only("crm")), cents(owed[0]), "what a consumer is told of itself");
        let of_node = |_, _| Ok(ReportDatabase::of_node(folder.path())?);
        let compared = reconcile(&config, bill.as_bytes(), of_node).unwrap();
        let [line] = &compared.costs[..] else { panic!("{compared:#?}") };
        assert_eq!((line.billed_as, cents(line.billed_cost)), (BilledAs::Provisioned, cents(line.ledger_cost_usd)));
        while writer.keep_house_at(all + 2 * HOUR) {}
    }
}

#[test]
fn parts_of_an_hour_add_up_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer_with(folder.path(), prices());
    writer.keep_house_at(FIRST);
    let hourly = Cost::Hourly(Money::from_usd(7.53).unwrap());
    let at =
        |minute: i64, name: &str, tokens: u64| Row { place: place("ptu", None), ..row(FIRST + minute * 60_000, name, tokens, 0, hourly) };
    writer.write(&[at(10, "crm", 300), at(40, "crm", 100), at(50, "other", 5)]);
    let sum = |from: i64, to: i64| {
        report(folder.path(), FIRST + from * 60_000, FIRST + to * 60_000, "consumer").iter().map(|row| row.cost_usd.unwrap()).sum::<f64>()
    };
    for cut in [1, 9, 11, 30, 45, 55] {
        assert_eq!(cents(sum(0, cut) + sum(cut, 60)), 753, "cut after {cut} minutes");
    }
    let rows = report(folder.path(), FIRST, FIRST + 30 * 60_000, "consumer");
    assert_eq!(cents(cost(&rows, Some("crm"))), cents(7.53 * 0.4 * 0.75), "three quarters of its tokens");
    assert_eq!(cents(cost(&rows, Some("lab"))), cents(7.53 * 0.125), "it used nothing in this hour");
    assert_eq!(cost(&rows, Some("other")), 0.0, "its use comes later");
}

#[test]
fn a_change_counts_from_its_hour_on() {
    let folder = tempfile::tempdir().unwrap();
    let prices = prices();
    let mut writer = writer_with(folder.path(), prices.clone());
    writer.keep_house_at(FIRST);
    let ten = |percent: f64| {
        let payers = vec![Payer { percent, consumers: vec!["crm".to_owned()] }];
        [PriceByShare { backend: "b".into(), deployment: "ptu".to_owned(), per_hour: Money(10 * Money::USD.0), payers }]
    };
    for (offset, of) in [(HOUR, &ten(100.0)[..]), (2 * HOUR, &ten(50.0)[..]), (2 * HOUR + 1, &ten(70.0)[..]), (3 * HOUR, &[][..])] {
        prices.set(of);
        writer.keep_house_at(FIRST + offset);
    }
    // Another process has taken over: this one keeps no more.
    prices.set(&ten(90.0));
    prices.leave();
    writer.keep_house_at(FIRST + 4 * HOUR);
    let of_hour = |hour: i64| {
        let rows = report(folder.path(), FIRST + hour * HOUR, FIRST + (hour + 1) * HOUR, "consumer,backend,deployment,hour");
        let crm = rows.iter().find(|row| row.by["consumer"] == "crm").cloned();
        crm.map(|row| {
            assert_eq!((&row.by["backend"], &row.by["deployment"]), (&"b".into(), &"ptu".into()));
            assert_eq!(row.by["hour"], format!("2026-11-01T0{hour}:00:00Z"));
            assert_eq!((row.requests, row.paid_usd), (0, Some(0.0)));
            cents(row.cost_usd.unwrap())
        })
    };
    assert_eq!([0, 1, 2, 3, 4].map(of_hour), [Some(301), Some(1000), Some(700), None, None]);
    // The rule goes when the hour's sums go.
    while writer.keep_house_at(FIRST + 500 * 24 * HOUR) {}
    assert_eq!([0, 1].map(of_hour), [None, None]);
}

#[test]
fn a_ledger_without_the_table_is_read_as_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    writer.write(&[row(FIRST, "x", 1, 0, Cost::Hourly(Money(Money::USD.0))), row(FIRST, "y", 1, 0, known(1))]);
    drop(writer);
    let connection = rusqlite::Connection::open(folder.path().join(schema::FILE)).unwrap();
    connection.execute_batch("DROP TABLE prices_by_share").unwrap();
    let rows = report(folder.path(), FIRST, FIRST + HOUR, "consumer");
    assert_eq!(cost(&rows, Some("x")), 1.0);
}
