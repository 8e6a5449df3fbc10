//! The two proxies as child processes on a core of their own.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::backend::Backend;

/// A proxy under measurement. Dropped, it is killed.
pub struct Proxy {
    child: Child,
    pub address: SocketAddr,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Core of the proxies; callers and backends have the next one.
const PROXY_CORE: &str = "0";
const OWN_CORE: &str = "1";

/// The line that switches the fast path on.
const FAST: &str = "fast_path = true\n";

/// Keeps this process off the proxies' core.
pub fn pin_myself() {
    let id = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-p", "-c", OWN_CORE, &id]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !pinned.is_ok_and(|status| status.success()) {
        eprintln!("not pinned: taskset is missing, or there is one core only; expect noise");
    }
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}

impl Proxy {
    async fn start(program: &Path, arguments: &[&str], address: SocketAddr) -> Self {
        Self::start_wrapped(&[], program, arguments, address).await
    }

    async fn start_wrapped(wrapper: &[&str], program: &Path, arguments: &[&str], address: SocketAddr) -> Self {
        let mut command = Command::new("taskset");
        command.args(["-c", PROXY_CORE]).args(wrapper).arg(program).args(arguments);
        let child = command.stdout(Stdio::null()).spawn().unwrap_or_else(|error| panic!("taskset {}: {error}", program.display()));
        let proxy = Proxy { child, address };
        for _ in 0..3000 {
            if tokio::net::TcpStream::connect(address).await.is_ok() {
                return proxy;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} doesn't listen on {address}", program.display());
    }

    /// The gateway with keys, metrics and the access log on, and with ledger and limits if `metered`.
    pub async fn gateway(program: &Path, directory: &Path, backend: &Backend, metered: bool) -> Self {
        Self::configured(program, directory, backend, metered, (FAST, "")).await
    }

    /// As the metered one, run by another program.
    pub async fn wrapped(wrapper: &[&str], program: &Path, directory: &Path, backend: &Backend) -> Self {
        let (config, address) = Self::write_config(directory, backend, true, (FAST, ""));
        Self::start_wrapped(wrapper, program, &["run", "-c", &config], address).await
    }

    /// The floor, run by another program.
    pub async fn wrapped_floor(wrapper: &[&str], program: &Path, backend: &Backend) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let [listen, first, second] = [address, backend.first, backend.second].map(|address| address.to_string());
        Self::start_wrapped(wrapper, program, &[&listen, &first, &second], address).await
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// As the metered one, with an exact cache.
    pub async fn keeping(program: &Path, directory: &Path, backend: &Backend) -> Self {
        let directory = directory.join("keeping");
        std::fs::create_dir_all(&directory).expect("a folder");
        Self::configured(program, &directory, backend, true, (FAST, "\n[plugins.cache]\nexact = {}\n")).await
    }

    /// As the metered one, with Pingora's session for every caller.
    pub async fn without_fast_path(program: &Path, directory: &Path, backend: &Backend) -> Self {
        let directory = directory.join("pingora");
        std::fs::create_dir_all(&directory).expect("a folder");
        Self::configured(program, &directory, backend, true, ("fast_path = false\n", "")).await
    }

    async fn configured(program: &Path, directory: &Path, backend: &Backend, metered: bool, more: (&str, &str)) -> Self {
        let (config, address) = Self::write_config(directory, backend, metered, more);
        Self::start(program, &["run", "-c", &config], address).await
    }

    /// Writes a config. Returns its path, and the address that it listens on.
    fn write_config(directory: &Path, backend: &Backend, metered: bool, (server, rest): (&str, &str)) -> (String, SocketAddr) {
        let port = free_port();
        let path = directory.join(format!("bench-{metered}.toml"));
        let (state, price, limits) = if metered {
            let state = format!("state_dir = \"{}\"\n", directory.join("state").display());
            let price = "prices = { mm = { input = 2.5, output = 10.0 } }\n";
            let limits = "[consumers.limits]\nrequests_per_minute = 1_000_000_000\ntokens_per_minute = 1_000_000_000_000\nconcurrent_requests = 100_000\n\
                          token_quota = { tokens = 1_000_000_000_000, period = \"month\" }\nbudget = { usd = 1_000_000.0, period = \"month\" }\n";
            (state, price, limits)
        } else {
            (String::new(), "", "")
        };
        // echo -n test | sha256sum
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:{port}\"]\nadmin = \"127.0.0.1:{admin}\"\nthreads = 1\n{state}{server}\n[log]\naccess = \"{log}\"\n\n\
             [[backends]]\nname = \"first\"\nkind = \"openai\"\nurl = \"http://{first}\"\ndeployments = {{ m = \"mm\" }}\n{price}\n\
             [[backends]]\nname = \"second\"\nkind = \"openai\"\nurl = \"http://{second}\"\ndeployments = {{ m = \"mm\" }}\n{price}\n\
             [[pools]]\nname = \"pool\"\nmodels = [\"m\"]\nmembers = [{{ backend = \"first\", priority = 1 }}, {{ backend = \"second\", priority = 2 }}]\n\n\
             [[consumers]]\nname = \"bench\"\nkeys = [{{ sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\" }}]\n{limits}{rest}",
            admin = free_port(),
            log = directory.join(format!("access-{metered}.jsonl")).display(),
            first = backend.first,
            second = backend.second,
        );
        std::fs::write(&path, text).expect("the config is written");
        (path.display().to_string(), SocketAddr::from(([127, 0, 0, 1], port)))
    }

    pub async fn floor(program: &Path, backend: &Backend) -> Self {
        Self::wrapped_floor(&[], program, backend).await
    }

    /// Processor time so far, of all threads, those that ended too.
    pub fn cpu_micros(&mut self) -> u64 {
        let process = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).expect("a process number"));
        let clock = nix::time::ClockId::pid_cpu_clock_id(process).expect("the proxy runs");
        let time = clock.now().expect("the proxy runs");
        time.tv_sec().unsigned_abs() * 1_000_000 + time.tv_nsec().unsigned_abs() / 1000
    }

    /// Resident memory.
    pub fn resident_kib(&mut self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the proxy runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    }
}
