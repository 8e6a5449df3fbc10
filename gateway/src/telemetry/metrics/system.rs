//! The process's use of its machine, read when metrics are rendered.

use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;
use prometheus::{IntGauge, Opts, Registry};

use super::registration::Registration;

/// Gauges that are read when metrics are rendered.
#[derive(Debug)]
pub(super) struct SystemMetrics {
    /// The state directory's file system: free bytes, all bytes. Registered once there is one.
    state: [IntGauge; 2],
    folder: Option<PathBuf>,
}

impl SystemMetrics {
    /// Registers the memory limit.
    pub(super) fn new(to: &Registration<'_>) -> prometheus::Result<Self> {
        let limit = to.gauge("spillway_memory_limit_bytes", "Memory that this process may take: its cgroup's limit, or the machine's.")?;
        limit.set(memory_limit().and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(0));
        let gauge = |name: &str, help: &str| IntGauge::with_opts(Opts::new(name, help));
        let free = gauge("spillway_state_free_bytes", "Free bytes of the file system of server.state_dir.")?;
        let size = gauge("spillway_state_size_bytes", "Size of the file system of server.state_dir.")?;
        Ok(SystemMetrics { state: [free, size], folder: None })
    }

    /// Starts to watch the state directory.
    pub(super) fn watch(&mut self, folder: &Path, registry: &Registry) -> prometheus::Result<()> {
        self.folder = Some(folder.to_owned());
        self.state.iter().try_for_each(|gauge| registry.register(Box::new(gauge.clone())))
    }

    /// Reads the current values.
    pub(super) fn read(&self) {
        let Some(system) = self.folder.as_ref().and_then(|folder| statvfs(folder).ok()) else { return };
        let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(system.fragment_size())).unwrap_or(i64::MAX);
        self.state[0].set(bytes(system.blocks_available()));
        self.state[1].set(bytes(system.blocks()));
    }
}

/// The limit of this process's cgroup (version 2, as systemd sets it) or, without one, the machine's memory.
fn memory_limit() -> Option<u64> {
    let of_cgroup = || {
        let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?.trim_start_matches('/').to_owned();
        // Above memory.high the process is slowed down, above memory.max it is killed.
        let limit =
            |name: &str| std::fs::read_to_string(Path::new("/sys/fs/cgroup").join(&own).join(name)).ok()?.trim().parse::<u64>().ok();
        [limit("memory.high"), limit("memory.max")].into_iter().flatten().min()
    };
    let of_machine = || {
        let memory = std::fs::read_to_string("/proc/meminfo").ok()?;
        let kilobytes =
            memory.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?;
        Some(kilobytes * 1024)
    };
    of_cgroup().or_else(of_machine)
}
