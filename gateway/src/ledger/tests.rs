use std::path::Path;

use serde_json::{Value, json};
use spillway_plugins::api::Api;
use spillway_plugins::limits::Class;
use spillway_plugins::prices::Money;
use spillway_plugins::service_tier::ServiceTier;
use spillway_plugins::tokens::{Metered, Usage};

use super::rollup::HOUR;
use super::row::Row;
use super::usage::{UsageQuery, UsageRow, usage};
use super::*;

mod bill;
mod by_share;
mod by_share_nodes;
mod month;
mod removed;
mod shipping;

/// A time in the past: Tuesday, 2026-11-10, 12:00 UTC.
const NOON: i64 = 1_794_312_000_000;

fn row(at: i64, consumer: &str, input: u64, output: u64, cost: Cost) -> Row {
    Row {
        at,
        at_us: 0,
        request: b"id".as_slice().into(),
        attempt: 1,
        answered: true,
        consumer: Some(consumer.into()),
        tags: None,
        api: Api::Chat,
        place: place("d", None),
        outcome: "ok",
        status: Some(200),
        metered: Metered::reported(Usage { input, output, ..Usage::default() }),
        service_tier: None,
        cost,
        cost_estimated: false,
        cache: None,
        first_us: None,
        us: 1,
        class: Class::Batch,
        cap: None,
        reserved: Some(3),
        waited_us: 0,
        began_us: 5,
    }
}

fn place(deployment: &str, spilled_from: Option<&str>) -> Arc<MemberLabels> {
    Arc::new(MemberLabels {
        model: "m".into(),
        pool: "p".into(),
        backend: "b".into(),
        deployment: deployment.into(),
        tier: 1,
        spilled_from: spilled_from.map(Into::into),
    })
}

fn rules(folder: &Path) -> LedgerRules {
    LedgerRules {
        folder: folder.to_owned(),
        durability: Durability::Fast,
        required: false,
        retention: Duration::from_secs(30 * 86_400),
        hours: Duration::from_secs(400 * 86_400),
        may_grow: true,
        refusals: false,
        ship: None,
    }
}

/// A writer whose thread never runs: a test calls its steps.
fn writer(folder: &Path) -> Writer {
    writer_with(folder, PricesByShare::default())
}

/// The same, with prices that are divided by shares.
fn writer_with(folder: &Path, prices: PricesByShare) -> Writer {
    let metrics = crate::telemetry::metrics::Metrics::new().unwrap().ledger;
    let database = Database::open(&rules(folder)).unwrap();
    Writer::new(rules(folder), Some(database), Arc::new(AtomicBool::new(true)), metrics, Clock::new(), prices)
}

fn report(folder: &Path, since: i64, until: i64, by: &str) -> Vec<UsageRow> {
    usage(folder, &UsageQuery { since, until, by: UsageQuery::dimensions(by).unwrap(), consumer: None }).unwrap()
}

fn tokens(folder: &Path, since: i64, until: i64) -> i64 {
    report(folder, since, until, "model").iter().map(|row| row.input_tokens).sum()
}

fn known(picodollars: u64) -> Cost {
    Cost::Known(Money(picodollars))
}

#[test]
fn sums_by_the_hour_tell_the_same_as_single_attempts() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let rows: Vec<Row> = (0..200).map(|n| row(NOON + n * HOUR / 10, ["x", "y"][(n % 2) as usize], n as u64, 1, known(1))).collect();
    writer.write(&rows);
    let ranges: Vec<(i64, i64)> =
        (0..25).flat_map(|a| (a..25).map(move |b| (NOON + a * HOUR * 7 / 10, NOON + b * HOUR * 9 / 10))).collect();
    let before: Vec<_> = ranges.iter().map(|(since, until)| report(folder.path(), *since, *until, "consumer,hour")).collect();
    while writer.keep_house_at(NOON + 30 * HOUR) {}
    let after: Vec<_> = ranges.iter().map(|(since, until)| report(folder.path(), *since, *until, "consumer,hour")).collect();
    assert_eq!(before, after);
    assert_eq!(tokens(folder.path(), 0, NOON * 2), 199 * 100);
}

#[test]
fn a_late_attempt_is_added_to_its_hour() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    writer.write(&[row(NOON, "x", 10, 0, known(5))]);
    while writer.keep_house_at(NOON + 5 * HOUR) {}
    // It began at noon and took five hours; another in an hour that had none.
    writer.write(&[row(NOON + 1, "x", 7, 0, Cost::Unknown), row(NOON + HOUR, "y", 3, 0, known(1))]);
    assert_eq!(tokens(folder.path(), NOON, NOON + HOUR), 17);
    assert_eq!(tokens(folder.path(), 0, NOON * 2), 20);
    let rows = report(folder.path(), 0, NOON * 2, "consumer");
    assert_eq!((rows[0].requests, rows[0].unpriced_attempts, rows[0].cost_usd), (2, 1, Some(5e-12)));
}

#[test]
fn what_is_too_old_is_forgotten_and_its_sums_stay() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let rows: Vec<Row> = (0..12_000).map(|n| row(NOON + n, "x", 1, 0, known(1))).collect();
    writer.write(&rows);
    let day = 24 * HOUR;
    while writer.keep_house_at(NOON + 31 * day) {}
    let export = |folder: &Path| export::export(folder, 0, NOON * 2, export::Format::Csv, std::io::sink()).unwrap();
    assert_eq!((export(folder.path()), tokens(folder.path(), 0, NOON * 2)), (0, 12_000));
    while writer.keep_house_at(NOON + 401 * day) {}
    assert_eq!(tokens(folder.path(), 0, NOON * 2), 0);
}

#[test]
fn a_flat_price_is_shared_out_by_use() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let ptu = Cost::Hourly(Money(10 * Money::USD.0));
    writer.write(&[
        row(NOON, "x", 300, 0, ptu),
        row(NOON + 1, "y", 50, 50, ptu),
        row(NOON + HOUR, "x", 1, 0, ptu),
        row(NOON + HOUR, "y", 5, 5, known(Money::USD.0)),
    ]);
    for _ in 0..2 {
        let rows = report(folder.path(), 0, NOON * 2, "consumer");
        let cost = |at: usize| (rows[at].cost_usd.unwrap() * 1e9).round() / 1e9;
        // Three quarters of the first hour and all of the second; a quarter of the first, and what it paid.
        assert_eq!((cost(0), cost(1)), (17.5, 3.5));
        assert_eq!((rows[0].paid_usd, rows[1].paid_usd), (Some(0.0), Some(1.0)));
        let one = UsageQuery { since: 0, until: NOON * 2, by: Vec::new(), consumer: Some("y".to_owned()) };
        assert_eq!(usage(folder.path(), &one).unwrap()[0].cost_usd, Some(3.5), "others' use counts, though it isn't shown");
        while writer.keep_house_at(NOON + 9 * HOUR) {}
    }
}

#[test]
fn unknown_is_not_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let unknown = Row { metered: Metered::unknown(), answered: false, ..row(NOON, "x", 0, 0, Cost::Unknown) };
    let estimated =
        Row { metered: Metered::estimated(Usage { input: 4, output: 2, ..Usage::default() }), ..row(NOON, "y", 0, 0, Cost::Unknown) };
    writer.write(&[unknown, estimated]);
    let rows = report(folder.path(), 0, NOON * 2, "consumer");
    assert_eq!((rows[0].requests, rows[0].attempts, rows[0].unknown_attempts, rows[0].cost_usd), (0, 1, 1, None));
    assert_eq!((rows[1].estimated_tokens, rows[1].cost_usd), (6, None));
    assert_eq!(report(folder.path(), 0, NOON * 2, "tier,day,tag:x-team")[0].by["day"], "2026-11-10");
}

#[test]
fn a_clock_that_was_set_back_costs_no_row() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    for _ in 0..3 {
        writer.restart_counter();
        writer.write(&[row(NOON, "x", 1, 0, known(1)), row(NOON, "x", 1, 0, known(1))]);
    }
    assert_eq!(tokens(folder.path(), 0, NOON * 2), 6);
}

#[test]
fn a_newer_programs_ledger_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    schema::open(folder.path(), Durability::Fast).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = schema::open(folder.path(), Durability::Fast).unwrap_err();
    assert!(error.to_string().contains("newer version") && !error.is_corrupt());
}

/// Changes today's tables to those of format 2, as far as they differ.
const TO_2: &str = "
DROP VIEW attempts;
ALTER TABLE kinds RENAME TO kinds_3;
CREATE TABLE kinds (kind INTEGER PRIMARY KEY, api TEXT NOT NULL, model TEXT NOT NULL, pool TEXT NOT NULL, backend TEXT NOT NULL,
    deployment TEXT NOT NULL, tier INTEGER NOT NULL, outcome TEXT NOT NULL, source TEXT NOT NULL,
    UNIQUE (api, model, pool, backend, deployment, tier, outcome, source)) STRICT;
INSERT INTO kinds SELECT kind, api, model, pool, backend, deployment, tier, outcome, source FROM kinds_3;
DROP TABLE kinds_3;
ALTER TABLE hours RENAME TO hours_3;
CREATE TABLE hours (hour INTEGER NOT NULL, consumer TEXT NOT NULL, tags TEXT NOT NULL, api TEXT NOT NULL, model TEXT NOT NULL,
    pool TEXT NOT NULL, backend TEXT NOT NULL, deployment TEXT NOT NULL, tier INTEGER NOT NULL, requests INTEGER NOT NULL,
    attempts INTEGER NOT NULL, input INTEGER NOT NULL, output INTEGER NOT NULL, cached_input INTEGER NOT NULL,
    cache_write INTEGER NOT NULL, reasoning INTEGER NOT NULL, input_audio INTEGER NOT NULL, output_audio INTEGER NOT NULL,
    estimated INTEGER NOT NULL, unknown INTEGER NOT NULL, cost INTEGER NOT NULL, unpriced INTEGER NOT NULL, hour_price INTEGER,
    PRIMARY KEY (hour, consumer, tags, api, model, pool, backend, deployment, tier)) STRICT, WITHOUT ROWID;
INSERT INTO hours SELECT hour, consumer, tags, api, model, pool, backend, deployment, tier, requests, attempts, input, output,
    cached_input, cache_write, reasoning, input_audio, output_audio, estimated, unknown, cost, unpriced, hour_price FROM hours_3;
DROP TABLE hours_3;
ALTER TABLE entries DROP COLUMN cap;
ALTER TABLE entries DROP COLUMN reserved;
ALTER TABLE entries DROP COLUMN waited_us;
ALTER TABLE entries DROP COLUMN began_us;
CREATE VIEW attempts AS SELECT * FROM entries JOIN kinds USING (kind);
PRAGMA user_version = 2;
";
/// From there to those of format 1: the view's columns, in one table.
const TO_1: &str = "
CREATE TABLE copy AS SELECT * FROM attempts;
DROP VIEW attempts;
DROP TABLE entries;
DROP TABLE kinds;
ALTER TABLE copy DROP COLUMN kind;
ALTER TABLE copy RENAME TO attempts;
PRAGMA user_version = 1;
";

#[test]
fn a_ledger_of_an_earlier_format_is_taken_over() {
    for (version, sql) in [(2, TO_2.to_owned()), (1, format!("{TO_2}{TO_1}"))] {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(folder.path());
        writer.write(&[row(NOON, "x", 5, 2, known(7)), row(NOON + 1, "y", 1, 1, Cost::Unknown)]);
        while writer.keep_house_at(NOON + 5 * HOUR) {}
        writer.write(&[row(NOON + 9 * HOUR, "x", 5, 2, Cost::Hourly(Money(7)))]);
        let by = "consumer,model,deployment,service_tier";
        let before = report(folder.path(), 0, NOON * 2, by);
        drop(writer);
        let old = rusqlite::Connection::open(folder.path().join(schema::FILE)).unwrap();
        old.execute_batch(&sql).unwrap();
        drop(old);
        let query = UsageQuery { since: 0, until: NOON * 2, by: Vec::new(), consumer: None };
        let error = usage(folder.path(), &query).unwrap_err().to_string();
        assert!(error.contains(&format!("format {version}")) && error.contains("when the gateway starts"), "{error}");
        let mut writer = self::writer(folder.path());
        assert_eq!(report(folder.path(), 0, NOON * 2, by), before, "from {version}");
        writer.write(&[row(NOON + 2, "x", 5, 2, known(7)), row(NOON + 9 * HOUR, "x", 5, 2, known(7))]);
        assert_eq!(tokens(folder.path(), 0, NOON * 2), 21);
        let rows = exported(folder.path());
        assert_eq!((&rows[0]["class"], &rows[0]["began_us"], &rows[0]["service_tier"]), (&Value::Null, &Value::Null, &Value::Null));
        assert_eq!((&rows[2]["class"], &rows[2]["began_us"]), (&json!("batch"), &json!(5)));
    }
}

/// Every attempt in the ledger.
fn exported(folder: &Path) -> Vec<Value> {
    let mut lines = Vec::new();
    export::export(folder, 0, i64::MAX >> 20, export::Format::JsonLines, &mut lines).unwrap();
    lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(|line| serde_json::from_slice(line).unwrap()).collect()
}

#[test]
fn every_way_to_be_served_has_its_lines() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    let at = |offset: i64, place: Arc<MemberLabels>, service_tier: Option<ServiceTier>, cost: Cost| Row {
        place,
        service_tier,
        cap: Some(100),
        waited_us: 7,
        ..row(NOON + offset, "x", 10, 1, cost)
    };
    let usual = place("d", None);
    let rows = [
        at(0, Arc::clone(&usual), Some(ServiceTier::Default), known(100)),
        at(1, Arc::clone(&usual), Some(ServiceTier::Flex), known(50)),
        Row { cost_estimated: true, ..at(2, Arc::clone(&usual), Some(ServiceTier::Priority), known(100)) },
        at(3, Arc::clone(&usual), None, known(100)),
        at(4, place("payg", Some("ptu")), Some(ServiceTier::Default), known(100)),
        at(5, place("ptu", None), None, Cost::Hourly(Money(Money::USD.0))),
    ];
    writer.write(&rows);
    let lines = exported(folder.path());
    let told: Vec<_> = lines.iter().map(|line| (&line["service_tier"], &line["spilled_from"], &line["cost_estimated"])).collect();
    let (none, yes, no) = (Value::Null, json!(true), json!(false));
    let [default, flex, priority, ptu] = ["default", "flex", "priority", "ptu"].map(Value::from);
    assert_eq!(
        told,
        [
            (&default, &none, &no),
            (&flex, &none, &no),
            (&priority, &none, &yes),
            (&none, &none, &no),
            (&default, &ptu, &no),
            (&none, &none, &no)
        ]
    );
    let line = &lines[0];
    let numbers = ["completion_cap", "reserved_input_tokens", "waited_us", "began_us"].map(|name| line[name].as_i64());
    assert_eq!((numbers, &line["class"]), ([Some(100), Some(3), Some(7), Some(5)], &json!("batch")));
    for _ in 0..2 {
        let by_tier = report(folder.path(), 0, NOON * 2, "service_tier");
        let told: Vec<_> = by_tier.iter().map(|row| (row.by["service_tier"].as_str(), row.requests, row.estimated_cost_attempts)).collect();
        assert_eq!(told, [(Some("default"), 2, 0), (Some("flex"), 1, 0), (Some("priority"), 1, 1), (None, 2, 0)]);
        let spilled = report(folder.path(), 0, NOON * 2, "deployment,spilled_from");
        let told: Vec<_> =
            spilled.iter().map(|row| (row.by["deployment"].as_str().unwrap(), row.by["spilled_from"].as_str(), row.cost_usd)).collect();
        assert_eq!(told, [("d", None, Some(350e-12)), ("payg", Some("ptu"), Some(100e-12)), ("ptu", None, Some(1.0))]);
        while writer.keep_house_at(NOON + 9 * HOUR) {}
    }
}

#[test]
fn answered_requests_are_read_in_order_and_page_by_page() {
    let folder = tempfile::tempdir().unwrap();
    assert!(attempts::AttemptRows::new(folder.path(), 0, NOON, true).unwrap().next_row().unwrap().is_none(), "there is no ledger yet");
    let mut writer = writer(folder.path());
    let mut rows: Vec<Row> = (0..9_000).map(|n| row(NOON + n, "x", n as u64, 2, known(1))).collect();
    rows.iter_mut().step_by(3).for_each(|row| row.answered = false);
    rows[1] = Row { cap: Some(50), cache: Some("exact"), consumer: None, us: 7, ..rows[1].clone() };
    rows[2] = Row { metered: Metered::unknown(), class: Class::Interactive, api: Api::Embeddings, ..rows[2].clone() };
    rows.reverse();
    writer.write(&rows);
    let read = |since: i64, until: i64| {
        let mut rows = attempts::AttemptRows::new(folder.path(), since, until, true).unwrap();
        std::iter::from_fn(move || rows.next_row().unwrap()).collect::<Vec<_>>()
    };
    let all = read(0, NOON * 2);
    assert_eq!(all.iter().map(|row| row.at - NOON).collect::<Vec<_>>(), (0..9_000).filter(|n| n % 3 != 0).collect::<Vec<_>>());
    let (first, second, third) = (&all[0], &all[1], &all[2]);
    assert_eq!((first.is_cached, first.cap, &first.consumer, first.us), (true, Some(50), &None, 7));
    assert_eq!((second.kind.is_unmetered, second.kind.class, second.kind.api), (true, Some(Class::Interactive), Some(Api::Embeddings)));
    assert_eq!((third.usage.input, third.usage.output, third.is_cached, third.cap), (4, 2, false, None));
    assert_eq!((&*third.kind.model, third.consumer.as_deref(), third.kind.class), ("m", Some("x"), Some(Class::Batch)));
    assert_eq!(read(NOON + 10, NOON + 14).iter().map(|row| row.at - NOON).collect::<Vec<_>>(), [10, 11, 13]);
}

#[test]
fn a_database_that_may_not_grow_fails_as_one_on_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut database = Database::open(&LedgerRules { may_grow: false, ..rules(folder.path()) }).unwrap();
    let full = |error: LedgerError| error.to_string().contains("full");
    assert!(database.probe().is_err_and(full));
    drop(database);
    // Opened again it is as full as before, and the ledger of a gateway still can be read.
    assert!(Database::open(&LedgerRules { may_grow: false, ..rules(folder.path()) }).unwrap().probe().is_err_and(full));
}
