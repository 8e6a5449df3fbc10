//! What nodes ship, and what a report over all of them says.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use proptest::prelude::*;
use spillway_plugins::prices::Money;

use super::super::all_nodes::{self, AllNodes};
use super::super::rollup::HOUR;
use super::super::row::Row;
use super::super::ship::place::{MakeFile, Place, PlaceError, Survey};
use super::super::ship::rounds::{Round, Rounds, ShipError};
use super::super::usage::{UsageQuery, UsageRow};
use super::super::writer::Writer;
use super::{NOON, known, report, row, writer};
use crate::config::{ShipRules, ShipTo};
use crate::ledger::Cost;
use crate::ledger::ship::open_place;

mod foreign;

const DAY: i64 = 24 * HOUR;
const BY: &str = "consumer,hour,deployment";

fn folder(place: &Path) -> Box<dyn Place> {
    open_place(&ShipTo::Folder(place.to_owned()), None).unwrap()
}

/// A node with a ledger and a place to ship it to.
struct Node {
    name: &'static str,
    state: PathBuf,
    writer: Option<Writer>,
    rounds: Rounds,
}

fn rounds(name: &str, state: &Path, place: Box<dyn Place>, rows: bool) -> Rounds {
    let rules = ShipRules {
        to: ShipTo::Redis,
        rows,
        every: std::time::Duration::from_secs(60),
        retention: std::time::Duration::from_secs(100 * 86_400),
    };
    Rounds::new(state.to_owned(), name.to_owned(), format!("host-of-{name}"), rules, place)
}

impl Node {
    fn new(base: &Path, name: &'static str) -> Self {
        let (state, place) = (base.join(name), base.join("place"));
        std::fs::create_dir_all(&state).unwrap();
        std::fs::create_dir_all(&place).unwrap();
        Node { name, writer: Some(writer(&state)), rounds: rounds(name, &state, folder(&place), false), state }
    }

    fn write(&mut self, rows: &[Row]) {
        self.writer.as_mut().unwrap().write(rows);
    }

    /// Sums up all hours that are over.
    fn sum_up(&mut self, now: i64) {
        while self.writer.as_mut().unwrap().keep_house_at(now) {}
    }

    fn ship(&mut self, now: i64) -> Round {
        self.rounds.round(now).unwrap()
    }
}

fn read(base: &Path, now: i64) -> AllNodes {
    all_nodes::read(&mut *folder(&base.join("place")), 0, NOON * 2, now).unwrap()
}

fn query(by: &str) -> UsageQuery {
    UsageQuery { since: 0, until: NOON * 2, by: UsageQuery::dimensions(by).unwrap(), consumer: None }
}

fn input(all: &AllNodes) -> i64 {
    all.database.usage(&query("model")).unwrap().iter().map(|row| row.input_tokens).sum()
}

/// The rows, with costs to a billionth: they are shared out in another order.
fn rounded(mut rows: Vec<UsageRow>) -> Vec<UsageRow> {
    let round = |usd: &mut Option<f64>| *usd = usd.map(|usd| (usd * 1e9).round() / 1e9);
    rows.iter_mut().for_each(|row| [&mut row.cost_usd, &mut row.paid_usd].into_iter().for_each(round));
    rows
}

/// The names of all files in the place, without those of states.
fn files(base: &Path) -> Vec<String> {
    let mut place = folder(&base.join("place"));
    let days = place.survey(None).unwrap().days;
    let mut names: Vec<String> = days.iter().flat_map(|(node, day)| place.names(node, day).unwrap()).collect();
    names.sort();
    names
}

/// One step of a node's life.
#[derive(Debug, Clone)]
enum Step {
    /// Attempts that arrived at this time, counted from noon in minutes.
    Write(usize, i64, u64, u8),
    Ship(usize),
    SumUp(usize),
    /// The process ends, and another one starts.
    Restart(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let node = 0usize..3;
    let step = prop_oneof![
        5 => (node.clone(), 0i64..400, 1u64..1000, 0u8..6).prop_map(|(node, at, tokens, kind)| Step::Write(node, at, tokens, kind)),
        3 => node.clone().prop_map(Step::Ship),
        1 => node.clone().prop_map(Step::SumUp),
        1 => node.prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

/// Fails every write once the budget is used up, after a part of the file was written under another name.
struct Unreliable {
    place: Box<dyn Place>,
    budget: Arc<AtomicUsize>,
}

impl Unreliable {
    fn spend(&self) -> Result<(), PlaceError> {
        let spent = self.budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        spent.map(drop).map_err(|_| PlaceError::File { path: "x".to_owned(), source: std::io::ErrorKind::StorageFull.into() })
    }
}

impl Place for Unreliable {
    fn survey(&mut self, folder: Option<&str>) -> Result<Survey, PlaceError> {
        self.place.survey(folder)
    }
    fn names(&mut self, folder: &str, day: &str) -> Result<Vec<String>, PlaceError> {
        self.place.names(folder, day)
    }
    fn read(&mut self, folder: &str, day: &str, name: &str) -> Result<Option<Vec<u8>>, PlaceError> {
        self.place.read(folder, day, name)
    }
    fn write(&mut self, folder: &str, day: &str, name: &str, bytes: &[u8]) -> Result<(), PlaceError> {
        self.spend()?;
        self.place.write(folder, day, name, bytes)
    }
    fn remove(&mut self, folder: &str, day: &str, name: &str) -> Result<(), PlaceError> {
        self.spend()?;
        self.place.remove(folder, day, name)
    }
    fn remove_day(&mut self, folder: &str, day: &str) -> Result<(), PlaceError> {
        self.spend()?;
        self.place.remove_day(folder, day)
    }
    fn write_state(&mut self, folder: &str, name: &str, bytes: &[u8]) -> Result<(), PlaceError> {
        self.spend()?;
        self.place.write_state(folder, name, bytes)
    }
    fn write_made(&mut self, folder: &str, day: &str, make: &mut MakeFile<'_>) -> Result<(), PlaceError> {
        self.spend()?;
        self.place.write_made(folder, day, make)
    }
    fn remove_unfinished(&mut self, folder: &str, day: Option<&str>, before: SystemTime) -> Result<(), PlaceError> {
        self.place.remove_unfinished(folder, day, before)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever nodes write, ship, sum up and restart in whatever order, and wherever a round is interrupted: after one more round
    /// of each, the sum of all is what one ledger would have that got every attempt.
    #[test]
    fn the_sum_of_all_nodes_is_that_of_one_ledger_with_every_attempt(steps in steps(), budgets in prop::collection::vec(0usize..12, 40)) {
        let base = tempfile::tempdir().unwrap();
        let mut nodes = ["a", "b", "c"].map(|name| Node::new(base.path(), name));
        let budget = Arc::new(AtomicUsize::new(0));
        for node in &mut nodes {
            let place = Unreliable { place: folder(&base.path().join("place")), budget: Arc::clone(&budget) };
            node.rounds = rounds(node.name, &node.state, Box::new(place), false);
        }
        let whole = base.path().join("whole");
        let mut one = writer(&whole);
        let now = NOON + 10 * HOUR;
        for (step, allowed) in steps.iter().zip(budgets) {
            match step {
                Step::Write(node, minute, tokens, kind) => {
                    let cost = match kind {
                        0 => Cost::Unknown,
                        1 => Cost::Hourly(Money(10 * Money::USD.0)),
                        _ => known(*tokens * 1_000_000),
                    };
                    let rows = [Row { answered: kind % 2 == 0, ..row(NOON + minute * 60_000, ["x", "y"][usize::from(kind % 2)], *tokens, 1, cost) }];
                    nodes[*node].write(&rows);
                    one.write(&rows);
                }
                Step::Ship(node) => {
                    budget.store(allowed, Ordering::Relaxed);
                    let _ = nodes[*node].rounds.round(now);
                }
                Step::SumUp(node) => nodes[*node].sum_up(now),
                Step::Restart(node) => {
                    let node = &mut nodes[*node];
                    node.writer = None;
                    node.writer = Some(writer(&node.state));
                    let place = Unreliable { place: folder(&base.path().join("place")), budget: Arc::clone(&budget) };
                    node.rounds = rounds(node.name, &node.state, Box::new(place), false);
                }
            }
        }
        budget.store(usize::MAX, Ordering::Relaxed);
        for node in &mut nodes {
            node.ship(now);
        }
        let all = read(base.path(), now);
        let sources = &all.sources;
        prop_assert!(sources.set_aside.is_empty() && sources.conflicts.is_empty(), "{sources:?}");
        prop_assert!(sources.nodes.iter().all(|node| node.missing.is_empty() && !node.is_late), "{sources:?}");
        prop_assert_eq!(rounded(all.database.usage(&query(BY)).unwrap()), rounded(report(&whole, 0, NOON * 2, BY)));
        // Of each hour there is one file.
        let mut hours: Vec<String> = files(base.path()).iter().map(|name| name.split('.').take(3).collect::<Vec<_>>().join(".")).collect();
        let count = hours.len();
        hours.dedup();
        prop_assert_eq!(hours.len(), count);
    }
}

#[test]
fn two_processes_of_one_node_write_the_same_files_and_another_round_writes_none() {
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::new(base.path(), "a");
    node.write(&[row(NOON, "x", 10, 1, known(5)), row(NOON + HOUR, "x", 5, 1, known(5))]);
    let mut successor = rounds("a", &node.state, folder(&base.path().join("place")), false);
    // The successor has looked at the place before the other one ships.
    assert_eq!(successor.round(NOON).unwrap().files, 2);
    let before = files(base.path());
    assert_eq!(node.ship(NOON), Round { files: 0, conflicts: 0 });
    node.write(&[row(NOON + 1, "x", 1, 0, known(1))]);
    assert_eq!((node.ship(NOON).files, successor.round(NOON).unwrap()), (1, Round { files: 0, conflicts: 0 }));
    assert_eq!(node.ship(NOON + HOUR).files, 0);
    let after = files(base.path());
    assert_eq!((before.len(), after.len()), (2, 2));
    assert!(before[0] != after[0] && before[1] == after[1], "{before:?} {after:?}");
    assert_eq!(input(&read(base.path(), NOON)), 16);
}

#[test]
fn late_attempts_replace_the_file_of_their_hour_after_it_was_summed_up_too() {
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::new(base.path(), "a");
    node.write(&[row(NOON, "x", 10, 1, known(5))]);
    node.ship(NOON + HOUR);
    node.sum_up(NOON + 5 * HOUR);
    node.write(&[row(NOON + 2, "x", 7, 1, known(5))]);
    node.ship(NOON + 5 * HOUR);
    assert_eq!((files(base.path()).len(), input(&read(base.path(), NOON))), (1, 17));
}

#[test]
fn torn_and_foreign_files_are_set_aside_and_an_earlier_version_counts() {
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::new(base.path(), "a");
    node.write(&[row(NOON, "x", 10, 1, known(5)), row(NOON + HOUR, "x", 5, 1, known(5))]);
    node.ship(NOON);
    let day = base.path().join("place/a/2026-11-10");
    let of = |hour: &str| {
        std::fs::read_dir(&day).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.display().to_string().contains(hour)).unwrap()
    };
    let first = std::fs::read(of("T12")).unwrap();
    let first_name = of("T12");
    node.write(&[row(NOON + 1, "x", 100, 1, known(5))]);
    node.ship(NOON);
    // Of noon there are two versions again, and the later one is torn; of the next hour there is only a torn one.
    std::fs::write(first_name, first).unwrap();
    let torn = of(".v2.");
    let whole = std::fs::read(&torn).unwrap();
    std::fs::write(&torn, &whole[..whole.len() / 2]).unwrap();
    std::fs::write(of("T13"), b"").unwrap();
    std::fs::write(day.join("notes.txt"), "mine").unwrap();
    std::fs::write(day.join(".unfinished-1-2"), "half").unwrap();
    std::fs::write(base.path().join("place/readme"), "x").unwrap();
    std::fs::create_dir(base.path().join("place/a/old")).unwrap();
    std::fs::write(base.path().join("place/a/00000000000000aa.json"), "{").unwrap();
    let all = read(base.path(), NOON);
    assert_eq!(input(&all), 10, "the version before");
    let aside: Vec<(&str, &str)> =
        all.sources.set_aside.iter().map(|file| (file.path.rsplit('/').next().unwrap(), file.why.as_str())).collect();
    assert_eq!(aside.len(), 6, "{aside:#?}");
    for name in ["notes.txt", "readme", "old"] {
        assert!(aside.iter().any(|(path, why)| *path == name && why.contains("none of the files")), "{name}: {aside:#?}");
    }
    assert_eq!(aside.iter().filter(|(_, why)| why.contains("torn")).count(), 3, "{aside:#?}");
    let source = &all.sources.nodes[0];
    assert_eq!((source.hours, &source.missing), (1, &vec!["2026-11-10T13".to_owned()]));
    // The next change repairs the hour, the node's next start the other one.
    node.write(&[row(NOON + 2, "x", 1, 1, known(5))]);
    node.ship(NOON);
    assert_eq!(input(&read(base.path(), NOON)), 111);
    assert_eq!(node.ship(NOON).files, 0);
    let mut again = rounds("a", &node.state, folder(&base.path().join("place")), false);
    assert_eq!((again.round(NOON).unwrap().files, input(&read(base.path(), NOON))), (1, 116));
}

#[test]
fn what_a_node_lacks_is_told_and_what_it_missed_is_shipped_when_it_is_back() {
    let base = tempfile::tempdir().unwrap();
    let (mut a, mut b) = (Node::new(base.path(), "a"), Node::new(base.path(), "b"));
    for hour in 0..5 {
        a.write(&[row(NOON + hour * HOUR, "x", 1, 0, known(1))]);
        b.write(&[row(NOON + hour * HOUR, "x", 10, 0, known(1))]);
        a.ship(NOON + hour * HOUR);
        // The other one is down after the first two hours, with attempts in its ledger that nobody has seen.
        if hour < 2 {
            b.ship(NOON + hour * HOUR);
        }
    }
    let late = read(base.path(), NOON + 4 * HOUR + 1000);
    let facts =
        |all: &AllNodes| all.sources.nodes.iter().map(|node| (node.node.clone(), node.age_s, node.is_late, node.hours)).collect::<Vec<_>>();
    assert_eq!(facts(&late), [("a".to_owned(), Some(1), false, 5), ("b".to_owned(), Some(3 * 3600 + 1), true, 2)]);
    assert_eq!(late.sources.nodes[0].host.as_deref(), Some("host-of-a"));
    assert_eq!(input(&late), 5 + 20);
    b.ship(NOON + 5 * HOUR);
    assert_eq!(input(&read(base.path(), NOON)), 55);
    // A file that somebody has removed is missing, until the node starts again.
    let gone = files(base.path()).into_iter().find(|name| name.starts_with("b.") && name.contains("T14")).unwrap();
    std::fs::remove_file(base.path().join("place/b/2026-11-10").join(gone)).unwrap();
    let lacking = read(base.path(), NOON);
    assert_eq!((input(&lacking), &lacking.sources.nodes[1].missing), (45, &vec!["2026-11-10T14".to_owned()]));
    let mut again = rounds("b", &b.state, folder(&base.path().join("place")), false);
    assert_eq!(again.round(NOON).unwrap().files, 1);
    assert_eq!(input(&read(base.path(), NOON)), 55);
}

#[test]
fn a_time_range_is_one_of_whole_hours() {
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::new(base.path(), "a");
    for hour in 0..4 {
        node.write(&[row(NOON + hour * HOUR + 1000, "x", 1, 0, known(1))]);
    }
    node.ship(NOON);
    let all = all_nodes::read(&mut *folder(&base.path().join("place")), NOON + HOUR + 5, NOON + 2 * HOUR + 5, NOON).unwrap();
    let query = UsageQuery { since: NOON + HOUR + 5, until: NOON + 2 * HOUR + 5, ..query("model") };
    assert_eq!(all.database.usage(&query).unwrap()[0].input_tokens, 2);
    assert_eq!(all.sources.nodes[0].hours, 2);
}

#[test]
fn a_copy_of_a_ledger_is_noticed_by_a_node_and_by_the_report_and_counts_nothing_twice() {
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::new(base.path(), "a");
    node.write(&[row(NOON, "x", 10, 0, known(1))]);
    node.ship(NOON);
    // The machine is copied with its disk.
    node.writer = None;
    let copy = base.path().join("copy");
    std::fs::create_dir(&copy).unwrap();
    std::fs::copy(node.state.join("ledger.sqlite"), copy.join("ledger.sqlite")).unwrap();
    node.writer = Some(writer(&node.state));
    let (mut other, mut other_rounds) = (writer(&copy), rounds("a", &copy, folder(&base.path().join("place")), false));
    node.write(&[row(NOON + 1, "x", 3, 0, known(1))]);
    other.write(&[row(NOON + 2, "x", 4, 0, known(1))]);
    assert_eq!(node.ship(NOON).conflicts, 0, "it is the first");
    assert_eq!(other_rounds.round(NOON).unwrap().conflicts, 1);
    assert_eq!(input(&read(base.path(), NOON)), 13);
    // Both files are there if they were written at the same moment.
    let mut blind = rounds("a", &copy, folder(&base.path().join("elsewhere")), false);
    std::fs::create_dir(base.path().join("elsewhere")).unwrap();
    blind.round(NOON).unwrap();
    let day = "a/2026-11-10";
    for entry in std::fs::read_dir(base.path().join("elsewhere").join(day)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, base.path().join("place").join(day).join(path.file_name().unwrap())).unwrap();
    }
    let all = read(base.path(), NOON);
    assert!([13, 14].contains(&input(&all)), "one of them");
    assert!(all.sources.conflicts[0].what.contains("copies of one ledger") && all.sources.set_aside.len() == 1, "{:?}", all.sources);
}

#[test]
fn two_nodes_with_one_name_both_count_and_are_told_apart_from_a_ledger_that_was_lost() {
    let base = tempfile::tempdir().unwrap();
    let place = base.path().join("place");
    std::fs::create_dir(&place).unwrap();
    let states = ["one", "two"].map(|name| base.path().join(name));
    let mut writers = [writer(&states[0]), writer(&states[1])];
    let mut ship = |times: [i64; 2]| {
        for (at, hour) in times.into_iter().enumerate() {
            writers[at].write(&[row(NOON + hour * HOUR, "x", 1, 0, known(1))]);
            assert_eq!(rounds("a", &states[at], folder(&place), false).round(NOON).unwrap().conflicts, 0);
        }
        let all = read(base.path(), NOON);
        (input(&all), all.sources.conflicts.len(), all.sources.nodes.len())
    };
    // The second ledger goes on in the hour in which the first was lost.
    assert_eq!(ship([0, 1]), (2, 0, 2));
    assert_eq!(ship([1, 2]), (4, 0, 2));
    assert_eq!(ship([2, 3]), (6, 1, 2));
}

#[test]
fn a_place_that_is_gone_fails_and_everything_is_shipped_when_it_is_back_even_if_it_is_empty() {
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::new(base.path(), "a");
    node.write(&[row(NOON, "x", 10, 0, known(1)), row(NOON + HOUR, "x", 1, 0, known(1))]);
    assert_eq!(node.ship(NOON).files, 2);
    std::fs::remove_dir_all(base.path().join("place")).unwrap();
    node.write(&[row(NOON, "x", 5, 0, known(1))]);
    let error = node.rounds.round(NOON).unwrap_err();
    assert!(matches!(&error, ShipError::Place(PlaceError::Missing { .. })) && error.to_string().contains("place"), "{error}");
    assert!(!base.path().join("place").exists(), "a folder that isn't mounted is not created");
    std::fs::create_dir(base.path().join("place")).unwrap();
    assert_eq!(node.ship(NOON).files, 2);
    assert_eq!(input(&read(base.path(), NOON)), 16);
}

#[test]
fn what_is_too_old_is_removed_and_what_was_left_unfinished_too() {
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::new(base.path(), "a");
    node.write(&[row(NOON, "x", 10, 0, known(1)), row(NOON + 50 * DAY, "x", 1, 0, known(1))]);
    node.ship(NOON + 50 * DAY);
    let left = base.path().join("place/a").join("2026-12-30").join(".unfinished-7-8");
    std::fs::write(&left, "half").unwrap();
    // It was last written a long time ago.
    let then = std::time::UNIX_EPOCH + std::time::Duration::from_millis((NOON + 96 * DAY).unsigned_abs());
    std::fs::File::options().write(true).open(&left).unwrap().set_modified(then).unwrap();
    let mut after = |days: i64| {
        node.ship(NOON + days * DAY);
        (files(base.path()).len(), left.exists())
    };
    assert_eq!(after(96), (2, true), "a process may still be writing it");
    assert_eq!(after(98), (2, false));
    assert_eq!(after(102), (1, false));
    assert_eq!(after(151), (0, false));
}

#[test]
fn attempts_are_shipped_as_parquet_when_their_hour_is_over() {
    use parquet::file::reader::{FileReader as _, SerializedFileReader};
    use parquet::record::RowAccessor as _;
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::new(base.path(), "a");
    node.rounds = rounds("a", &node.state, folder(&base.path().join("place")), true);
    node.write(&(0..70).map(|n| row(NOON + n, "x", 1, 0, known(1))).collect::<Vec<_>>());
    assert_eq!(node.ship(NOON).files, 1, "the hour is not over");
    node.sum_up(NOON + 3 * HOUR);
    assert_eq!(node.ship(NOON + 3 * HOUR).files, 2);
    let parquets = || files(base.path()).into_iter().filter(|name| name.ends_with(".parquet")).collect::<Vec<_>>();
    let rows = |name: &str| {
        let path = base.path().join("place/a/2026-11-10").join(name);
        let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
        reader.get_row_iter(None).unwrap().map(|row| row.unwrap().get_long(15).unwrap()).sum::<i64>()
    };
    assert_eq!((parquets().len(), rows(&parquets()[0])), (1, 70));
    assert_eq!(node.ship(NOON + 4 * HOUR).files, 0);
    node.write(&[row(NOON + 500, "x", 5, 0, known(1))]);
    assert_eq!(node.ship(NOON + 4 * HOUR).files, 2);
    assert_eq!((parquets().len(), rows(&parquets()[0])), (1, 75));
    let all = read(base.path(), NOON);
    assert!(all.sources.set_aside.is_empty() && input(&all) == 75);
    // Attempts are kept for a shorter time than sums; what was shipped of them stays.
    node.sum_up(NOON + 40 * DAY);
    node.write(&[row(NOON + 501, "x", 1, 0, known(1))]);
    node.sum_up(NOON + 40 * DAY);
    node.ship(NOON + 40 * DAY);
    assert_eq!((parquets().len(), rows(&parquets()[0])), (1, 75));
}

#[test]
fn of_attempts_that_were_written_twice_one_file_stays() {
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::new(base.path(), "a");
    let day = base.path().join("place/a/2026-11-10");
    let rounds_of = |state: &Path| rounds("a", state, folder(&base.path().join("place")), true);
    node.rounds = rounds_of(&node.state);
    node.write(&[row(NOON, "x", 1, 0, known(1))]);
    node.sum_up(NOON + 3 * HOUR);
    node.ship(NOON + 3 * HOUR);
    let parquets = || files(base.path()).into_iter().filter(|name| name.ends_with(".parquet")).collect::<Vec<_>>();
    let [own] = &parquets()[..] else { panic!("{:?}", parquets()) };
    // Another process of the node has written the same version, with other bytes: another program makes other files of the same rows.
    let (head, _) = own.strip_suffix(".parquet").unwrap().rsplit_once('.').unwrap();
    for (checksum, stays) in [("0000000000000001", own.clone()), ("ffffffffffffffff", format!("{head}.ffffffffffffffff.parquet"))] {
        std::fs::write(day.join(format!("{head}.{checksum}.parquet")), "the same rows").unwrap();
        assert_eq!(parquets().len(), 2);
        // Whichever process starts next: all of them choose the same one.
        rounds_of(&node.state).round(NOON + 3 * HOUR).unwrap();
        assert_eq!(parquets(), [stays]);
    }
    // And when the hour changes, the new version replaces it.
    node.write(&[row(NOON + 1, "x", 1, 0, known(1))]);
    node.ship(NOON + 4 * HOUR);
    assert!(parquets().len() == 1 && !parquets()[0].contains("ffffffffffffffff"), "{:?}", parquets());
}

#[test]
fn a_copy_of_a_ledger_ships_no_attempts_of_hours_whose_sums_are_the_others() {
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::new(base.path(), "a");
    let copy = base.path().join("copy");
    node.write(&[row(NOON, "x", 10, 0, known(1))]);
    node.writer = None;
    std::fs::create_dir(&copy).unwrap();
    for entry in std::fs::read_dir(&node.state).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    let mut shipped = [node.state.clone(), copy].map(|state| {
        let mut writer = writer(&state);
        writer.write(&[row(NOON + 1, "x", 1, 0, known(1)), row(NOON + 2, if state.ends_with("copy") { "y" } else { "x" }, 1, 0, known(1))]);
        while writer.keep_house_at(NOON + 3 * HOUR) {}
        rounds("a", &state, folder(&base.path().join("place")), true).round(NOON + 3 * HOUR).unwrap()
    });
    shipped.sort_by_key(|round| round.conflicts);
    assert_eq!(shipped, [Round { files: 2, conflicts: 0 }, Round { files: 0, conflicts: 1 }]);
    assert_eq!(files(base.path()).iter().filter(|name| name.ends_with(".parquet")).count(), 1);
}

#[test]
fn a_ledger_of_an_earlier_program_ships_what_it_has_and_that_programs_last_rows() {
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::new(base.path(), "a");
    node.write(&[row(NOON, "x", 10, 0, known(1))]);
    node.sum_up(NOON + 5 * HOUR);
    node.write(&[row(NOON + 6 * HOUR, "x", 1, 0, known(1))]);
    // As the program before left it.
    let old = rusqlite::Connection::open(node.state.join("ledger.sqlite")).unwrap();
    old.execute_batch("DROP TABLE changes; DELETE FROM meta WHERE name = 'ledger'").unwrap();
    assert_eq!(node.ship(NOON), Round::default(), "this program has not opened it yet");
    node.writer = Some(writer(&node.state));
    assert_eq!(node.ship(NOON).files, 2);
    // It goes on writing while it is replaced, and doesn't know of changes.
    let copy = "INSERT INTO entries SELECT id + 5, kind, request, attempt, answered, consumer, tags, status, input, output, cached_input, \
                cache_write, reasoning, input_audio, output_audio, cost, hour_price, cache, first_us, us, cap, reserved, waited_us, began_us \
                FROM entries ORDER BY id DESC LIMIT 1";
    old.execute_batch(copy).unwrap();
    node.sum_up(NOON + 9 * HOUR);
    node.ship(NOON + 9 * HOUR);
    assert_eq!(input(&read(base.path(), NOON)), 12);
}

#[test]
fn consumers_tags_and_models_of_all_nodes_are_one_table() {
    let base = tempfile::tempdir().unwrap();
    let mut expected: BTreeMap<String, i64> = BTreeMap::new();
    for (name, consumer, team, tokens) in [("a", "x", "red", 1), ("b", "x", "blue", 2), ("c", "y", "red", 4)] {
        let mut node = Node::new(base.path(), name);
        node.write(&[Row { tags: Some(format!(r#"{{"x-team":"{team}"}}"#).into()), ..row(NOON, consumer, tokens, 0, known(1)) }]);
        node.ship(NOON);
        *expected.entry(team.to_owned()).or_default() += i64::try_from(tokens).unwrap();
    }
    let all = read(base.path(), NOON);
    let teams = all.database.usage(&query("tag:x-team")).unwrap();
    let found: BTreeMap<String, i64> =
        teams.iter().map(|row| (row.by["tag:x-team"].as_str().unwrap().to_owned(), row.input_tokens)).collect();
    assert_eq!(found, expected);
    let only = UsageQuery { consumer: Some("x".to_owned()), ..query("consumer") };
    assert_eq!(all.database.usage(&only).unwrap()[0].input_tokens, 3);
}
