//! Redis as the place that all nodes share. A hash for each node and day has the files by their names; another one has the
//! states; a set has the nodes and days that there are.

use std::time::{Duration, SystemTime};

use redis::{Commands as _, Connection, ErrorKind, RedisError, RedisResult};

use super::name::first_hour_of;
use super::place::{MakeFile, Place, PlaceError, StateFile, Survey};
use crate::config;

/// Longest wait for Redis.
const PATIENCE: Duration = Duration::from_secs(5);
/// Files are removed by their node; if it is gone for good, Redis does that after this time.
const LONGEST: i64 = 1100 * 86_400;

/// A server.
pub struct InRedis {
    client: redis::Client,
    connection: Option<Connection>,
    prefix: String,
}

impl InRedis {
    /// Does not connect yet.
    ///
    /// # Errors
    /// [`PlaceError`]
    pub fn new(config: &config::Redis) -> Result<Self, PlaceError> {
        crate::http_client::install_crypto();
        let client = redis::Client::open(config.url.expose()).map_err(|error| said(&error))?;
        Ok(InRedis { client, connection: None, prefix: prefix(&config.prefix) })
    }

    /// Runs commands on a connection, which is made if there is none, and dropped if they fail.
    fn run<T>(&mut self, commands: impl FnOnce(&mut Connection) -> RedisResult<T>) -> Result<T, PlaceError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().map_err(|error| said(&error))?,
        };
        let result = commands(&mut connection).map_err(|error| said(&error))?;
        self.connection = Some(connection);
        Ok(result)
    }

    fn connect(&self) -> RedisResult<Connection> {
        let connection = self.client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    fn day_key(&self, folder: &str, day: &str) -> String {
        format!("{}{folder}:{day}", self.prefix)
    }

    fn days_key(&self) -> String {
        format!("{}days", self.prefix)
    }

    fn states_key(&self) -> String {
        format!("{}states", self.prefix)
    }
}

impl Place for InRedis {
    fn survey(&mut self, folder: Option<&str>) -> Result<Survey, PlaceError> {
        let (days, states) = (self.days_key(), self.states_key());
        let (days, states): (Vec<String>, Vec<(String, Vec<u8>)>) =
            self.run(|redis| Ok((redis.smembers(&days)?, redis.hgetall(&states)?)))?;
        let is_meant = |node: &str| folder.is_none_or(|folder| folder == node);
        let mut survey = Survey::default();
        for text in days {
            match text.split_once(':') {
                Some((node, day)) if first_hour_of(day).is_some() => {
                    if is_meant(node) {
                        survey.days.push((node.to_owned(), day.to_owned()));
                    }
                }
                _ => survey.foreign.push(text),
            }
        }
        survey.days.sort();
        for (text, bytes) in states {
            match text.split_once(':') {
                Some((node, name)) => {
                    if is_meant(node) {
                        survey.states.push(StateFile { folder: node.to_owned(), name: name.to_owned(), bytes });
                    }
                }
                None => survey.foreign.push(text),
            }
        }
        Ok(survey)
    }

    fn names(&mut self, folder: &str, day: &str) -> Result<Vec<String>, PlaceError> {
        let key = self.day_key(folder, day);
        self.run(|redis| redis.hkeys(&key))
    }

    fn read(&mut self, folder: &str, day: &str, name: &str) -> Result<Option<Vec<u8>>, PlaceError> {
        let key = self.day_key(folder, day);
        self.run(|redis| redis.hget(&key, name))
    }

    fn write(&mut self, folder: &str, day: &str, name: &str, bytes: &[u8]) -> Result<(), PlaceError> {
        let (key, days) = (self.day_key(folder, day), self.days_key());
        let mut all = redis::pipe();
        all.atomic().hset(&key, name, bytes).ignore().sadd(&days, format!("{folder}:{day}")).ignore().expire(&key, LONGEST).ignore();
        self.run(|redis| all.query(redis))
    }

    fn remove(&mut self, folder: &str, day: &str, name: &str) -> Result<(), PlaceError> {
        let key = self.day_key(folder, day);
        self.run(|redis| redis.hdel(&key, name))
    }

    fn remove_day(&mut self, folder: &str, day: &str) -> Result<(), PlaceError> {
        let (key, days) = (self.day_key(folder, day), self.days_key());
        let mut all = redis::pipe();
        all.atomic().del(&key).ignore().srem(&days, format!("{folder}:{day}")).ignore();
        self.run(|redis| all.query(redis))
    }

    fn write_state(&mut self, folder: &str, name: &str, bytes: &[u8]) -> Result<(), PlaceError> {
        let states = self.states_key();
        self.run(|redis| redis.hset(&states, format!("{folder}:{name}"), bytes))
    }

    fn write_made(&mut self, _: &str, _: &str, _: &mut MakeFile<'_>) -> Result<(), PlaceError> {
        Err(PlaceError::NoFolder)
    }

    fn remove_unfinished(&mut self, _: &str, _: Option<&str>, _: SystemTime) -> Result<(), PlaceError> {
        // A command is executed as a whole.
        Ok(())
    }
}

/// The beginning of all keys. The part in braces is the same in all of them, so that a cluster has them in one slot: it refuses
/// transactions over several.
fn prefix(configured: &str) -> String {
    format!("{configured}{{usage}}:")
}

/// An error, without its message, which may have the password.
fn said(error: &RedisError) -> PlaceError {
    let text = match error.kind() {
        ErrorKind::Io => "can't be reached, or doesn't answer".to_owned(),
        ErrorKind::AuthenticationFailed => "refuses the password".to_owned(),
        kind => match error.code() {
            Some("OOM") => "has no memory left (OOM)".to_owned(),
            Some(code) => format!("answers {code}"),
            None => format!("{kind:?}"),
        },
    };
    PlaceError::Redis(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a cluster makes the slot of: <https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/#hash-tags>.
    fn hashed(key: &str) -> &str {
        let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
        tag.filter(|tag| !tag.is_empty()).unwrap_or(key)
    }

    #[test]
    fn all_keys_are_in_one_slot_of_a_cluster() {
        for configured in ["spillway:", "", "{team}:"] {
            let client = redis::Client::open("redis://localhost").unwrap();
            let place = InRedis { client, connection: None, prefix: prefix(configured) };
            let keys = [place.days_key(), place.states_key(), place.day_key("a", "2026-11-10"), place.day_key("b", "2026-11-11")];
            let slots: std::collections::BTreeSet<&str> = keys.iter().map(|key| hashed(key)).collect();
            assert!(slots.len() == 1, "{keys:?}");
        }
    }
}
