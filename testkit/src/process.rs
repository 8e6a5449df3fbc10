//! Processes that tests start.

use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A child process that doesn't outlive its test.
#[derive(Debug)]
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that nobody has at the moment.
///
/// # Panics
/// If there is none.
#[must_use]
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap_or_else(|error| panic!("no port: {error}")).port()
}

/// A real Redis, with the password `CANARY-redis`. It writes nothing to the disk by itself.
#[derive(Debug)]
pub struct RedisServer {
    /// The process.
    pub child: Killed,
    /// Its port on the loopback address.
    pub port: u16,
    folder: TempDir,
}

impl RedisServer {
    /// At `port`, or at any.
    ///
    /// # Panics
    /// If it can't be started.
    #[must_use]
    pub fn start(port: Option<u16>) -> Self {
        // A replica is fed from a file: not in the folder of the sources.
        let folder = tempfile::tempdir().unwrap_or_else(|error| panic!("{error}"));
        for _ in 0..10 {
            let port = port.unwrap_or_else(free_port);
            if let Some(child) = run(port, &folder) {
                return RedisServer { child, port, folder };
            }
        }
        panic!("no port for Redis");
    }

    /// Kills it and starts it again, with what it has written to the disk when it was asked to (`SAVE`).
    ///
    /// # Panics
    /// If it can't be started.
    pub fn restart(&mut self) {
        let _ = self.child.0.kill();
        let _ = self.child.0.wait();
        self.child = run(self.port, &self.folder).unwrap_or_else(|| panic!("Redis doesn't start again"));
    }
}

/// `None` if somebody else has the port.
fn run(port: u16, folder: &TempDir) -> Option<Killed> {
    let mut command = Command::new("redis-server");
    command.arg("--dir").arg(folder.path()).args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
    command.args(["--save", "", "--appendonly", "no", "--requirepass", "CANARY-redis"]);
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = Killed(child.unwrap_or_else(|error| panic!("redis-server: {error}")));
    let mut lines = BufReader::new(child.0.stdout.take()?).lines();
    if !lines.any(|line| line.is_ok_and(|line| line.contains("Ready to accept connections"))) {
        return None;
    }
    std::thread::spawn(move || lines.for_each(drop));
    Some(child)
}
