//! Who is signed in. Sessions are in memory only; a restart ends them.
//!
//! A session is known by the digest of its token, so that a picture of this memory opens none.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use ring::error::Unspecified;
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};
use spillway_plugins::auth::{Digest, digest};

use super::logout::Logout;
use super::person::Person;
use super::secret_text::{csrf, equal, is_random, random};
use crate::clock::Tick;

/// Most sessions; the one not used for longest ends first.
const MOST: usize = 5000;
/// Most sessions of one person; the one not used for longest ends first.
const OF_ONE: usize = 16;

/// The longest lifetime that a config may give to sessions.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// How long sessions last.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// At most.
    pub session: Duration,
    /// Without a request.
    pub idle: Duration,
}

#[derive(Debug)]
struct Session {
    person: Arc<Person>,
    /// The issuer and the application.
    realm: Arc<str>,
    /// The issuer's own session (claim `sid`), which it names when it ends.
    sid: Option<String>,
    /// When the person authenticated at the issuer, if that is known.
    authenticated: Option<Tick>,
    began: Tick,
    used: Tick,
}

impl Session {
    fn is_live(&self, realm: &str, limits: Limits, now: Tick) -> bool {
        *self.realm == *realm && now.since(self.began) < limits.session && now.since(self.used) < limits.idle
    }
}

/// What a session begins with.
#[derive(Debug)]
pub struct Beginning<'b> {
    /// Who has signed in.
    pub person: Person,
    /// The issuer and the application.
    pub realm: &'b str,
    /// The issuer's own session (claim `sid`).
    pub sid: Option<String>,
    /// When the person authenticated at the issuer, if that is known.
    pub authenticated: Option<Tick>,
}

/// A live session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The session.
    pub id: Digest,
    /// Who has signed in.
    pub person: Arc<Person>,
    /// When it began.
    pub began: Tick,
    /// When the person authenticated at the issuer, if that is known.
    pub authenticated: Option<Tick>,
    /// When it ends at the latest.
    pub ends: Tick,
}

/// A session, for a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSummary {
    /// Who has signed in.
    pub person: Arc<Person>,
    /// Since when.
    pub age: Duration,
    /// Time since its last request.
    pub idle: Duration,
}

/// All sessions.
#[derive(Debug, Default)]
pub struct Sessions {
    live: Mutex<HashMap<Digest, Session>>,
    /// Those that somebody has ended and the process that takes over doesn't know of. Those that ended by time are not
    /// among them: there they may have been used meanwhile.
    ended: Mutex<HashSet<Digest>>,
}

/// What the process that takes over has heard of.
#[derive(Debug, Default)]
pub struct SentSignIn {
    sessions: HashSet<Digest>,
    /// Logins that are finished.
    pub(super) finished: HashSet<Digest>,
    /// Logout tokens that were used.
    pub(super) logouts: HashSet<Digest>,
}

impl Sessions {
    /// Begins a session and returns its token.
    ///
    /// # Errors
    /// If the system has no random numbers.
    pub fn begin(&self, new: Beginning<'_>, limits: Limits, now: Tick, rng: &dyn SecureRandom) -> Result<String, Unspecified> {
        let Beginning { person, realm, sid, authenticated } = new;
        let token = random(rng)?;
        let mut sessions = self.live.lock();
        // Those of another issuer or application are not judged by these limits: a login that began before a reload ends none
        // of those that began after it.
        sessions.retain(|_, session| match *session.realm == *realm {
            true => session.is_live(realm, limits, now),
            false => now.since(session.began) < LONGEST,
        });
        while sessions.values().filter(|session| session.person.subject == person.subject).count() >= OF_ONE {
            end_longest_unused(&mut sessions, |session| session.person.subject == person.subject);
        }
        while sessions.len() >= MOST {
            end_longest_unused(&mut sessions, |_| true);
        }
        let (person, realm) = (Arc::new(person), realm.into());
        sessions.insert(digest(token.as_bytes()), Session { person, realm, sid, authenticated, began: now, used: now });
        Ok(token)
    }

    /// The live session with this token. If `uses`, its idle time begins again.
    pub fn find(&self, token: &str, realm: &str, limits: Limits, now: Tick, uses: bool) -> Option<Found> {
        let id = is_random(token).then(|| digest(token.as_bytes()))?;
        let mut sessions = self.live.lock();
        let session = sessions.get_mut(&id)?;
        if !session.is_live(realm, limits, now) {
            sessions.remove(&id);
            return None;
        }
        if uses {
            session.used = now;
        }
        let Session { began, authenticated, .. } = *session;
        Some(Found { id, person: Arc::clone(&session.person), began, authenticated, ends: began + limits.session })
    }

    /// Whether a session is live. This doesn't use it.
    pub fn is_live(&self, id: &Digest, realm: &str, limits: Limits, now: Tick) -> bool {
        self.live.lock().get(id).is_some_and(|session| session.is_live(realm, limits, now))
    }

    /// The CSRF token of a session with this token.
    pub fn csrf_of(token: &str) -> String {
        csrf(token)
    }

    /// Whether a text is the CSRF token of the session with this token; the time tells nothing.
    pub fn is_csrf_of(token: &str, given: &str) -> bool {
        equal(&csrf(token), given)
    }

    /// Ends a session.
    pub fn end(&self, id: &Digest) -> bool {
        let was_there = self.live.lock().remove(id).is_some();
        if was_there {
            self.note([*id]);
        }
        was_there
    }

    /// Ends the session with this token.
    pub fn end_token(&self, token: &str) -> bool {
        self.end(&digest(token.as_bytes()))
    }

    /// Ends the sessions of a person, or all of them. Returns how many there were.
    pub fn end_all(&self, subject: Option<&str>) -> usize {
        let mut sessions = self.live.lock();
        let ends = |session: &Session| subject.is_none_or(|subject| session.person.subject == subject);
        let ended: Vec<Digest> = sessions.extract_if(|_, session| ends(session)).map(|(id, _)| id).collect();
        drop(sessions);
        let count = ended.len();
        self.note(ended);
        count
    }

    /// Ends the sessions of this issuer and application that a logout means. Returns whose they were.
    pub(super) fn end_at_issuer(&self, realm: &str, logout: &Logout) -> Vec<Arc<Person>> {
        let ends = |session: &Session| *session.realm == *realm && logout.means(&session.person.subject, session.sid.as_deref());
        let ended: Vec<(Digest, Session)> = self.live.lock().extract_if(|_, session| ends(session)).collect();
        self.note(ended.iter().map(|(id, _)| *id));
        ended.into_iter().map(|(_, session)| session.person).collect()
    }

    /// Notes that these were ended. Without an upgrade nobody asks for them: then there is room for some of them only.
    fn note(&self, ids: impl IntoIterator<Item = Digest>) {
        let mut ended = self.ended.lock();
        if ended.len() >= MOST {
            ended.clear();
        }
        ended.extend(ids);
    }

    /// The live ones, the latest first.
    pub fn list(&self, realm: &str, limits: Limits, now: Tick) -> Vec<SessionSummary> {
        let sessions = self.live.lock();
        let live = sessions.values().filter(|session| session.is_live(realm, limits, now));
        let summary = |session: &Session| {
            let person = Arc::clone(&session.person);
            SessionSummary { person, age: now.since(session.began), idle: now.since(session.used) }
        };
        let mut list: Vec<SessionSummary> = live.map(summary).collect();
        list.sort_by_key(|session| session.age);
        list
    }

    /// What has changed since the last call with this `sent`, for the process that takes over.
    pub fn changes(&self, sent: &mut SentSignIn, now: Tick) -> SessionChanges {
        let sent = &mut sent.sessions;
        let sessions = self.live.lock();
        let noted = std::mem::take(&mut *self.ended.lock());
        let ended = sent.extract_if(|id| noted.contains(id)).map(|id| id.to_string()).collect();
        let begun = sessions.iter().filter(|(id, _)| sent.insert(**id)).map(|(id, session)| SavedSession {
            id: id.to_string(),
            person: Person::clone(&session.person),
            realm: session.realm.to_string(),
            sid: session.sid.clone(),
            authenticated_ms: session.authenticated.map(|at| millis(now.since(at))),
            age_ms: millis(now.since(session.began)),
            idle_ms: millis(now.since(session.used)),
        });
        SessionChanges { begun: begun.collect(), ended, finished: Vec::new(), logouts: Vec::new() }
    }

    /// Takes over what another process sends.
    pub fn take_over(&self, changes: SessionChanges, now: Tick) {
        let mut sessions = self.live.lock();
        for id in changes.ended.iter().filter_map(|id| id.parse().ok()) {
            let id: Digest = id;
            sessions.remove(&id);
        }
        for saved in changes.begun {
            let Ok(id) = saved.id.parse::<Digest>() else { continue };
            let (began, used) = (ago(now, saved.age_ms), ago(now, saved.idle_ms));
            let authenticated = saved.authenticated_ms.map(|age| ago(now, age));
            let (person, realm, sid) = (Arc::new(saved.person), saved.realm.into(), saved.sid);
            sessions.insert(id, Session { person, realm, sid, authenticated, began, used });
        }
    }
}

fn end_longest_unused(sessions: &mut HashMap<Digest, Session>, of: impl Fn(&Session) -> bool) {
    let oldest = sessions.iter().filter(|(_, session)| of(session)).min_by_key(|(_, session)| session.used).map(|(id, _)| *id);
    oldest.into_iter().for_each(|id| drop(sessions.remove(&id)));
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn ago(now: Tick, millis: u64) -> Tick {
    Tick(now.0.saturating_sub(millis.saturating_mul(1_000_000)))
}

/// Sessions that began and ended, on their way to the process that takes over.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct SessionChanges {
    begun: Vec<SavedSession>,
    /// Digests in hexadecimal.
    ended: Vec<String>,
    /// Logins that were finished: digests, in hexadecimal.
    #[serde(default)]
    pub(super) finished: Vec<String>,
    /// Logout tokens that were used: digests, in hexadecimal.
    #[serde(default)]
    pub(super) logouts: Vec<String>,
}

impl SessionChanges {
    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.begun.is_empty() && self.ended.is_empty() && self.finished.is_empty() && self.logouts.is_empty()
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedSession {
    /// The digest of its token, in hexadecimal.
    id: String,
    person: Person,
    realm: String,
    #[serde(default)]
    sid: Option<String>,
    #[serde(default)]
    authenticated_ms: Option<u64>,
    age_ms: u64,
    idle_ms: u64,
}

#[cfg(test)]
mod tests;
