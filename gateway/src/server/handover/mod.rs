//! Another process takes over: it gets the listening sockets and the state of limits, targets, stored objects and
//! cached answers. The old process stops accepting once the new one accepts, and finishes its requests.
//!
//! The old process starts the new one with the sockets as file descriptors from 3 on (`LISTEN_FDS`, as systemd passes
//! them) and a stream between the two as standard input. Both send frames on it: a length of four bytes, big endian,
//! and a [`Message`] in JSON.
//!
//! ```text
//! old  Reachable       addresses, and what else the new process must have before it takes over
//! new  Prepared        its config is valid, everything is made, nothing is accepted yet
//! old  Node, Tallies, Targets, SignIn, Sessions, Keys, Pins, CacheSecret … Go
//! new  Ready           it accepts; what it admits waits for the next two
//! old  Tallies, Shares …   the last requests that the old process has admitted by itself, and its shares
//! old  LimitsLeft      the new one decides what is admitted, for both
//! old  Tallies, Sessions, Answers, Admit …     while its requests are in flight; then it closes its side of the stream
//! new  Admitted, OwnUse …                      meanwhile: what the old process asks, and may know
//! ```

#[cfg(test)]
mod fixtures;
pub(super) mod predecessor;
pub(super) mod reachable;
pub(super) mod successor;
mod updates;

use std::io;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use spillway_plugins::limits::{OwnUse, Tally};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tracing::warn;

use self::reachable::Reachable;
use crate::balance::quota_pool::QuotaPoolState;
use crate::balance::target_state::TargetState;
use crate::limits::{Answer, HandedShare, Question};
use crate::objects::ObjectLocation;
use crate::sign_in::{SessionChanges, SignInHandover};

/// The environment variable that says that standard input is the stream to the old process.
pub const VARIABLE: &str = "SPILLWAY_HANDOVER";
/// Its value if the old process begins with [`Message::Reachable`]. Older versions send nothing before they are asked.
const BEGINS_WITH_REACHABLE: &str = "2";

/// Longest frame: a longer one is a mistake.
const LONGEST: usize = 256 << 20;
/// How often each of the two tells the other what its requests use.
const EVERY: Duration = Duration::from_millis(200);
/// Stored objects in one message.
const PINS: usize = 10_000;

/// The messages between the two. Unknown ones are ignored: the processes may be of different versions.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Message {
    /// What the old process can reach.
    Reachable {
        reachable: Reachable,
        /// Whether it sends [`Message::LimitsLeft`], if the new process understands that.
        #[serde(default)]
        leaves_limits: bool,
    },
    /// From the process in between: the new process runs.
    Started {
        pid: u32,
    },
    Prepared {
        pid: u32,
        /// Whether it understands [`Message::LimitsLeft`].
        #[serde(default)]
        takes_limits: bool,
    },
    Ready,
    /// The new process can't start.
    Failed {
        reason: String,
    },
    /// The usage of the scopes that have changed; `second` is the sender's monotonic clock.
    Tallies {
        second: u64,
        scopes: Vec<(String, Tally)>,
        /// The numbers of admitted requests that they contain, or that use nothing.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        counted: Vec<u64>,
    },
    /// The name under which the old process shares limits with other nodes, and its node's.
    Node {
        name: String,
        #[serde(default)]
        node: Option<String>,
        /// When Redis heard it last under that name, in milliseconds.
        #[serde(default)]
        heard: u64,
    },
    /// The old process's share of each limit, if nodes share them.
    Shares {
        scopes: Vec<(String, HandedShare)>,
    },
    /// The new process decides what limits admit from now on.
    LimitsLeft,
    /// May the old process answer this request?
    Admit {
        question: Question,
    },
    Admitted {
        answer: Answer,
    },
    /// What the new process uses itself of the limits of the scopes that have changed.
    OwnUse {
        scopes: Vec<(String, OwnUse)>,
    },
    Targets {
        targets: Vec<TargetState>,
        #[serde(default)]
        quotas: Vec<QuotaPoolState>,
    },
    /// Issued keys that no file has, as lines of such a file.
    Keys {
        keys: String,
    },
    Pins {
        pins: Vec<(String, ObjectLocation)>,
    },
    /// What finishes logins that are under way.
    SignIn {
        sign_in: SignInHandover,
    },
    /// Sessions of persons that have begun and ended.
    Sessions {
        sessions: SessionChanges,
    },
    /// The secret of which the keys of cached answers are made, in Base64.
    CacheSecret {
        secret: String,
    },
    /// How many upgrades were done, with this one, and how many failed.
    Upgrades {
        done: u64,
        failed: u64,
    },
    /// Accept connections now.
    Go,
    /// A cached answer: its key and its content, in Base64.
    Answer {
        key: String,
        entry: String,
    },
    /// A message of another version.
    #[serde(skip)]
    Unknown,
}

/// A message as bytes on the stream.
fn frame(message: &Message) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    serde_json::to_writer(&mut frame, message)?;
    let length = u32::try_from(frame.len() - 4).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}

async fn send(stream: &mut (impl AsyncWrite + Unpin), message: &Message) -> io::Result<()> {
    stream.write_all(&frame(message)?).await
}

/// The next message; `None` at the end of the stream.
async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Message>> {
    let length = match stream.read_u32().await {
        Ok(length) => length as usize,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    };
    if length > LONGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).await?;
    Ok(Some(serde_json::from_slice(&frame).unwrap_or_else(|error| {
        // Its text may repeat what was sent, such as a key.
        warn!(kind = ?error.classify(), column = error.column(), "the other process sent a message that this version doesn't know");
        Message::Unknown
    })))
}
