//! The process that hands over.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use command_fds::{CommandFdExt as _, FdMapping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{debug, info};

use super::reachable::Reachable;
use super::updates::{Left, Sent, Updates, send_sessions, send_tallies};
use super::{BEGINS_WITH_REACHABLE, Message, PINS, VARIABLE, receive, send};
use crate::gateway::Gateway;
use crate::limits::Successor;

/// How long the new process may take to prepare: it fetches tokens and looks up names.
const PREPARED: Duration = Duration::from_secs(60);
/// How long it may take after that to accept connections.
const READY: Duration = Duration::from_secs(10);
/// The first file descriptor of the listening sockets.
const FIRST: i32 = 3;

/// Why the new process doesn't take over.
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
    /// The new process reports why it can't start.
    #[error("the new process can't start: {0}")]
    Failed(String),
    /// It ended without a report.
    #[error("the new process ended before it was ready; its own log says why")]
    Ended,
    /// It took too long.
    #[error("the new process was not ready after {} s", PREPARED.as_secs())]
    TooSlow,
    /// The stream between the two failed.
    #[error("the stream to the new process: {0}")]
    Stream(#[from] io::Error),
}

/// How this process was started; the next one is started in the same way.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// This process's own. Must be called at the start: later the file may have been replaced, which is the purpose of
    /// an upgrade.
    ///
    /// # Errors
    /// If the system doesn't know.
    pub fn own() -> io::Result<Self> {
        let mut arguments = std::env::args_os();
        let (given, running) = (arguments.next().map(PathBuf::from).unwrap_or_default(), std::env::current_exe()?);
        let search = std::env::var_os("PATH").unwrap_or_default();
        let path = as_given(&given, &std::env::current_dir().unwrap_or_default(), &search, &running);
        Ok(Program { path: path.unwrap_or(running), arguments: arguments.collect() })
    }
}

/// The path by which the running program was named, made absolute. Links in it stay: they may point elsewhere later. `None` if it
/// doesn't lead to the running program.
fn as_given(given: &Path, folder: &Path, search: &OsStr, running: &Path) -> Option<PathBuf> {
    if given.is_absolute() {
        return Some(given.to_owned());
    }
    let is_ours = |path: &PathBuf| path.canonicalize().ok().is_some_and(|path| running.canonicalize().is_ok_and(|running| path == running));
    // A name without a slash was looked up by whoever started it.
    if given.components().count() == 1 && !given.starts_with(".") {
        return std::env::split_paths(search).map(|place| folder.join(place).join(given)).find(is_ours);
    }
    Some(folder.join(given)).filter(is_ours)
}

/// A process that has taken over.
#[derive(Debug)]
pub(in crate::server) struct TakenOver {
    /// Its process id.
    pub(in crate::server) pid: u32,
    /// Tells and asks it what is necessary, until everything is settled.
    telling: JoinHandle<()>,
    /// Whether it is.
    over: watch::Sender<bool>,
}

/// Starts the next process and hands over to it. When this returns, the new process accepts connections.
///
/// # Errors
/// [`HandoverError`]; then the other process has ended, and nothing has changed.
pub(in crate::server) async fn hand_over(program: &Program, sockets: Vec<OwnedFd>, gateway: &Gateway) -> Result<TakenOver, HandoverError> {
    let (ours, theirs) = StdStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(ours)?;
    let starting = program.clone();
    let started = tokio::task::spawn_blocking(move || start(&starting, sockets, theirs.into())).await;
    let failed = |source| HandoverError::Start { program: program.path.display().to_string(), source };
    started.unwrap_or_else(|_| Err(io::ErrorKind::Interrupted.into())).map_err(failed)?;
    info!(program = %program.path.display(), "starting a new process that takes over");
    let (mut sent, mut starting) = (Sent::new(gateway), Starting(None));
    let left = take_over(&mut stream, gateway, &mut sent, &mut starting.0).await?;
    let pid = starting.0.take().ok_or(HandoverError::Ended)?;
    Ok(TakenOver::new(stream, pid, sent, gateway, left))
}

/// Hands over to a gateway at the other end of a stream, which got the sockets in another way.
///
/// # Errors
/// [`HandoverError`]; then nothing has changed.
pub(in crate::server) async fn hand_over_to(stream: StdStream, gateway: &Gateway) -> Result<TakenOver, HandoverError> {
    stream.set_nonblocking(true)?;
    let mut stream = UnixStream::from_std(stream)?;
    let (mut sent, mut pid) = (Sent::new(gateway), None);
    let left = take_over(&mut stream, gateway, &mut sent, &mut pid).await?;
    Ok(TakenOver::new(stream, pid.ok_or(HandoverError::Ended)?, sent, gateway, left))
}

/// A process that has not taken over yet. If this is dropped, the process is killed: it must not run unattended.
struct Starting(Option<u32>);

impl Drop for Starting {
    fn drop(&mut self) {
        if let Some(pid) = self.0.and_then(|pid| i32::try_from(pid).ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Starts the program through another process that ends at once: as a child of this process it would not be a child of
/// the service manager, which then could not see how it ends.
fn start(program: &Program, sockets: Vec<OwnedFd>, stream: OwnedFd) -> io::Result<()> {
    let mut command = Command::new(&program.path);
    command.arg("start-detached").arg("--").arg(&program.path).args(&program.arguments);
    command.stdin(Stdio::from(stream));
    command.env(VARIABLE, BEGINS_WITH_REACHABLE).env("LISTEN_FDS", sockets.len().to_string());
    // These contain the id of this process.
    command.env_remove("LISTEN_PID").env_remove("LISTEN_FDNAMES").env_remove("WATCHDOG_PID");
    let mappings = sockets.into_iter().zip(FIRST..).map(|(parent_fd, child_fd)| FdMapping { parent_fd, child_fd });
    command.fd_mappings(mappings.collect()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let status = command.status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("it did not start another process ({status})"))) }
}

/// From its creation on, no administrative act changes what the new process gets. Undone if this is dropped before the new
/// process runs.
struct Frozen<'g>(&'g Gateway);

impl<'g> Frozen<'g> {
    fn new(gateway: &'g Gateway) -> Self {
        gateway.freeze(true);
        Frozen(gateway)
    }

    /// The new process runs.
    fn stay(self) {
        std::mem::forget(self);
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        self.0.freeze(false);
    }
}

/// Follows the new process until it accepts connections, and decides what limits admit if it is of a version that can; `pid` is set
/// as soon as it is known.
async fn take_over(
    stream: &mut UnixStream,
    gateway: &Gateway,
    sent: &mut Sent,
    pid: &mut Option<u32>,
) -> Result<Option<Left>, HandoverError> {
    let reachable = Reachable::of(&gateway.runtime.load());
    let in_time = tokio::time::timeout(READY, send(stream, &Message::Reachable { reachable, leaves_limits: true })).await;
    // If the stream is broken, the new process has ended, and may have said why.
    let _ = in_time.map_err(|_| HandoverError::TooSlow)?;
    let prepared = async {
        loop {
            match receive(stream).await {
                Ok(Some(Message::Started { pid: started })) => *pid = Some(started),
                Ok(Some(Message::Prepared { pid: prepared, takes_limits })) => {
                    *pid = Some(prepared);
                    break Ok(takes_limits);
                }
                Ok(Some(Message::Failed { reason })) => break Err(HandoverError::Failed(reason)),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break Err(HandoverError::Ended),
            }
        }
    };
    let takes_limits = tokio::time::timeout(PREPARED, prepared).await.map_err(|_| HandoverError::TooSlow)??;
    let frozen = Frozen::new(gateway);
    // A process that doesn't read must not block this one.
    tokio::time::timeout(READY, send_state(stream, gateway, sent)).await.map_err(|_| HandoverError::TooSlow)??;
    let ready = async {
        loop {
            match receive(stream).await {
                Ok(Some(Message::Ready)) => break Ok(()),
                Ok(Some(Message::Started { .. })) => {}
                _ => break Err(HandoverError::Ended),
            }
        }
    };
    tokio::time::timeout(READY, ready).await.map_err(|_| HandoverError::TooSlow)??;
    let left = if takes_limits { Some(leave_limits(stream, gateway, sent).await?) } else { None };
    frozen.stay();
    Ok(left)
}

/// From now on the new process decides what limits admit. It waits for this.
///
/// # Errors
/// [`HandoverError`]; then this process still decides.
async fn leave_limits(stream: &mut UnixStream, gateway: &Gateway, sent: &Sent) -> Result<Left, HandoverError> {
    let limits = &gateway.limits;
    // An upgrade may follow another one at once.
    limits.wait_to_decide().await;
    let leaving = Leaving::new(gateway);
    let telling = async {
        if let Some(shared) = &limits.shared {
            shared.retire().await;
        }
        send_tallies(stream, gateway, sent, None).await?;
        if let Some(shared) = &limits.shared {
            send(stream, &Message::Shares { scopes: shared.hand_over(limits) }).await?;
        }
        send(stream, &Message::LimitsLeft).await
    };
    tokio::time::timeout(READY, telling).await.map_err(|_| HandoverError::TooSlow)??;
    leaving.done().ok_or(HandoverError::Ended)
}

/// The new process is about to decide what limits admit. If this is dropped before it does, this process decides again, and requests that
/// wait for an answer go on.
struct Leaving<'g> {
    gateway: &'g Gateway,
    left: Option<Left>,
}

impl<'g> Leaving<'g> {
    fn new(gateway: &'g Gateway) -> Self {
        Leaving { gateway, left: Some(gateway.limits.hand_over()) }
    }

    fn done(mut self) -> Option<Left> {
        self.left.take()
    }
}

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        if let Some((successor, _)) = self.left.take() {
            let limits = &self.gateway.limits;
            limits.shared.iter().for_each(|shared| shared.go_on());
            limits.take_back();
            successor.close();
        }
    }
}

/// Sends the whole state, and then the request to accept.
async fn send_state(stream: &mut UnixStream, gateway: &Gateway, sent: &mut Sent) -> io::Result<()> {
    if let Some(shared) = &gateway.limits.shared {
        send(stream, &Message::Node { name: shared.name(), node: Some(shared.node()), heard: shared.heard() }).await?;
    }
    send_tallies(stream, gateway, sent, None).await?;
    let now = gateway.clock.now();
    let runtime = gateway.runtime.load_full();
    let targets = runtime.targets.iter().map(|target| target.snapshot(now)).collect();
    let quotas = runtime.targets.quotas().iter().map(|quota| quota.snapshot(now)).collect();
    drop(runtime);
    send(stream, &Message::Targets { targets, quotas }).await?;
    send(stream, &Message::SignIn { sign_in: gateway.sign_in.hand_over() }).await?;
    send_sessions(stream, gateway, sent).await?;
    for keys in gateway.keys.hand_over() {
        send(stream, &Message::Keys { keys }).await?;
    }
    for pins in gateway.objects.all().chunks(PINS) {
        send(stream, &Message::Pins { pins: pins.to_vec() }).await?;
    }
    let secret = gateway.runtime.load().cache.as_ref().map(|cache| cache.secret());
    if let Some(secret) = secret {
        send(stream, &Message::CacheSecret { secret: STANDARD.encode(secret.bytes()) }).await?;
    }
    let upgrades = &gateway.metrics.upgrades;
    send(stream, &Message::Upgrades { done: upgrades.done.get() + 1, failed: upgrades.failed.get() }).await?;
    send(stream, &Message::Go).await
}

impl TakenOver {
    fn new(stream: UnixStream, pid: u32, sent: Sent, gateway: &Gateway, left: Option<Left>) -> Self {
        let (over, is_over) = watch::channel(false);
        let telling = tokio::spawn(keep_sending(stream, sent, gateway.clone(), left, is_over));
        TakenOver { pid, telling, over }
    }

    /// Everything is settled: the new process hears the rest, for `limit` at most.
    pub(in crate::server) async fn end(self, limit: Duration) {
        let _ = self.over.send(true);
        let _ = tokio::time::timeout(limit, self.telling).await;
    }
}

/// Sends the cached answers and the usage of requests in flight to the new process, until everything is settled and
/// `over`: then a last time. Meanwhile it is asked what to admit, and tells what it uses.
async fn keep_sending(stream: UnixStream, sent: Sent, gateway: Gateway, left: Option<Left>, over: watch::Receiver<bool>) {
    let (read, mut write) = stream.into_split();
    let successor = left.as_ref().map(|(successor, _)| Arc::clone(successor));
    let hearing = tokio::spawn(keep_hearing(read, gateway.clone(), successor));
    let mut updates = Updates::new(sent, gateway, left);
    // It knows the reservations: they count as used if it gets no more reports.
    if let Err(error) = updates.send(&mut write, over).await {
        debug!(%error, "the new process no longer reads the stream");
    }
    let _ = write.shutdown().await;
    drop(updates);
    // What it sent is read, so that closing the stream doesn't discard what it still has to read.
    let _ = hearing.await;
}

/// Receives what the new process decides and uses, until that closes the stream.
async fn keep_hearing(mut stream: OwnedReadHalf, gateway: Gateway, successor: Option<Arc<Successor>>) {
    while let Ok(Some(message)) = receive(&mut stream).await {
        match message {
            Message::OwnUse { scopes } => gateway.limits.leave_to_successor(scopes),
            Message::Admitted { answer } => successor.iter().for_each(|successor| successor.answered(answer.clone(), gateway.limits.now())),
            _ => {}
        }
    }
    gateway.limits.take_back();
    successor.iter().for_each(|successor| successor.close());
}

#[cfg(test)]
mod tests {
    use spillway_plugins::limits::{self, Demand, Rank, Rules};

    use super::super::fixtures::running;
    use super::*;

    #[test]
    fn the_next_program_is_found_by_the_path_that_named_this_one() {
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        std::fs::create_dir(here.join("bin")).unwrap();
        let real = here.join("spillway-1");
        std::fs::write(&real, "").unwrap();
        std::os::unix::fs::symlink(&real, here.join("bin/spillway")).unwrap();
        let search = std::env::join_paths([here.join("none"), here.join("bin")]).unwrap();
        let found = |given: &str| as_given(Path::new(given), here, &search, &real);
        assert_eq!(found("./bin/spillway"), Some(here.join("./bin/spillway")));
        assert_eq!(found("bin/spillway"), Some(here.join("bin/spillway")));
        assert_eq!(found("spillway"), Some(here.join("bin/spillway")), "by PATH");
        assert_eq!(found("/opt/spillway"), Some("/opt/spillway".into()));
        assert_eq!((found("bin/other"), found("other"), found("")), (None, None, None), "not what runs");
    }

    #[tokio::test]
    async fn nothing_changes_while_the_state_is_sent_and_everything_may_if_nobody_takes_over() {
        let running = running().await;
        let gateway = &running.gateway;
        let (ours, theirs) = StdStream::pair().unwrap();
        let next = async {
            theirs.set_nonblocking(true).unwrap();
            let mut stream = UnixStream::from_std(theirs).unwrap();
            assert!(matches!(receive(&mut stream).await, Ok(Some(Message::Reachable { .. }))));
            assert_eq!(gateway.change(|| 7), Some(7), "it prepares");
            send(&mut stream, &Message::Prepared { pid: u32::MAX, takes_limits: true }).await.unwrap();
            while !matches!(receive(&mut stream).await, Ok(Some(Message::Go))) {}
            assert_eq!((gateway.is_frozen(), gateway.change(|| 7)), (true, None));
            // It dies.
        };
        let (taken, ()) = tokio::join!(hand_over_to(ours, gateway), next);
        assert!(matches!(taken, Err(HandoverError::Ended)));
        assert_eq!((gateway.is_frozen(), gateway.change(|| 7)), (false, Some(7)));
    }

    #[tokio::test]
    async fn if_the_new_process_dies_before_it_knows_what_was_admitted_the_old_one_still_decides() {
        let running = running().await;
        let gateway = &running.gateway;
        let (ours, theirs) = StdStream::pair().unwrap();
        let next = async {
            theirs.set_nonblocking(true).unwrap();
            let mut stream = UnixStream::from_std(theirs).unwrap();
            send(&mut stream, &Message::Prepared { pid: u32::MAX, takes_limits: true }).await.unwrap();
            while !matches!(receive(&mut stream).await, Ok(Some(Message::Go))) {}
            send(&mut stream, &Message::Ready).await.unwrap();
        };
        let (taken, ()) = tokio::join!(hand_over_to(ours, gateway), next);
        assert!(matches!(taken, Err(HandoverError::Stream(_))), "{taken:?}");
        assert!(gateway.limits.decides() && !gateway.is_frozen());
    }

    #[tokio::test]
    async fn requests_that_wait_for_a_process_that_does_not_take_over_go_on_at_once() {
        let running = running().await;
        let limits = Arc::clone(&running.gateway.limits);
        let rules = Rules { concurrent: Some(1), ..Rules::default() };
        let mut path = limits::Path::new();
        path.push(limits.scope(Rank::Pool, "pool".to_owned(), &rules).unwrap(), None);
        let leaving = Leaving::new(&running.gateway);
        let asking = tokio::spawn(async move { limits.admit(&path, Demand::default(), limits.now()).await });
        let others_run = async || {
            for _ in 0..30 {
                tokio::task::yield_now().await;
            }
        };
        others_run().await;
        assert!(!asking.is_finished(), "it waits for an answer");
        drop(leaving);
        others_run().await;
        assert!(asking.is_finished() && asking.await.unwrap().is_ok());
    }
}
