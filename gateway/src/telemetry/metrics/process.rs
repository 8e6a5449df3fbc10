//! The process's use of its machine, under the names that every Prometheus client gives it.
//!
//! Read here rather than by the `prometheus` crate: its collector brings three crates, rounds CPU time to whole seconds,
//! and doesn't know when the process began if a sandbox hides `/proc/stat`.

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage};
use nix::sys::time::TimeValLike;
use nix::unistd::{SysconfVar, sysconf};
use prometheus::{Counter, IntGauge};

use super::registration::Registration;

/// What is read when metrics are rendered.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    cpu: Counter,
    open_fds: IntGauge,
    max_fds: IntGauge,
    virtual_bytes: IntGauge,
    resident_bytes: IntGauge,
    threads: IntGauge,
    page: i64,
}

impl ProcessMetrics {
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        let now = crate::clock::Clock::new().wall().timestamp();
        // The second name is older: the alerts use it.
        for name in ["process_start_time_seconds", "spillway_start_timestamp_seconds"] {
            to.gauge(name, "When this process began, in seconds since 1970.")?.set(now);
        }
        Ok(ProcessMetrics {
            cpu: to.fraction("process_cpu_seconds_total", "User and system CPU time in seconds.")?,
            open_fds: to.gauge("process_open_fds", "Open file descriptors.")?,
            max_fds: to.gauge("process_max_fds", "Most file descriptors that may be open.")?,
            virtual_bytes: to.gauge("process_virtual_memory_bytes", "Virtual memory in bytes.")?,
            resident_bytes: to.gauge("process_resident_memory_bytes", "Resident memory in bytes.")?,
            threads: to.gauge("process_threads", "Threads of the operating system.")?,
            page: sysconf(SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096),
        })
    }

    /// Reads the current values. What can't be read keeps its last value.
    pub(super) fn read(&self) {
        if let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) {
            let used = (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6;
            self.cpu.inc_by((used - self.cpu.get()).max(0.0));
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/fd") {
            // One of them is open for this reading.
            self.open_fds.set(i64::try_from(entries.count()).unwrap_or(i64::MAX).saturating_sub(1));
        }
        if let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) {
            self.max_fds.set(i64::try_from(soft).unwrap_or(i64::MAX));
        }
        // proc(5): sizes in pages, first all of it, then what is resident.
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
        let mut pages = pages.split_ascii_whitespace().map_while(|word| word.parse::<i64>().ok());
        for gauge in [&self.virtual_bytes, &self.resident_bytes] {
            if let Some(count) = pages.next() {
                gauge.set(count.saturating_mul(self.page));
            }
        }
        if let Ok(entries) = std::fs::read_dir("/proc/self/task") {
            self.threads.set(i64::try_from(entries.count()).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus::Registry;

    use super::*;

    #[test]
    fn a_process_uses_something_and_more_as_it_runs() {
        let registry = Registry::new();
        let metrics = ProcessMetrics::new(&Registration(&registry)).unwrap();
        metrics.read();
        let (open, resident, cpu) = (metrics.open_fds.get(), metrics.resident_bytes.get(), metrics.cpu.get());
        assert!(open > 0 && open < metrics.max_fds.get(), "{open} of {}", metrics.max_fds.get());
        assert!(resident > 0 && resident < metrics.virtual_bytes.get());
        assert!(metrics.threads.get() > 0);
        let files: Vec<_> = (0..64).map(|_| std::fs::File::open("/proc/self/statm").unwrap()).collect();
        let filled = vec![1_u8; 64 << 20];
        // Counted work, not time: until the CPU clock has moved.
        while metrics.cpu.get() <= cpu {
            std::hint::black_box(filled.iter().map(|byte| u64::from(*byte)).sum::<u64>());
            metrics.read();
        }
        metrics.read();
        assert!(metrics.open_fds.get() >= open + 32, "other tests close some");
        assert!(metrics.resident_bytes.get() >= resident + (16 << 20));
        drop(files);
    }
}
