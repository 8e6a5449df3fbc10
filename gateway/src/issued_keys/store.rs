//! Issues, revokes and rotates keys.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use spillway_plugins::auth::key_text;
use tracing::{info, warn};

use super::error::{IssueError, KeyFileError, KeysError};
use super::exchange::KeyExchange;
use super::file::KeyFile;
use super::live::LiveKeys;
use super::memory::{MOST, Memory, Source};
use super::random_key::{random_id, random_key};
use super::record::{Made, Revoked, StoredKey};
use super::rules::Rules;
use super::shapes::{Issued, KeyRecord, NewKey};
use crate::clock::Clock;
use crate::config::Config;
use crate::telemetry::metrics::IssuedKeyMetrics;

/// The keys that are issued at run time.
#[derive(Debug)]
pub struct IssuedKeys {
    pub(super) memory: Memory,
    rules: ArcSwap<Rules>,
    file: Option<Mutex<KeyFile>>,
    pub(super) exchange: Option<KeyExchange>,
    pub(super) clock: Clock,
}

impl IssuedKeys {
    /// The keys in the config's `state_dir`. Without one, keys can't be issued here; those that other nodes have issued
    /// are known by Redis.
    ///
    /// # Errors
    /// If the URL of Redis can't be used, or if there is a file of keys that can't be read: without it, good keys would be
    /// refused.
    pub fn open(config: &Config, clock: Clock, metrics: IssuedKeyMetrics) -> Result<Self, KeysError> {
        let folder = config.server.state_dir.as_deref();
        let keys = IssuedKeys {
            memory: Memory::new(folder.is_some(), config.redis.is_some(), metrics),
            rules: ArcSwap::from_pointee(Rules::of(config)),
            file: folder.map(|folder| Mutex::new(KeyFile::new(folder))),
            exchange: config.redis.as_ref().map(KeyExchange::new).transpose()?,
            clock,
        };
        if let Some(folder) = folder {
            keys.read_first(folder)?;
        }
        Ok(keys)
    }

    fn read_first(&self, folder: &Path) -> Result<(), KeyFileError> {
        // If it fails, so does what follows.
        let _ = std::fs::create_dir_all(folder);
        let read = self.write(|| Ok::<_, io::Error>(Vec::new()));
        let Some(file) = &self.file else { return Ok(()) };
        let path = file.lock().path().to_owned();
        match read {
            Ok(_) => Ok(()),
            // There is nothing to lose; the file is tried again.
            Err(source) if !path.exists() => {
                warn!(path = %path.display(), error = %source, "the file of issued keys can't be made: keys can't be issued");
                Ok(())
            }
            Err(source) => {
                // What could be read is used, though the disk may be full.
                if file.lock().is_read() {
                    warn!(path = %path.display(), error = %source, "the file of issued keys can't be written");
                    return Ok(());
                }
                Err(KeyFileError { path, source })
            }
        }
    }

    /// The keys that requests are checked against.
    pub fn live(&self) -> &Arc<LiveKeys> {
        self.memory.live()
    }

    /// Another config is in use.
    pub fn follow(&self, config: &Config) {
        self.rules.store(Arc::new(Rules::of(config)));
    }

    /// The config's pepper, with which records are signed for other nodes.
    pub(super) fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    fn now(&self) -> i64 {
        self.clock.wall().timestamp()
    }

    /// Issues a key on behalf of `by`. When this returns, the key works here, and a crash doesn't lose it; at other nodes
    /// it works within a second.
    ///
    /// # Errors
    /// [`IssueError`]; then nothing has changed.
    pub async fn issue(self: &Arc<Self>, new: NewKey, by: &str) -> Result<Issued, IssueError> {
        let by = by.to_owned();
        self.blocking(move |keys| keys.issue_now(new, &by)).await
    }

    /// Revokes a key on behalf of `by`: here at once, at other nodes within a second. To revoke it again changes nothing.
    ///
    /// # Errors
    /// [`IssueError`]. After [`IssueError::RevokedButNotStored`] it is revoked all the same.
    pub async fn revoke(self: &Arc<Self>, id: &str, by: &str) -> Result<KeyRecord, IssueError> {
        let (id, by) = (id.to_owned(), by.to_owned());
        self.blocking(move |keys| keys.revoke_now(&id, &by)).await
    }

    /// Issues a key in the place of another one, for the same time, on behalf of `by`. The old one is valid for another
    /// `grace`.
    ///
    /// # Errors
    /// [`IssueError`]; then nothing has changed.
    pub async fn rotate(self: &Arc<Self>, id: &str, grace: Duration, by: &str) -> Result<Issued, IssueError> {
        let (id, by) = (id.to_owned(), by.to_owned());
        self.blocking(move |keys| keys.rotate_now(&id, grace, &by)).await
    }

    /// Runs work that waits for the disk.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&IssuedKeys) -> Result<T, IssueError> + Send + 'static,
    ) -> Result<T, IssueError> {
        let keys = Arc::clone(self);
        tokio::task::spawn_blocking(move || work(&keys)).await.unwrap_or(Err(IssueError::Stopping))
    }

    /// All keys that are not long over, by consumer and age.
    pub fn list(&self) -> Vec<KeyRecord> {
        let mut all: Vec<KeyRecord> = self.memory.all().iter().map(|key| self.record(key)).collect();
        all.sort_by(|one, other| (&one.consumer, one.created, &one.id).cmp(&(&other.consumer, other.created, &other.id)));
        all
    }

    /// The key with this id.
    pub fn find(&self, id: &str) -> Option<KeyRecord> {
        Some(self.record(&self.memory.get(id)?))
    }

    fn record(&self, key: &StoredKey) -> KeyRecord {
        let Made { created, id, consumer, label, owner, models, hint, by, not_before, .. } = &*key.made;
        KeyRecord {
            id: Arc::clone(id),
            consumer: Arc::clone(consumer),
            has_consumer: self.rules.load().has(consumer),
            label: label.clone(),
            owner: owner.clone(),
            models: models.clone(),
            hint: hint.clone(),
            created: *created,
            by: by.clone(),
            not_before: *not_before,
            expires: key.expires(),
            replaced: key.ends.is_some(),
            revoked: key.revoked.as_ref().map(|revoked| revoked.at),
            revoked_by: key.revoked.as_ref().map(|revoked| revoked.by.clone()),
            last_use: self.memory.last_use(key),
        }
    }

    fn issue_now(&self, new: NewKey, by: &str) -> Result<Issued, IssueError> {
        if self.file.is_none() {
            return Err(IssueError::NoFolder);
        }
        let (rules, now) = (self.rules(), self.now());
        rules.check(&new, now)?;
        let (key, made) = self.make(&rules, new, now, by)?;
        let issued = Issued { id: made.id.to_string(), key: key.into(), hint: made.hint.clone(), expires: made.expires };
        self.store(vec![StoredKey { made: Arc::new(made), ends: None, revoked: None }])?;
        info!(id = issued.id, by, "a key was issued");
        Ok(issued)
    }

    fn make(&self, rules: &Rules, new: NewKey, now: i64, by: &str) -> Result<(String, Made), IssueError> {
        let key = random_key().map_err(|_| IssueError::NoRandomNumbers)?;
        let made = Made {
            created: now,
            id: random_id().map_err(|_| IssueError::NoRandomNumbers)?.into(),
            consumer: new.consumer,
            label: new.label,
            owner: new.owner,
            models: new.models.map(Into::into),
            hint: key_text::hint(&key),
            stored: rules.stored(&key),
            by: by.to_owned(),
            not_before: new.not_before,
            expires: new.expires,
        };
        Ok((key, made))
    }

    /// Stores changes, of which the first is a new key, and uses them once they are on the disk.
    fn store(&self, changes: Vec<StoredKey>) -> Result<(), IssueError> {
        self.store_if(|| Ok(()), changes)
    }

    /// The same, unless `allowed` refuses it once no other process or request can change the file.
    fn store_if(&self, allowed: impl FnOnce() -> Result<(), IssueError>, changes: Vec<StoredKey>) -> Result<(), IssueError> {
        let Some(file) = &self.file else { return Err(IssueError::NoFolder) };
        // Until memory has it, too.
        let mut file = file.lock();
        let written = file.write(self.clock.wall(), &self.memory, || {
            allowed()?;
            if self.memory.len() >= MOST {
                return Err(IssueError::Full { most: MOST });
            }
            Ok(changes)
        })?;
        self.memory.learn(written, Source::File);
        Ok(())
    }

    fn revoke_now(&self, id: &str, by: &str) -> Result<KeyRecord, IssueError> {
        let mut key = self.memory.get(id).ok_or(IssueError::UnknownKey)?;
        if key.revoked.is_none() {
            key.revoked = Some(Revoked { at: self.now(), by: by.to_owned() });
            // First of all: whatever happens to the disk, the key must not work any longer.
            self.memory.learn([key], Source::Here);
            info!(id, by, "a key was revoked");
        }
        if self.file.is_some() {
            self.save().map_err(IssueError::RevokedButNotStored)?;
        }
        self.find(id).ok_or(IssueError::UnknownKey)
    }

    fn rotate_now(&self, id: &str, grace: Duration, by: &str) -> Result<Issued, IssueError> {
        if self.file.is_none() {
            return Err(IssueError::NoFolder);
        }
        let mut old = self.memory.get(id).ok_or(IssueError::UnknownKey)?;
        let (rules, now) = (self.rules(), self.now());
        let may_be_rotated = |old: &StoredKey| match old {
            old if old.revoked.is_some() || old.expires().is_some_and(|end| end <= now) => Err(IssueError::Ended { id: id.to_owned() }),
            // One key has one successor, however long its grace is.
            StoredKey { ends: Some(_), .. } => Err(IssueError::Replaced { id: id.to_owned() }),
            _ => Ok(()),
        };
        may_be_rotated(&old)?;
        // A key for later gives a key for later.
        let not_before = old.made.not_before.filter(|from| *from > now);
        let lifetime = |end: i64| end.saturating_sub(old.made.created.max(old.made.not_before.unwrap_or(i64::MIN)));
        let new = NewKey {
            consumer: Arc::clone(&old.made.consumer),
            label: old.made.label.clone(),
            owner: old.made.owner.clone(),
            not_before,
            // As long as the old one was meant to last.
            expires: old.made.expires.map(|end| not_before.unwrap_or(now).saturating_add(lifetime(end))),
            models: old.made.models.as_ref().map(|models| models.to_vec()),
        };
        rules.check(&new, now)?;
        let (key, made) = self.make(&rules, new, now, by)?;
        let issued = Issued { id: made.id.to_string(), key: key.into(), hint: made.hint.clone(), expires: made.expires };
        let ends = now.saturating_add(i64::try_from(grace.as_secs()).unwrap_or(i64::MAX));
        old.ends = Some(ends);
        // In one line: both hold, or neither. Meanwhile somebody else may have revoked or rotated it.
        let still = || may_be_rotated(&self.memory.get(id).ok_or(IssueError::UnknownKey)?);
        self.store_if(still, vec![StoredKey { made: Arc::new(made), ends: None, revoked: None }, old])?;
        info!(id, new = issued.id, by, "a key was rotated");
        Ok(issued)
    }

    /// Writes what is in memory, but not in the file, and reads what other processes have written.
    pub(super) fn save(&self) -> io::Result<()> {
        let written = self.write(|| Ok::<_, io::Error>(self.memory.unsaved()))?;
        self.memory.saved(&written);
        Ok(())
    }

    /// Whether keys are kept in a file.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Whether there is something to save or to read.
    pub(super) fn must_save(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.lock().has_changed() || self.memory.has_unsaved())
    }

    fn write<E: From<io::Error>>(&self, changes: impl FnOnce() -> Result<Vec<StoredKey>, E>) -> Result<Vec<StoredKey>, E> {
        match &self.file {
            Some(file) => file.lock().write(self.clock.wall(), &self.memory, changes),
            None => Ok(Vec::new()),
        }
    }
}
