//! Nodes exchange issued keys through Redis: each writes what it knows, and reads what others have changed since it asked
//! last.
//!
//! What a node knows it keeps, whatever happens to Redis. If Redis loses what it had, every node writes again all that it
//! knows; to find a partial loss, such as after a failover to a replica that was behind, each node writes a few of its
//! keys again every second. Writing twice changes nothing.

use std::sync::atomic::{AtomicBool, Ordering};

use redis::Script;
use tracing::{error, warn};

use super::memory::{Memory, Source};
use super::signed::{Parts, Signer};
use crate::config;
use crate::redis::{RedisError, SharedMemory};

/// Keys in one exchange, in each direction.
const AT_ONCE: usize = 500;
/// Keys that are written again every second.
const AGAIN: usize = 200;
/// Exchanges in about a second.
const IN_A_SECOND: u32 = 5;
/// How often changes that came shortly before the last one are read again, in exchanges; and how long before, in
/// microseconds: the clock of a server that took over from another one may lag behind it.
const OVERLAP: (u32, i64) = (25, 10_000_000);

/// How far this node has read.
#[derive(Debug, Default)]
struct Position {
    /// The nodes that it exchanges keys with.
    tag: String,
    /// The memory that it has read.
    memory: String,
    /// Up to this change, in microseconds of Redis's clock.
    since: i64,
    /// The key up to which keys were written again.
    again: String,
    /// The number of exchanges.
    number: u32,
}

/// The exchange of issued keys with other nodes.
pub(super) struct KeyExchange {
    memory: SharedMemory,
    script: Script,
    position: tokio::sync::Mutex<Position>,
    has_warned: AtomicBool,
}

impl std::fmt::Debug for KeyExchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyExchange")
    }
}

impl KeyExchange {
    /// Nothing is exchanged yet.
    ///
    /// # Errors
    /// If the URL of Redis can't be used.
    pub(super) fn new(config: &config::Redis) -> Result<Self, RedisError> {
        Ok(KeyExchange {
            memory: SharedMemory::new(config)?,
            script: Script::new(include_str!("exchange.lua")),
            position: tokio::sync::Mutex::default(),
            has_warned: AtomicBool::new(false),
        })
    }

    /// One exchange, at `now` in seconds since 1970. `true` if there is more to exchange.
    ///
    /// # Errors
    /// If Redis can't be reached, or refuses.
    pub(super) async fn exchange(&self, keys: &Memory, signer: &Signer, now: i64) -> redis::RedisResult<bool> {
        let mut position = self.position.lock().await;
        let tag = signer.tag();
        if position.tag != tag {
            *position = Position { tag, ..Position::default() };
            keys.send_all();
        }
        let mut written = keys.unsent(AT_ONCE);
        if position.number.is_multiple_of(IN_A_SECOND) {
            let again = keys.some_after(&position.again, AGAIN);
            position.again = again.last().map(|key| key.made.id.to_string()).unwrap_or_default();
            written.extend(again);
        }
        let back = if position.number.is_multiple_of(OVERLAP.0) { OVERLAP.1 } else { 0 };
        let forgotten = keys.forgotten(AT_ONCE);
        let mut connection = self.memory.connection().await?;
        let mut call = self.script.prepare_invoke();
        for name in ["parts", "order", "memory"] {
            call.key(self.memory.key(&format!("{{issued-keys:{}}}:{name}", position.tag)));
        }
        call.arg(position.since.saturating_sub(back).max(0)).arg(AT_ONCE).arg(format!("{:032x}", fastrand::u128(..)));
        call.arg(forgotten.len());
        for id in &forgotten {
            call.arg(&**id);
        }
        for Parts { id, made, ends, revoked } in written.iter().map(|key| signer.parts(key)) {
            call.arg(id).arg(made).arg(ends).arg(revoked);
        }
        let answer: Vec<String> = call.invoke_async(&mut connection).await?;
        let (Some([memory, last, upto]), Some(news)) = (answer.first_chunk(), answer.get(3..)) else { return Ok(false) };
        let number = |text: &String| text.parse::<i64>().unwrap_or(0);
        position.number = position.number.wrapping_add(1);
        keys.sent(&written);
        keys.are_gone(&forgotten);
        self.learn(keys, signer, news, now);
        if position.memory != *memory || number(last) < position.since {
            // It has lost what it had, or never had it. What it has now is read from the beginning.
            if !position.memory.is_empty() {
                warn!("Redis has lost the issued keys: this node writes again what it knows");
            }
            (position.memory, position.since) = (memory.clone(), 0);
            keys.send_all();
            return Ok(true);
        }
        position.since = number(upto);
        Ok(news.len() / 4 >= AT_ONCE || written.len() >= AT_ONCE)
    }

    fn learn(&self, keys: &Memory, signer: &Signer, news: &[String], now: i64) {
        let mut known = Vec::with_capacity(news.len() / 4);
        for parts in news.chunks_exact(4) {
            let parts = Parts { id: parts[0].clone(), made: parts[1].clone(), ends: parts[2].clone(), revoked: parts[3].clone() };
            match signer.key(&parts) {
                Some(key) if key.is_over(now) => {}
                Some(key) => known.push(key),
                None => {
                    keys.refused();
                    if !self.has_warned.swap(true, Ordering::Relaxed) {
                        error!(
                            id = parts.id.chars().take(64).collect::<String>(),
                            "Redis has an issued key that no node of this gateway has signed: it is refused; who can write to Redis?"
                        );
                    }
                }
            }
        }
        keys.learn(known, Source::Redis);
    }
}
