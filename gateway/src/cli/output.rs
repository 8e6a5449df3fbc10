//! Writes to standard output and standard error. Whoever reads them may leave at any time, as `head` does: then the rest is
//! dropped, and the command ends as it would have, without a word.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Prints to standard output.
macro_rules! out {
    ($($text:tt)*) => { $crate::cli::output::write_out(format_args!($($text)*)) };
}

/// Prints a line to standard output.
macro_rules! outln {
    () => { $crate::cli::output::write_out(format_args!("\n")) };
    ($($text:tt)*) => { $crate::cli::output::write_out(format_args!("{}\n", format_args!($($text)*))) };
}

/// Prints to standard error.
macro_rules! err {
    ($($text:tt)*) => { $crate::cli::output::write_error(format_args!($($text)*)) };
}

/// Prints a line to standard error.
macro_rules! errln {
    () => { $crate::cli::output::write_error(format_args!("\n")) };
    ($($text:tt)*) => { $crate::cli::output::write_error(format_args!("{}\n", format_args!($($text)*))) };
}

/// Nothing more can be written to standard output.
static HAS_ENDED: AtomicBool = AtomicBool::new(false);
/// It ended otherwise than by its reader's leave, so that a result was lost.
static HAS_LOST: AtomicBool = AtomicBool::new(false);

/// Writes to standard output as far as that is possible.
pub(super) fn write_out(text: Arguments<'_>) {
    if HAS_ENDED.load(Ordering::Relaxed) {
        return;
    }
    let mut stdout = io::stdout().lock();
    if let Err(error) = stdout.write_fmt(text).and_then(|()| stdout.flush()) {
        HAS_ENDED.store(true, Ordering::Relaxed);
        if error.kind() != ErrorKind::BrokenPipe {
            HAS_LOST.store(true, Ordering::Relaxed);
            write_error(format_args!("spillway: can't write to standard output: {error}\n"));
        }
    }
}

/// Writes to standard error as far as that is possible.
pub(super) fn write_error(text: Arguments<'_>) {
    // There is nowhere to say that it failed.
    let _ = io::stderr().lock().write_fmt(text);
}

/// Whether a result was lost because standard output could not be written.
pub(super) fn has_lost() -> bool {
    HAS_LOST.load(Ordering::Relaxed)
}
