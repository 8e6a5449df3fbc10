use std::path::Path;

use spillway_plugins::api::Api;
use spillway_plugins::prices::Money;
use spillway_plugins::tokens::{Metered, Usage};

use super::rollup::HOUR;
use super::row::Row;
use super::usage::{UsageQuery, UsageRow, usage};
use super::*;

/// A time in the past: Tuesday, 2026-11-10, 12:00 UTC.
const NOON: i64 = 1_794_312_000_000;

fn row(at: i64, consumer: &str, input: u64, output: u64, cost: Cost) -> Row {
    Row {
        at,
        request: b"id".as_slice().into(),
        attempt: 1,
        answered: true,
        consumer: Some(consumer.into()),
        tags: None,
        api: Api::Chat,
        place: Arc::new(MemberLabels { model: "m".into(), pool: "p".into(), backend: "b".into(), deployment: "d".into(), tier: 1 }),
        outcome: "ok",
        status: Some(200),
        metered: Metered::reported(Usage { input, output, ..Usage::default() }),
        cost,
        cache: None,
        first_us: None,
        us: 1,
    }
}

fn rules(folder: &Path) -> LedgerRules {
    LedgerRules {
        folder: folder.to_owned(),
        durability: Durability::Fast,
        required: false,
        retention: Duration::from_secs(30 * 86_400),
        hours: Duration::from_secs(400 * 86_400),
    }
}

/// A writer whose thread never runs: a test calls its steps.
fn writer(folder: &Path) -> Writer {
    let metrics = crate::telemetry::metrics::Metrics::new().unwrap().ledger;
    let database = Database::open(&rules(folder)).unwrap();
    Writer::new(rules(folder), Some(database), Arc::new(AtomicBool::new(true)), metrics, Clock::new())
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

#[test]
fn a_ledger_of_format_1_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    writer.write(&[row(NOON, "x", 5, 2, Cost::Known(Money(7))), row(NOON + 1, "y", 1, 1, Cost::Unknown)]);
    let before = report(folder.path(), NOON, NOON + 10, "consumer,model,deployment");
    drop(writer);
    // As in format 1: the view's columns, in one table.
    let old = rusqlite::Connection::open(folder.path().join(schema::FILE)).unwrap();
    old.execute_batch(
        "CREATE TABLE copy AS SELECT * FROM attempts; DROP VIEW attempts; DROP TABLE entries; DROP TABLE kinds; ALTER TABLE copy DROP COLUMN kind;
         ALTER TABLE copy RENAME TO attempts; PRAGMA user_version = 1;",
    )
    .unwrap();
    drop(old);
    let mut writer = self::writer(folder.path());
    assert_eq!(report(folder.path(), NOON, NOON + 10, "consumer,model,deployment"), before);
    writer.write(&[row(NOON + 2, "x", 5, 2, Cost::Known(Money(7)))]);
    assert_eq!(tokens(folder.path(), NOON, NOON + 10), 11);
}
