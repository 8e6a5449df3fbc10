//! Rounds of shipping: each writes the hours that have changed since the last one. Nothing but the ledger and the place decides
//! what is written, so a round can be repeated, and two processes of one node can do the same round at once.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use super::super::error::LedgerError;
use super::super::export::{Format, export};
use super::super::rollup::HOUR;
use super::changed_hours::ChangedHours;
use super::hour_file::{decode, encode, first_bytes};
use super::name::{Contents, FileName, LedgerId, day_of, first_hour_of};
use super::place::{Place, PlaceError};
use super::state::NodeState;
use crate::config::ShipRules;

/// How long a file may be unfinished before it counts as left behind.
const LEFT_BEHIND: std::time::Duration = std::time::Duration::from_secs(86_400);

/// The latest hours, whose files are compared with the ledger at the start.
const CHECKED_HOURS: i64 = 48;

/// A round failed.
#[derive(Debug, thiserror::Error)]
pub enum ShipError {
    /// The place can't be used.
    #[error("{0}")]
    Place(#[from] PlaceError),
    /// The ledger can't be read.
    #[error("{0}")]
    Ledger(#[from] LedgerError),
    /// A file can't be made.
    #[error("can't make a file: {0}")]
    File(#[from] std::io::Error),
}

/// What a round did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Files written.
    pub files: u64,
    /// Hours with a file in the place that this ledger can't have written: another node has a copy of this ledger.
    pub conflicts: u64,
}

/// The versions in a place, by hour and contents.
type Versions = BTreeMap<(i64, Contents), i64>;

/// Ships one node's ledger.
pub struct Rounds {
    /// The folder of the ledger.
    folder: PathBuf,
    node: String,
    host: String,
    rules: ShipRules,
    place: Box<dyn Place>,
    /// The versions in the place, as far as they are known: by hour and contents. `None`: it has to be looked up.
    shipped: Option<(LedgerId, Versions)>,
    /// The day in which old files were removed last.
    swept: Option<i64>,
}

impl Rounds {
    /// Ships the ledger in `folder`, as that of `node` on the machine `host`.
    pub fn new(folder: PathBuf, node: String, host: String, rules: ShipRules, place: Box<dyn Place>) -> Self {
        Rounds { folder, node, host, rules, place, shipped: None, swept: None }
    }

    /// One round. `now` is in milliseconds since 1970.
    ///
    /// # Errors
    /// [`ShipError`]; the next round goes on where this one ended.
    pub fn round(&mut self, now: i64) -> Result<Round, ShipError> {
        let done = self.try_round(now);
        if done.is_err() {
            // The place may have become another one, such as an empty mount point.
            self.shipped = None;
        }
        done
    }

    fn try_round(&mut self, now: i64) -> Result<Round, ShipError> {
        let Some(ledger) = ChangedHours::open(&self.folder)? else { return Ok(Round::default()) };
        let id = LedgerId { node: self.node.clone(), number: ledger.number()? };
        let oldest = self.oldest(now);
        let mut shipped = match self.shipped.take() {
            Some((known, shipped)) if known == id => shipped,
            _ => self.look_up(&id, oldest, now.div_euclid(HOUR) - CHECKED_HOURS)?,
        };
        let mut round = Round::default();
        let revisions = ledger.revisions(oldest)?;
        for (hour, revision) in &revisions {
            match shipped.get(&(*hour, Contents::Sums)) {
                Some(version) if version == revision => {}
                // Only another ledger can have changed an hour more often than this one.
                Some(version) if version > revision => round.conflicts += 1,
                _ => self.ship_sums(&ledger, &id, *hour, &mut shipped, &mut round)?,
            }
        }
        if self.rules.rows {
            let first_open = ledger.first_open_hour()?;
            for (hour, revision) in revisions.range(..first_open) {
                // Where the sums are another ledger's, so are the attempts: a second file of them would count twice.
                let is_own = shipped.get(&(*hour, Contents::Sums)) == Some(revision);
                if is_own && shipped.get(&(*hour, Contents::Attempts)).is_none_or(|version| version < revision) {
                    self.ship_attempts(&id, *hour, *revision, &mut shipped, &mut round)?;
                }
            }
        }
        let hours: BTreeSet<i64> = revisions.keys().copied().collect();
        let state = NodeState::new(&id, self.host.clone(), now, self.rules.every.as_secs(), &hours);
        self.place.write_state(&id.folder(), &id.state_file(), &serde_json::to_vec(&state).map_err(std::io::Error::from)?)?;
        self.sweep(&id, now, oldest)?;
        shipped.retain(|(hour, _), _| *hour >= oldest);
        self.shipped = Some((id, shipped));
        Ok(round)
    }

    /// The first hour that is kept in the place.
    fn oldest(&self, now: i64) -> i64 {
        let retention = i64::try_from(self.rules.retention.as_millis()).unwrap_or(i64::MAX);
        now.saturating_sub(retention).div_euclid(HOUR).max(0)
    }

    /// The versions in the place; removes attempts of which there is another file that counts. The versions of sums from the hour `checked` on are left out, so that their files are compared with the
    /// ledger: that finds another node with a copy of this ledger that has changed an hour as often.
    fn look_up(&mut self, id: &LedgerId, oldest: i64, checked: i64) -> Result<Versions, PlaceError> {
        let mut versions = BTreeMap::new();
        for (folder, day) in self.place.survey(Some(&id.folder()))?.days {
            if first_hour_of(&day).is_none_or(|first| first + 24 <= oldest) {
                continue;
            }
            let mut files = self.files(&folder, &day, id)?;
            files.retain(|file| file.contents == Contents::Attempts || file.hour < checked);
            for file in &files {
                let version = versions.entry((file.hour, file.contents)).or_insert(file.version);
                *version = (*version).max(file.version);
            }
            self.keep_one(&folder, &day, &files)?;
        }
        Ok(versions)
    }

    /// This ledger's files of a day.
    fn files(&mut self, folder: &str, day: &str, id: &LedgerId) -> Result<Vec<FileName>, PlaceError> {
        let names = self.place.names(folder, day)?;
        Ok(names.iter().filter_map(|name| FileName::parse(name)).filter(|file| file.ledger == *id && file.day() == day).collect())
    }

    fn ship_sums(
        &mut self,
        ledger: &ChangedHours,
        id: &LedgerId,
        hour: i64,
        shipped: &mut Versions,
        round: &mut Round,
    ) -> Result<(), ShipError> {
        let (folder, day) = (id.folder(), day_of(hour));
        // Listed before the ledger is read: whoever wrote these files with this ledger had read no later revision.
        let mut others = self.files(&folder, &day, id)?;
        others.retain(|file| (file.hour, file.contents) == (hour, Contents::Sums));
        let Some((revision, sums)) = ledger.hour(hour)? else { return Ok(()) };
        let (name, bytes) = encode(id, hour, revision, &sums)?;
        let is_foreign = |file: &FileName| file.version > revision || (file.version == revision && file.checksum != name.checksum);
        if others.iter().any(is_foreign) {
            round.conflicts += 1;
            return Ok(());
        }
        if !others.contains(&name) || !self.is_whole(&folder, &day, &name)? {
            self.place.write(&folder, &day, &name.to_string(), &bytes)?;
            round.files += 1;
        }
        self.replace(&folder, &day, &others, revision)?;
        shipped.insert((hour, Contents::Sums), revision);
        Ok(())
    }

    /// Whether a file has what its name says. One that can't be read counts as torn, too: it is written again.
    fn is_whole(&mut self, folder: &str, day: &str, name: &FileName) -> Result<bool, PlaceError> {
        match self.place.read(folder, day, &name.to_string()) {
            Err(PlaceError::File { .. }) => Ok(false),
            read => Ok(read?.is_some_and(|bytes| decode(name, &bytes).is_ok())),
        }
    }

    fn ship_attempts(
        &mut self,
        id: &LedgerId,
        hour: i64,
        revision: i64,
        shipped: &mut Versions,
        round: &mut Round,
    ) -> Result<(), ShipError> {
        let (path, day) = (id.folder(), day_of(hour));
        let mut others = self.files(&path, &day, id)?;
        others.retain(|file| (file.hour, file.contents) == (hour, Contents::Attempts));
        let mut count = 0;
        if others.iter().all(|file| file.version < revision) {
            let ledger = &self.folder;
            self.place.write_made(&path, &day, &mut |file| {
                let mut digested = Digested { to: BufWriter::new(file), digest: ring::digest::Context::new(&ring::digest::SHA256) };
                let exported = export(ledger, hour * HOUR, (hour + 1) * HOUR, Format::Parquet, &mut digested);
                count = exported.map_err(std::io::Error::other)?;
                digested.flush()?;
                let checksum = first_bytes(digested.digest.finish().as_ref());
                let name = FileName { ledger: id.clone(), hour, version: revision, checksum, contents: Contents::Attempts };
                // Single attempts are kept for a shorter time than sums: an earlier file may have them still.
                Ok((count > 0).then(|| name.to_string()))
            })?;
        }
        if count > 0 {
            round.files += 1;
            self.replace(&path, &day, &others, revision)?;
            // Another process of this node, of another version, may have written it meanwhile, with other bytes.
            let mut now_there = self.files(&path, &day, id)?;
            now_there.retain(|file| file.hour == hour);
            self.keep_one(&path, &day, &now_there)?;
        }
        shipped.insert((hour, Contents::Attempts), revision);
        Ok(())
    }

    /// Keeps one file of the attempts of each hour: that of the highest version, and of several of one version the same one whoever
    /// does this. Whoever reads attempts reads all files, so that what was replaced, or written by two processes at once, would count twice.
    fn keep_one(&mut self, folder: &str, day: &str, files: &[FileName]) -> Result<(), PlaceError> {
        let attempts = || files.iter().filter(|file| file.contents == Contents::Attempts);
        let rank = |file: &FileName| (file.version, file.checksum);
        for file in attempts().filter(|file| attempts().any(|other| other.hour == file.hour && rank(other) > rank(file))) {
            self.place.remove(folder, day, &file.to_string())?;
        }
        Ok(())
    }

    /// Removes what a file of this version replaces.
    fn replace(&mut self, folder: &str, day: &str, files: &[FileName], version: i64) -> Result<(), PlaceError> {
        for file in files.iter().filter(|file| file.version < version) {
            self.place.remove(folder, day, &file.to_string())?;
        }
        Ok(())
    }

    /// Removes this node's files that are too old, once a day.
    fn sweep(&mut self, id: &LedgerId, now: i64, oldest: i64) -> Result<(), PlaceError> {
        let today = now.div_euclid(24 * HOUR);
        if self.swept == Some(today) {
            return Ok(());
        }
        let before = std::time::UNIX_EPOCH + std::time::Duration::from_millis(now.unsigned_abs()).saturating_sub(LEFT_BEHIND);
        self.place.remove_unfinished(&id.folder(), None, before)?;
        for (folder, day) in self.place.survey(Some(&id.folder()))?.days {
            if first_hour_of(&day).is_some_and(|first| first + 24 <= oldest) {
                self.place.remove_day(&folder, &day)?;
            } else {
                self.place.remove_unfinished(&folder, Some(&day), before)?;
            }
        }
        self.swept = Some(today);
        Ok(())
    }
}

/// Writes, and makes a digest of what is written.
struct Digested<W: Write> {
    to: W,
    digest: ring::digest::Context,
}

impl<W: Write> Write for Digested<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.to.write(bytes)?;
        self.digest.update(bytes.get(..count).unwrap_or_default());
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}
