//! The process that hands over.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use command_fds::{CommandFdExt as _, FdMapping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use spillway_plugins::limits::Tally;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tracing::{debug, info};

use super::{Message, PINS, VARIABLE, receive, send};
use crate::gateway::Gateway;

/// How long the new process may take until everything is made: tokens are fetched, names are looked up.
const PREPARED: Duration = Duration::from_secs(60);
/// How long it may take to accept after that.
const READY: Duration = Duration::from_secs(10);
/// How often it is told what requests in flight use.
const EVERY: Duration = Duration::from_millis(200);
/// Answers between two times that it is told.
const ANSWERS: usize = 32;
/// The first file descriptor of the listening sockets.
const FIRST: i32 = 3;

/// Why the old process goes on.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// The program can't be started.
    #[error("can't start {program}: {source}")]
    Start {
        /// Its path.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// It says why it can't.
    #[error("the new process can't start: {0}")]
    Failed(String),
    /// It ended without a word.
    #[error("the new process ended before it was ready; its own log says why")]
    Ended,
    /// It takes too long.
    #[error("the new process was not ready after {} s", PREPARED.as_secs())]
    TooSlow,
    /// The stream between the two.
    #[error("the stream to the new process: {0}")]
    Stream(#[from] io::Error),
}

/// How this process was started: the next one is, too.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// This process's own. To be called at the start: later, the file may be another, which is the point.
    ///
    /// # Errors
    /// If the system can't say.
    pub fn own() -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        let given = arguments.next().map(PathBuf::from).filter(|path| path.is_absolute());
        // As it was given, if that is a whole path: it may be a link that points elsewhere by then.
        let path = given.map_or_else(std::env::current_exe, Ok)?;
        Ok(Program { path, arguments: arguments.collect() })
    }
}

/// A process that has taken over.
#[derive(Debug)]
pub(in crate::server) struct TakenOver {
    stream: UnixStream,
    /// Its process id.
    pub(in crate::server) pid: u32,
    told: HashMap<String, Tally>,
}

/// Starts the next process and hands over to it. When this returns, it accepts.
///
/// # Errors
/// [`HandoverError`]; then there is no other process, and nothing has changed.
pub(in crate::server) async fn hand_over(program: &Program, sockets: Vec<OwnedFd>, gateway: &Gateway) -> Result<TakenOver, HandoverError> {
    let (ours, theirs) = StdStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(ours)?;
    let starting = program.clone();
    let started = tokio::task::spawn_blocking(move || start(&starting, sockets, theirs.into())).await;
    let failed = |source| HandoverError::Start { program: program.path.display().to_string(), source };
    started.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())).map_err(failed)?;
    info!(program = %program.path.display(), "another process is to take over");
    let (mut told, mut starting) = (HashMap::new(), Starting(None));
    take_over(&mut stream, gateway, &mut told, &mut starting.0).await?;
    let pid = starting.0.take().ok_or(HandoverError::Ended)?;
    Ok(TakenOver { stream, pid, told })
}

/// A process that has not taken over yet: dropped, it is ended. It must not go on where nobody looks after it.
struct Starting(Option<u32>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Starts the program through another process that ends at once: a child of this one would not be its service
/// manager's, which then could not tell how it ends.
fn start(program: &Program, sockets: Vec<OwnedFd>, stream: OwnedFd) -> io::Result<()> {
    let mut command = Command::new(&program.path);
    command.arg("start-detached").arg("--").arg(&program.path).args(&program.arguments);
    command.stdin(Stdio::from(stream));
    command.env(VARIABLE, "1").env("LISTEN_FDS", sockets.len().to_string());
    // They name this process.
    command.env_remove("LISTEN_PID").env_remove("LISTEN_FDNAMES").env_remove("WATCHDOG_PID");
    let mappings = sockets.into_iter().zip(FIRST..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    command.fd_mappings(mappings.collect()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("it did not start another process ({status})"))) }
}

/// Sees the new process through to where it accepts; `pid` is its process id, as soon as that is known.
async fn take_over(
    stream: &mut UnixStream,
    gateway: &Gateway,
    told: &mut HashMap<String, Tally>,
    pid: &mut Option<u32>,
) -> Result<(), HandoverError> {
    let prepared = async {
        loop {
            match receive(stream).await {
                Ok(Some(Message::Started { pid: started })) => *pid = Some(started),
                Ok(Some(Message::Prepared { pid: prepared })) => {
                    *pid = Some(prepared);
                    break Ok(());
                }
                Ok(Some(Message::Failed { reason })) => break Err(HandoverError::Failed(reason)),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break Err(HandoverError::Ended),
            }
        }
    };
    tokio::time::timeout(PREPARED, prepared).await.map_err(|_| HandoverError::TooSlow)??;
    // One that doesn't listen must not hold this process up.
    tokio::time::timeout(READY, tell_all(stream, gateway, told)).await.map_err(|_| HandoverError::TooSlow)??;
    let ready = async {
        loop {
            match receive(stream).await {
                Ok(Some(Message::Ready)) => break Ok(()),
                Ok(Some(Message::Started { .. })) => {}
                _ => break Err(HandoverError::Ended),
            }
        }
    };
    tokio::time::timeout(READY, ready).await.map_err(|_| HandoverError::TooSlow)?
}

/// Tells everything that is known, and to accept.
async fn tell_all(stream: &mut UnixStream, gateway: &Gateway, told: &mut HashMap<String, Tally>) -> io::Result<()> {
    if let Some(shared) = &gateway.limits.shared {
        send(stream, &Message::Node { name: shared.name() }).await?;
    }
    tell_tallies(stream, gateway, told).await?;
    let now = gateway.clock.now();
    let targets = gateway.runtime.load().targets.iter().map(|target| target.tell(now)).collect();
    send(stream, &Message::Targets { targets }).await?;
    for pins in gateway.objects.all().chunks(PINS) {
        send(stream, &Message::Pins { pins: pins.to_vec() }).await?;
    }
    send(stream, &Message::Go).await
}

/// Tells what is used of the scopes that have changed since the last time.
async fn tell_tallies(stream: &mut UnixStream, gateway: &Gateway, told: &mut HashMap<String, Tally>) -> io::Result<()> {
    let now = gateway.limits.now();
    let mut scopes = Vec::new();
    for scope in gateway.limits.all() {
        let tally = scope.tell(now);
        let known = told.get(&scope.name);
        if known.is_none() || known.is_some_and(|known| *known != tally) {
            told.insert(scope.name.clone(), tally.clone());
            scopes.push((scope.name.clone(), tally));
        }
    }
    if scopes.is_empty() { Ok(()) } else { send(stream, &Message::Tallies { second: now.second(), scopes }).await }
}

impl TakenOver {
    /// Tells the new process the answers that are kept, and what requests in flight use, until everything is settled
    /// and `over`: then a last time.
    pub(in crate::server) async fn keep_telling(mut self, gateway: Gateway, over: watch::Receiver<bool>) {
        // It knows what was reserved: that counts if it hears no more.
        if let Err(error) = self.tell(&gateway, over).await {
            debug!(%error, "the new process listens no more");
        }
    }

    async fn tell(&mut self, gateway: &Gateway, mut over: watch::Receiver<bool>) -> io::Result<()> {
        let TakenOver { stream, told, .. } = self;
        let cache = gateway.runtime.load().cache.clone();
        let entries: Vec<_> = cache.iter().flat_map(|cache| cache.entries(gateway.clock.wall().timestamp_millis())).collect();
        for (number, (key, entry)) in entries.into_iter().enumerate() {
            // What is used comes first.
            if number % ANSWERS == 0 {
                tell_tallies(stream, gateway, told).await?;
            }
            if *over.borrow() {
                break;
            }
            send(stream, &Message::Answer { key: STANDARD.encode(key.0), entry: STANDARD.encode(entry.to_bytes()) }).await?;
        }
        loop {
            let over = tokio::time::timeout(EVERY, over.wait_for(|over| *over)).await.is_ok();
            tell_tallies(stream, gateway, told).await?;
            if over {
                return Ok(());
            }
        }
    }
}
