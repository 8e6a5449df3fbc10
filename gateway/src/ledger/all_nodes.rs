//! The sums of all nodes, from the files that they have shipped.
//!
//! Of each hour of each ledger the file with the highest version counts. A file that can't be used is set aside and named; if
//! there is an earlier version of the same hour, that one counts. Nothing is left out silently: hours that a node says it has
//! and of which there is no file are named, too.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::by_share::Rule;
use super::error::LedgerError;
use super::report_database::ReportDatabase;
use super::rollup::HOUR;
use super::ship::name::{Contents, FileName, LedgerId, first_hour_of, hour_text};
use super::ship::place::{Place, PlaceError, StateFile};
use super::ship::{HourSums, NodeState, sums_in};

/// How often a day is listed again because a file was replaced while it was read.
const TRIES: usize = 5;
/// A node is late if its last round is older than this many of its rounds, and a minute.
const LATE_ROUNDS: i64 = 5;
/// Longest time between two rounds, in seconds: the most that `ledger.ship.every` can be.
const LONGEST_ROUND: u64 = 86_400;
/// How much a node's clock may be ahead, in milliseconds.
const AHEAD: i64 = 60_000;

/// The sums of all nodes can't be read.
#[derive(Debug, thiserror::Error)]
pub enum AllNodesError {
    /// The place can't be read.
    #[error("the shipped sums can't be read: {0}")]
    Place(#[from] PlaceError),
    /// The sums can't be stored for the report.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
}

/// The sums of all nodes, and what is known about them.
#[derive(Debug)]
pub struct AllNodes {
    /// The sums.
    pub database: ReportDatabase,
    /// Where they come from, and what they lack.
    pub sources: Sources,
}

/// Where sums come from, and what they lack.
#[derive(Debug, Default, Serialize)]
pub struct Sources {
    /// The nodes' ledgers.
    pub nodes: Vec<NodeSource>,
    /// Files that are not counted.
    pub set_aside: Vec<SetAside>,
    /// Names that more than one node has, and ledgers of which there are copies.
    pub conflicts: Vec<Conflict>,
}

/// One ledger.
#[derive(Debug, Serialize)]
pub struct NodeSource {
    /// The node's name.
    pub node: String,
    /// The ledger's number: a node has a second one if its first was lost.
    pub ledger: String,
    /// The machine that shipped it last; null without a state.
    pub host: Option<String>,
    /// Everything that was used until then is counted, as RFC 3339; null without a state.
    pub complete_until: Option<String>,
    /// The age of that, in seconds.
    pub age_s: Option<i64>,
    /// It has shipped nothing for much longer than it should, or nobody knows when it did.
    pub is_late: bool,
    /// Why it is late; null if it isn't.
    pub why_late: Option<&'static str>,
    /// Hours that are counted.
    pub hours: usize,
    /// Hours in the time range that the node has used, and of which there is no valid file.
    pub missing: Vec<String>,
}

/// A file that is not counted.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct SetAside {
    /// Its path in the place.
    pub path: String,
    /// Why.
    pub why: String,
}

/// Two nodes that pass for one.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// The node's name.
    pub node: String,
    /// What was noticed, and what to do.
    pub what: String,
}

/// Reads the sums of the hours that touch this time range, in milliseconds since 1970.
///
/// # Errors
/// [`AllNodesError`]
pub fn read(place: &mut dyn Place, since: i64, until: i64, now: i64) -> Result<AllNodes, AllNodesError> {
    let hours = (since.max(0).div_euclid(HOUR), (until.max(0) + HOUR - 1).div_euclid(HOUR));
    let survey = place.survey(None)?;
    let (database, counted, by_share) = (ReportDatabase::of_sums()?, BTreeMap::new(), BTreeMap::new());
    let mut reading = Reading { database, counted, by_share, sources: Sources::default() };
    for path in survey.foreign {
        reading.set_aside(path, "is none of the files that nodes ship");
    }
    for (path, error) in survey.unreadable {
        reading.set_aside(path, unreadable(&error));
    }
    for (folder, day) in survey.days {
        if first_hour_of(&day).is_some_and(|first| first < hours.1 && first + 24 > hours.0) {
            reading.day(place, &folder, &day, hours)?;
        }
    }
    let mut states = BTreeMap::new();
    for StateFile { folder, name, bytes } in survey.states {
        match NodeState::parse(&bytes).and_then(|state| Some((state.ledger()?, state))) {
            Some((ledger, state)) if (ledger.folder(), ledger.state_file()) == (folder.clone(), name.clone()) => {
                states.insert(ledger, state);
            }
            // Nobody speaks for another node.
            Some(_) => reading.set_aside(format!("{folder}/{name}"), "is the state of another ledger than its path says"),
            None => reading.set_aside(format!("{folder}/{name}"), "is torn, or of a newer version of spillway"),
        }
    }
    reading.add_rules()?;
    Ok(reading.finish(&states, hours, now))
}

/// Why something in the place is set aside that can't be read.
fn unreadable(error: &std::io::Error) -> String {
    format!("can't be read: {error}")
}

/// Why a node is late; `None` if it isn't.
fn why_late(state: Option<&NodeState>, now: i64) -> Option<&'static str> {
    let Some(state) = state else { return Some("it has no state file") };
    if state.at_ms > now.saturating_add(AHEAD) {
        return Some("its clock is ahead of this machine's, so no one knows how old its data is");
    }
    let every = i64::try_from(state.every_s.min(LONGEST_ROUND)).unwrap_or(i64::MAX);
    let age = now.saturating_sub(state.at_ms) / 1000;
    (age > every.saturating_mul(LATE_ROUNDS).saturating_add(60)).then_some("it is down, or can't ship")
}

struct Reading {
    database: ReportDatabase,
    counted: BTreeMap<LedgerId, BTreeSet<i64>>,
    /// Which nodes divide the price of an hour by shares, and how: by hour, backend and deployment.
    by_share: BTreeMap<(i64, String, String), Vec<(String, Rule)>>,
    sources: Sources,
}

impl Reading {
    fn set_aside(&mut self, path: String, why: impl ToString) {
        self.sources.set_aside.push(SetAside { path, why: why.to_string() });
    }

    /// Reads a day of a node. If a file is replaced meanwhile, the day is listed again.
    fn day(&mut self, place: &mut dyn Place, folder: &str, day: &str, hours: (i64, i64)) -> Result<(), AllNodesError> {
        let mut foreign = BTreeSet::new();
        for last in (0..TRIES).rev() {
            let mut files: BTreeMap<(LedgerId, i64), Vec<FileName>> = BTreeMap::new();
            let names = match place.names(folder, day) {
                Err(PlaceError::File { source, .. }) => {
                    self.set_aside(format!("{folder}/{day}"), unreadable(&source));
                    break;
                }
                names => names?,
            };
            for text in names {
                match FileName::parse(&text) {
                    Some(name) if name.ledger.folder() == folder && name.day() == day => {
                        if name.contents == Contents::Sums && (hours.0..hours.1).contains(&name.hour) {
                            files.entry((name.ledger.clone(), name.hour)).or_default().push(name);
                        }
                    }
                    _ => {
                        foreign.insert(format!("{folder}/{day}/{text}"));
                    }
                }
            }
            let mut was_replaced = false;
            for ((ledger, hour), versions) in files {
                if self.counted.get(&ledger).is_none_or(|hours| !hours.contains(&hour)) {
                    was_replaced |= !self.hour(place, versions, last == 0)?;
                }
            }
            if !was_replaced {
                break;
            }
        }
        foreign.into_iter().for_each(|path| self.set_aside(path, "is none of the files that nodes ship"));
        Ok(())
    }

    /// Counts the best version of an hour. Returns false if it was replaced meanwhile, unless this is the last try.
    fn hour(&mut self, place: &mut dyn Place, mut versions: Vec<FileName>, is_last: bool) -> Result<bool, AllNodesError> {
        versions.sort_by_key(|name| std::cmp::Reverse((name.version, name.checksum)));
        let (mut best, mut bad) = (None, Vec::new());
        for name in &versions {
            if best.as_ref().is_some_and(|(counted, _): &(&FileName, _)| counted.version > name.version) {
                break;
            }
            let (folder, day) = (name.ledger.folder(), name.day());
            let bytes = match place.read(&folder, &day, &name.to_string()) {
                Err(PlaceError::File { source, .. }) => Err(unreadable(&source)),
                read => match read? {
                    None if !is_last => return Ok(false),
                    None => Err("was replaced again and again while it was read".to_owned()),
                    Some(bytes) => Ok(bytes),
                },
            };
            let bytes = match bytes {
                Ok(bytes) => bytes,
                Err(why) => {
                    bad.push((format!("{folder}/{day}/{name}"), why));
                    continue;
                }
            };
            match (sums_in(name, &bytes), &best) {
                (Ok(sums), None) => best = Some((name, sums)),
                (Ok(_), Some((counted, _))) => {
                    bad.push((format!("{folder}/{day}/{name}"), format!("has other sums than {counted}, which is counted")));
                    self.conflict(
                        &name.ledger.node,
                        "two nodes ship copies of one ledger, of which only one counts: give each node a server.state_dir of its own",
                    );
                }
                (Err(error), _) => bad.push((format!("{folder}/{day}/{name}"), error.to_string())),
            }
        }
        bad.into_iter().for_each(|(path, why)| self.set_aside(path, why));
        if let Some((name, HourSums { rows, by_share })) = best {
            self.database.add(&rows)?;
            for rule in by_share {
                let place = (name.hour, rule.backend.clone(), rule.deployment.clone());
                self.by_share.entry(place).or_default().push((name.ledger.node.clone(), rule));
            }
            self.counted.entry(name.ledger.clone()).or_default().insert(name.hour);
        }
        Ok(true)
    }

    /// The price of an hour is paid once, by one rule. If nodes have different ones, one counts, and the others are named.
    fn add_rules(&mut self) -> Result<(), AllNodesError> {
        for ((hour, backend, deployment), rules) in std::mem::take(&mut self.by_share) {
            let Some((_, counts)) = rules.iter().max_by_key(|(_, rule)| rule.rank()) else { continue };
            self.database.add_rule(hour, counts)?;
            for (node, _) in rules.iter().filter(|(_, rule)| rule != counts) {
                let what = format!(
                    "it divides the price of {deployment} at {backend} by other shares than another node, or has another price: in such hours one of them counts"
                );
                self.conflict(node, &what);
            }
        }
        Ok(())
    }

    fn conflict(&mut self, node: &str, what: &str) {
        let conflict = Conflict { node: node.to_owned(), what: what.to_owned() };
        if !self.sources.conflicts.contains(&conflict) {
            self.sources.conflicts.push(conflict);
        }
    }

    fn finish(mut self, states: &BTreeMap<LedgerId, NodeState>, (since, until): (i64, i64), now: i64) -> AllNodes {
        let ledgers: BTreeSet<&LedgerId> = self.counted.keys().chain(states.keys()).collect();
        let none = BTreeSet::new();
        let (mut sources, mut same_names) = (Vec::new(), Vec::new());
        for ledger in ledgers {
            let counted = self.counted.get(ledger).unwrap_or(&none);
            let state = states.get(ledger);
            let age = state.map(|state| now.saturating_sub(state.at_ms).max(0) / 1000);
            let why_late = why_late(state, now);
            let missing = state.into_iter().flat_map(|state| state.hours(since, until)).filter(|hour| !counted.contains(hour));
            sources.push(NodeSource {
                node: ledger.node.clone(),
                ledger: format!("{:016x}", ledger.number),
                host: state.map(|state| state.host.clone()),
                complete_until: state.and_then(|state| {
                    Some(chrono::DateTime::from_timestamp_millis(state.at_ms)?.to_rfc3339_opts(chrono::SecondsFormat::Secs, true))
                }),
                age_s: age,
                is_late: why_late.is_some(),
                why_late,
                hours: counted.len(),
                missing: missing.map(hour_text).collect(),
            });
        }
        for (ledger, hours) in &self.counted {
            let others = self.counted.iter().filter(|(other, _)| other.node == ledger.node && other.number > ledger.number);
            // The hour in which a lost ledger was replaced is in both.
            if others.into_iter().any(|(_, others)| hours.intersection(others).count() > 1) {
                same_names.push(ledger.node.clone());
            }
        }
        same_names.dedup();
        for node in same_names {
            self.conflict(
                &node,
                "two nodes have this name at the same time; both count: give each a redis.node, or a server.state_dir, of its own",
            );
        }
        self.sources.nodes = sources;
        AllNodes { database: self.database, sources: self.sources }
    }
}
