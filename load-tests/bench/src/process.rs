//! The two proxies as child processes on a core of their own.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use spillway_plugins::auth::digest;

use crate::backend::Backend;
use crate::certificates::{Certificates, HOST, Trust};
use crate::consumer_key::key;

/// A proxy under measurement. Dropped, it is killed.
pub struct Proxy {
    child: Child,
    pub address: SocketAddr,
    /// Its admin listener, if it is a gateway.
    pub admin: Option<SocketAddr>,
    /// What its callers trust, if it speaks TLS.
    pub trust: Option<Trust>,
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

/// What differs between the gateways that are measured.
#[derive(Clone, Copy)]
pub struct Variant<'a> {
    /// Its folder.
    pub name: &'a str,
    /// With ledger and limits.
    pub metered: bool,
    /// With `server.fast_path`.
    pub fast_path: bool,
    /// More tables.
    pub rest: &'a str,
    /// How many consumers there are besides the usual one.
    pub consumers: usize,
    /// How many deployments the first tier has.
    pub targets: usize,
    /// With TLS towards callers and backends.
    pub tls: Option<&'a Certificates>,
}

impl Default for Variant<'_> {
    fn default() -> Self {
        Variant { name: "usual", metered: true, fast_path: true, rest: "", consumers: 0, targets: 1, tls: None }
    }
}

/// Writes a config. Returns its path, the address that it listens on, and that of the admin listener.
fn write_config(directory: &Path, backend: &Backend, variant: Variant<'_>) -> (String, SocketAddr, SocketAddr) {
    let Variant { name, metered, fast_path, rest, consumers, targets, tls } = variant;
    let directory = directory.join(format!("{name}-{metered}"));
    std::fs::create_dir_all(&directory).expect("a folder");
    let (port, admin) = (free_port(), free_port());
    let (mut state, price, limits) = if metered {
        let state = format!("state_dir = \"{}\"\n", directory.join("state").display());
        let price = "prices = { mm = { input = 2.5, output = 10.0 } }\n";
        let limits = "[consumers.limits]\nrequests_per_minute = 1_000_000_000\ntokens_per_minute = 1_000_000_000_000\nconcurrent_requests = 100_000\n\
                      token_quota = { tokens = 1_000_000_000_000, period = \"month\" }\nbudget = { usd = 1_000_000.0, period = \"month\" }\n";
        (state, price, limits)
    } else {
        (String::new(), "", "")
    };
    let log = directory.join("access.jsonl");
    let mut ca = String::new();
    if let Some(tls) = tls {
        let _ = write!(state, "[server.tls]\ncert = \"{}\"\nkey = \"{}\"\n", tls.cert.display(), tls.key.display());
        ca = format!("ca = \"{}\"\n", tls.ca.display());
    }
    let mut text = format!(
        "[server]\nlisten = [\"127.0.0.1:{port}\"]\nadmin = \"127.0.0.1:{admin}\"\nthreads = 1\nallow_literal_secrets = true\nfast_path = {fast_path}\n{state}\n"
    );
    let _ = write!(text, "[log]\naccess = \"{}\"\n\n", log.display());
    let mut members = Vec::new();
    for (number, address) in (0..targets).map(|number| (number, backend.first)).chain([(targets, backend.second)]) {
        let url = if tls.is_some() { format!("https://{HOST}:{}", address.port()) } else { format!("http://{address}") };
        let _ = write!(
            text,
            "[[backends]]\nname = \"b{number}\"\nkind = \"openai\"\nurl = \"{url}\"\n{ca}deployments = {{ m = \"mm\" }}\n{price}\n"
        );
        members.push(format!("{{ backend = \"b{number}\", priority = {} }}", if number < targets { 1 } else { 2 }));
    }
    let _ = write!(text, "[[pools]]\nname = \"pool\"\nmodels = [\"m\"]\nmembers = [{}]\n\n", members.join(", "));
    let keys = (0..consumers).map(|number| (format!("c{number}"), key(number)));
    for (name, key) in [("bench".to_owned(), "test".to_owned())].into_iter().chain(keys) {
        let hash = digest(key.as_bytes());
        let _ = write!(text, "[[consumers]]\nname = \"{name}\"\nkeys = [{{ sha256 = \"{hash}\" }}]\n{limits}\n");
    }
    text.push_str(rest);
    let path = directory.join("spillway.toml");
    std::fs::write(&path, text).expect("the config is written");
    let [address, admin] = [port, admin].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    (path.display().to_string(), address, admin)
}

/// Keeps this process off the proxies' core.
pub fn pin_myself() {
    let id = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-p", "-c", OWN_CORE, &id]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !pinned.is_ok_and(|status| status.success()) {
        eprintln!("not pinned: taskset is missing, or there is one core only; expect noise");
    }
}

pub fn free_port() -> u16 {
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
        let proxy = Proxy { child, address, admin: None, trust: None };
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
        Self::of(program, directory, backend, Variant { metered, ..Variant::default() }).await
    }

    /// The gateway with a config of its own kind, in a folder of its own.
    pub async fn of(program: &Path, directory: &Path, backend: &Backend, variant: Variant<'_>) -> Self {
        Self::wrapped(&[], program, directory, backend, variant).await
    }

    /// The same, run by another program.
    pub async fn wrapped(wrapper: &[&str], program: &Path, directory: &Path, backend: &Backend, variant: Variant<'_>) -> Self {
        let (config, address, admin) = write_config(directory, backend, variant);
        let mut proxy = Self::start_wrapped(wrapper, program, &["run", "-c", &config], address).await;
        proxy.admin = Some(admin);
        proxy.trust = variant.tls.map(|tls| tls.trust.clone());
        proxy
    }

    /// Another program that has the core of the proxies, listening on an address.
    pub async fn other(program: &str, arguments: &[&str], address: SocketAddr) -> Self {
        Self::start(Path::new(program), arguments, address).await
    }

    /// The floor, run by another program.
    pub async fn wrapped_floor(wrapper: &[&str], program: &Path, backend: &Backend) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let [listen, first, second] = [address, backend.first, backend.second].map(|address| address.to_string());
        Self::start_wrapped(wrapper, program, &[&listen, &first, &second], address).await
    }

    /// The floor with TLS towards callers and backends.
    pub async fn floor_tls(program: &Path, backend: &Backend, tls: &Certificates) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let [listen, first, second] = [address, backend.first, backend.second].map(|address| address.to_string());
        let [cert, key] = [&tls.cert, &tls.key].map(|path| path.display().to_string());
        let mut proxy = Self::start(program, &[&listen, &first, &second, &cert, &key], address).await;
        proxy.trust = Some(tls.trust.clone());
        proxy
    }

    /// The number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
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

    /// Open descriptors.
    pub fn descriptors(&mut self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the proxy runs").count()
    }

    /// Resident memory.
    pub fn resident_kib(&mut self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("the proxy runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        line.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
    }

    /// The same, in megabytes.
    pub fn resident_mb(&mut self) -> f64 {
        self.resident_kib() as f64 / 1024.0
    }
}
