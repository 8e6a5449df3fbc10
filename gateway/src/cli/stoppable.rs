//! Work that has something to remove if a signal stops the program.

use std::io;
use std::process::ExitCode;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// A signal came before the work was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stopped(SignalKind);

impl Stopped {
    /// The exit code that shells give to a program that this signal ended.
    pub(super) fn exit_code(self) -> ExitCode {
        u8::try_from(128 + self.0.as_raw_value()).map_or(ExitCode::FAILURE, ExitCode::from)
    }
}

/// Does work on a thread of its own, until SIGINT or SIGTERM come. The thread goes on then: the caller removes what has to be
/// removed, and ends the program. SIGHUP stays as it is: under `nohup` it is ignored.
///
/// # Errors
/// If there is no thread or no handler of signals to be had.
pub(super) fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<Result<T, Stopped>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let (ends, ended) = oneshot::channel::<()>();
        let thread = thread::Builder::new().name("work".to_owned()).spawn(move || {
            let done = work();
            drop(ends);
            done
        })?;
        let by = tokio::select! {
            biased;
            // Never sent: it is dropped with the end of the work, also if that panics.
            _ = ended => return Ok(Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))),
            _ = interrupt.recv() => SignalKind::interrupt(),
            _ = terminate.recv() => SignalKind::terminate(),
        };
        Ok(Err(Stopped(by)))
    })
}
