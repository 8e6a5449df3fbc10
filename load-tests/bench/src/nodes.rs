//! What a second node adds: two that share their limits through a Redis, beside one that has a Redis of its own.
//!
//! All nodes have one core here. So it is not requests a second that are compared, but what a request costs: two nodes, each
//! on a core of its own, serve twice as many as one if a request costs them no more.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::backend::Backend;
use crate::callers::{Callers, Case};
use crate::process::{Proxy, Variant, free_port};
use crate::{SLICE, TURNS, median};

/// A Redis. Dropped, it is killed.
struct Redis {
    child: Child,
    port: u16,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Redis {
    /// `None` if it isn't installed.
    async fn start() -> Option<Self> {
        let port = free_port();
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().ok()?;
        let redis = Redis { child, port };
        for _ in 0..500 {
            if tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Some(redis);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("redis-server doesn't listen on port {port}");
    }

    fn table(&self) -> String {
        format!("\n[redis]\nurl = \"redis://127.0.0.1:{}\"\n", self.port)
    }
}

/// Prints how many times as much two nodes serve as one.
pub async fn costs(program: &Path, directory: &Path, backend: &Backend, turn: Duration) {
    let (Some(own), Some(shared)) = (Redis::start().await, Redis::start().await) else {
        println!("{:<32} redis-server is not installed: no row", "two nodes");
        return;
    };
    let (own_table, shared_table) = (own.table(), shared.table());
    let node = |name, rest| Variant { name, rest, ..Variant::default() };
    let mut one = Proxy::of(program, directory, backend, node("alone", &own_table)).await;
    let mut pair = [
        Proxy::of(program, directory, backend, node("first-node", &shared_table)).await,
        Proxy::of(program, directory, backend, node("second-node", &shared_table)).await,
    ];
    let case = Case::Plain { body: 1 << 10, refuse: false };
    let mut alone = Callers::new(&one, case).await;
    let [mut first, mut second] = [Callers::new(&pair[0], case).await, Callers::new(&pair[1], case).await];
    let warm = Duration::from_millis(300);
    alone.run(warm).await;
    tokio::join!(first.run(warm), second.run(warm));
    let mut times = Vec::new();
    for _ in 0..TURNS {
        let before = (one.cpu_micros(), pair.each_mut().map(Proxy::cpu_micros));
        let (mut by_one, mut by_pair) = (0, 0);
        for _ in 0..(turn.as_nanos() / SLICE.as_nanos() / 2).max(1) {
            by_one += alone.run(SLICE).await;
            let (one, other) = tokio::join!(first.run(SLICE), second.run(SLICE));
            by_pair += one + other;
        }
        let after = (one.cpu_micros(), pair.each_mut().map(Proxy::cpu_micros));
        let cost_of_one = (after.0 - before.0) as f64 / by_one.max(1) as f64;
        let cost_of_two = (after.1.iter().sum::<u64>() - before.1.iter().sum::<u64>()) as f64 / by_pair.max(1) as f64;
        times.push(2.0 * cost_of_one / cost_of_two);
    }
    println!("{:<32}{:>8.2} times as much as one (budget 1.8)", "two nodes", median(&mut times));
}
