//! Threads of the shadow: they have a lower priority than those that serve callers.

use std::io;
use std::thread::Builder;

/// Added to the thread's nice value: beside a thread that serves callers, it gets about a tenth of a core.
#[cfg(target_os = "linux")]
const NICER: i32 = 10;

/// Starts a thread of this name. Its priority is lowered where threads have priorities of their own.
///
/// # Errors
/// If it can't be started.
pub fn start(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let run = move || {
        lower_priority();
        run();
    };
    Builder::new().name(name.to_owned()).spawn(run).map(drop)
}

/// On Linux a nice value is a thread's own, not its process's.
#[cfg(target_os = "linux")]
fn lower_priority() {
    if let Err(error) = rustix::process::nice(NICER) {
        tracing::warn!(%error, "the priority of a thread of the shadow can't be lowered");
    }
}

#[cfg(not(target_os = "linux"))]
fn lower_priority() {}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[test]
    fn only_the_threads_of_the_shadow_have_a_lower_priority() {
        let nice_value = || rustix::process::getpriority_process(None).unwrap();
        let before = nice_value();
        let (sender, values) = std::sync::mpsc::sync_channel(1);
        super::start("nicer", move || sender.send(rustix::process::getpriority_process(None).unwrap()).unwrap()).unwrap();
        assert_eq!(values.recv().unwrap(), (before + super::NICER).min(19));
        assert_eq!(nice_value(), before);
    }
}
