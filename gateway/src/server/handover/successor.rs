//! The process that takes over.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as StdStream;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use spillway_plugins::cache::{CacheKey, Entry, KeySecret};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::reachable::Reachable;
use super::{BEGINS_WITH_REACHABLE, EVERY, Message, VARIABLE, frame, receive, send};
use crate::gateway::Gateway;
use crate::limits::{Answer, OwnUseReports};

/// How long the old process may take to send its state.
const PATIENCE: Duration = Duration::from_secs(30);

/// Answers that wait until they can be sent. More wait where they are given.
const ANSWERS: usize = 1024;

/// The stream to the old process, before anything runs.
#[derive(Debug)]
pub struct Successor {
    stream: StdStream,
    /// Whether the old process begins with what it can reach.
    is_told: bool,
}

impl Successor {
    /// `Some` if this process was started to take over.
    pub fn from_environment() -> io::Result<Option<Successor>> {
        let Some(value) = std::env::var_os(VARIABLE) else { return Ok(None) };
        let stream = StdStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        Ok(Some(Successor { stream, is_told: value == BEGINS_WITH_REACHABLE }))
    }

    /// Takes over from the gateway at the other end of a stream.
    pub(in crate::server) fn over(stream: StdStream) -> Self {
        Successor { stream, is_told: true }
    }

    /// Reports the new process's id to the old process.
    pub fn started(mut self, pid: u32) {
        self.say(&Message::Started { pid });
    }

    fn say(&mut self, message: &Message) {
        // In one write: two processes write to this stream. If it is broken, the old process notices its end.
        let _ = frame(message).and_then(|frame| self.stream.write_all(&frame));
    }

    /// Reports to the old process that it must continue.
    pub fn fail(mut self, reason: &str) {
        self.say(&Message::Failed { reason: reason.to_owned() });
        // What it sent is read, so that closing the stream doesn't discard what it still has to read.
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
        let _ = self.stream.set_read_timeout(Some(Duration::from_secs(1)));
        let _ = self.stream.read(&mut [0; 64]);
    }

    /// What the old process can reach, and whether it will leave it to this one what limits admit; nothing if it is of a version that
    /// doesn't tell. To be called first.
    pub(in crate::server) async fn greeting(&self) -> io::Result<(Reachable, bool)> {
        if !self.is_told {
            return Ok((Reachable::default(), false));
        }
        self.stream.set_nonblocking(true)?;
        let mut stream = UnixStream::from_std(self.stream.try_clone()?)?;
        let received = tokio::time::timeout(PATIENCE, receive(&mut stream)).await;
        drop(stream);
        self.stream.set_nonblocking(false)?;
        match received.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? {
            Some(Message::Reachable { reachable, leaves_limits }) => Ok((reachable, leaves_limits)),
            // Of another version.
            Some(_) => Ok((Reachable::default(), false)),
            None => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the old process has ended")),
        }
    }

    /// Everything is prepared: receives the old process's state, until it says to accept.
    pub(in crate::server) async fn take_over(self, gateway: &Gateway) -> io::Result<Heir> {
        self.stream.set_nonblocking(true)?;
        let mut heir = Heir { stream: UnixStream::from_std(self.stream)?, ahead: None };
        send(&mut heir.stream, &Message::Prepared { pid: std::process::id(), takes_limits: true }).await?;
        let announced = async {
            loop {
                match receive(&mut heir.stream).await? {
                    Some(Message::Go) => return Ok(()),
                    Some(message) => heir.ahead = take(gateway, message, heir.ahead),
                    None => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the old process has ended")),
                }
            }
        };
        tokio::time::timeout(PATIENCE, announced).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        Ok(heir)
    }
}

/// The stream while this process runs and the old one finishes.
pub(in crate::server) struct Heir {
    stream: UnixStream,
    /// How far this process's clock is ahead of the old one's, in seconds.
    ahead: Option<i64>,
}

impl Heir {
    /// Reports that this process accepts.
    pub(in crate::server) async fn ready(&mut self) -> io::Result<()> {
        send(&mut self.stream, &Message::Ready).await
    }

    /// Receives the usage of the old process's last requests, until it ends. Meanwhile this one decides what the old one admits, and
    /// tells it what it uses itself.
    pub(in crate::server) async fn listen(self, gateway: Gateway) {
        let Heir { stream, mut ahead } = self;
        let (mut read, write) = stream.into_split();
        let (answers, outgoing) = mpsc::channel(ANSWERS);
        let telling = tokio::spawn(keep_telling(write, gateway.clone(), outgoing));
        loop {
            match receive(&mut read).await {
                Ok(Some(Message::LimitsLeft)) => {
                    if let Some(shared) = &gateway.limits.shared {
                        shared.announce().await;
                    }
                    gateway.limits.begin_to_decide();
                }
                Ok(Some(Message::Admit { question })) => {
                    let (gateway, answers) = (gateway.clone(), answers.clone());
                    // The other one may have ended meanwhile.
                    tokio::spawn(async move { drop(answers.send(gateway.limits.answer(question).await).await) });
                }
                Ok(Some(message)) => ahead = take(&gateway, message, ahead),
                Ok(None) => break info!("the old process has finished"),
                Err(error) => break warn!(%error, "the old process has ended early: its last requests count with what they reserved"),
            }
        }
        telling.abort();
        gateway.limits.inherited_all();
        gateway.limits.begin_to_decide();
    }
}

/// Tells the old process what it asks, and what this one uses itself, until that ends.
async fn keep_telling(mut stream: OwnedWriteHalf, gateway: Gateway, mut answers: mpsc::Receiver<Answer>) {
    let mut reports = OwnUseReports::of(&gateway.limits);
    loop {
        let scopes = reports.news();
        if !scopes.is_empty() && send(&mut stream, &Message::OwnUse { scopes }).await.is_err() {
            return;
        }
        let next = tokio::time::sleep(EVERY);
        tokio::pin!(next);
        loop {
            tokio::select! {
                () = &mut next => break,
                Some(answer) = answers.recv() => {
                    if send(&mut stream, &Message::Admitted { answer }).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

fn take(gateway: &Gateway, message: Message, ahead: Option<i64>) -> Option<i64> {
    match message {
        Message::Tallies { second, scopes, counted } => {
            // Computed once: amounts must be found under the second for which they were counted.
            let here = gateway.limits.now().second();
            let ahead = ahead.unwrap_or_else(|| i64::try_from(here).unwrap_or(0) - i64::try_from(second).unwrap_or(0));
            gateway.limits.inherit(scopes, &counted, ahead);
            return Some(ahead);
        }
        Message::Node { name, node, heard } => {
            gateway.limits.shared.iter().for_each(|shared| shared.go_on_as(name.clone(), node.clone(), heard));
        }
        Message::Shares { scopes } => gateway.limits.shared.iter().for_each(|shared| shared.take_over(&gateway.limits, &scopes)),
        Message::Targets { targets, quotas } => {
            let (runtime, now) = (gateway.runtime.load(), gateway.clock.now());
            for saved in &targets {
                let same = runtime
                    .targets
                    .iter()
                    .find(|target| *target.id.backend == *saved.backend && *target.id.deployment == *saved.deployment);
                same.into_iter().for_each(|target| target.restore(saved, now));
            }
            for saved in &quotas {
                let same = runtime.targets.quotas().iter().find(|quota| *quota.name == *saved.name);
                same.into_iter().for_each(|quota| quota.restore(saved, now));
            }
        }
        Message::Keys { keys } => gateway.keys.take_over(&keys),
        Message::Pins { pins } => pins.into_iter().for_each(|(name, pin)| gateway.objects.take_over(&name, pin, gateway.clock.now())),
        Message::Answer { key, entry } => {
            let runtime = gateway.runtime.load();
            let read = STANDARD.decode(key).ok().and_then(|key| Some((CacheKey(key.try_into().ok()?), STANDARD.decode(entry).ok()?)));
            if let (Some(cache), Some((key, entry))) = (&runtime.cache, read)
                && let Ok(entry) = Entry::from_bytes(&Bytes::from(entry))
            {
                cache.take_over(key, entry);
            }
        }
        Message::CacheSecret { secret } => {
            let secret = STANDARD.decode(secret).ok().and_then(|secret| KeySecret::from_bytes(&secret));
            if let (Some(cache), Some(secret)) = (&gateway.runtime.load().cache, secret) {
                cache.take_over_secret(secret);
            }
        }
        Message::Upgrades { done, failed } => {
            gateway.metrics.upgrades.done.inc_by(done);
            gateway.metrics.upgrades.failed.inc_by(failed);
        }
        Message::SignIn { sign_in } => gateway.sign_in.take_over(&sign_in),
        Message::Sessions { sessions } => gateway.sign_in.take_over_changes(sessions, gateway.clock.now()),
        Message::Reachable { .. }
        | Message::Started { .. }
        | Message::Prepared { .. }
        | Message::Ready
        | Message::Failed { .. }
        | Message::OwnUse { .. }
        | Message::LimitsLeft
        | Message::Admit { .. }
        | Message::Admitted { .. }
        | Message::Go
        | Message::Unknown => {}
    }
    ahead
}
