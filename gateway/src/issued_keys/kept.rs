//! What goes on in the background: the file and the memory are kept the same, and keys are exchanged with other nodes.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tracing::{error, info, warn};

use super::error::IssueError;
use super::memory::Source;
use super::signed::Signer;
use super::store::IssuedKeys;
use super::text;

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(250);
/// The same while it can't be written.
const FAILING: Duration = Duration::from_secs(2);
/// How many looks there are between two times that ended keys are forgotten.
const FORGET: u32 = 240;
/// How often nodes exchange keys.
const EXCHANGE: Duration = Duration::from_millis(200);
/// How long a start waits for all keys.
const ALL: Duration = Duration::from_secs(10);
/// Keys in one piece of what is handed over.
const PIECE: usize = 5000;
/// Timeout of an exchange.
const LIMIT: Duration = Duration::from_secs(2);

impl IssuedKeys {
    /// Keeps the file and the memory the same, for ever: what another process has written, and what could not be written
    /// before.
    pub async fn keep_saved(self: Arc<Self>) {
        let (mut failing, mut looks) = (false, 0_u32);
        loop {
            sleep(if failing { FAILING } else { LOOK }).await;
            looks = looks.wrapping_add(1);
            let forget = looks.is_multiple_of(FORGET);
            let done = self.blocking(move |keys| {
                if forget {
                    keys.memory.forget_ended(keys.clock.wall().timestamp());
                }
                if keys.must_save() { keys.save().map_err(IssueError::NotStored) } else { Ok(()) }
            });
            match done.await {
                Ok(()) if std::mem::take(&mut failing) => info!("the file of issued keys can be written again"),
                // One line per outage.
                Err(IssueError::NotStored(error)) if !std::mem::replace(&mut failing, true) => {
                    error!(%error, "the file of issued keys can't be written: keys can't be issued, and revocations hold only until a restart");
                }
                _ => {}
            }
        }
    }

    /// Reads what other nodes know, for a process that starts: all of it, as long as Redis answers, and for a few seconds at
    /// most. Returns at once without Redis.
    pub async fn join(&self) {
        let all = async { while matches!(timeout(LIMIT, self.exchange_once()).await, Ok(Some(true))) {} };
        if timeout(ALL, all).await.is_err() {
            warn!("not all issued keys could be read from Redis in time: the others are refused until they are read");
        }
    }

    /// Reads what another process has just written to the file.
    pub async fn catch_up(self: &Arc<Self>) {
        // If it fails, it is tried again, and reported then.
        let _ = self.blocking(|keys| if keys.must_save() { keys.save().map_err(IssueError::NotStored) } else { Ok(()) }).await;
    }

    /// What no file has, for a process that takes over: pieces for [`IssuedKeys::take_over`].
    pub fn hand_over(&self) -> Vec<String> {
        let keys = if self.has_file() { self.memory.unsaved() } else { self.memory.all() };
        keys.chunks(PIECE).map(text::line).collect()
    }

    /// Takes over what the old process knew.
    pub fn take_over(&self, piece: &str) {
        self.memory.learn(text::lines(piece.as_bytes()).keys, Source::Predecessor);
    }

    /// Exchanges keys with other nodes, for ever; returns at once without Redis.
    pub async fn keep_shared(self: Arc<Self>) {
        let mut reachable = true;
        while self.exchange.is_some() {
            // What happens here is sent at once: only the others' exchange is waited for.
            let _ = timeout(EXCHANGE, self.memory.has_news()).await;
            if self.signer().is_none() {
                self.memory.shared(false);
                continue;
            }
            let mut more = Some(true);
            while more == Some(true) {
                more = timeout(LIMIT, self.exchange_once()).await.unwrap_or(None);
            }
            let is_reachable = more.is_some();
            self.memory.shared(is_reachable);
            match (std::mem::replace(&mut reachable, is_reachable), is_reachable) {
                (true, false) => warn!("Redis can't be reached: keys that are issued or revoked at one node are not known to the others"),
                (false, true) => info!("Redis can be reached again: issued keys are exchanged"),
                _ => {}
            }
        }
    }

    /// Signs keys for other nodes; `None` if this node exchanges none.
    fn signer(&self) -> Option<Signer> {
        Signer::new(self.rules().pepper.as_ref())
    }

    /// One exchange. `Some(true)` if there is more to exchange, `None` if Redis can't be reached.
    async fn exchange_once(&self) -> Option<bool> {
        let Some(signer) = self.signer() else { return Some(false) };
        self.exchange.as_ref()?.exchange(&self.memory, &signer, self.clock.wall().timestamp()).await.ok()
    }
}
