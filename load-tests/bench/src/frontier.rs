//! How many requests a second one core serves while 99 of 100 are answered in time.

use std::time::Duration;

use crate::callers::{Callers, Case};
use crate::process::Proxy;

/// Connections that are tried: each asks as fast as it is answered.
const CONNECTIONS: [usize; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];
/// In milliseconds.
const LIMITS: [u64; 3] = [1, 5, 10];

/// Prints a line for each proxy.
pub async fn table(proxies: &mut [(&str, &mut Proxy)], turn: Duration) {
    println!("\n{:<20}{}", "requests a second", LIMITS.map(|limit| format!("{:>16}", format!("p99 ≤ {limit} ms"))).concat());
    for (name, proxy) in proxies {
        let mut best = [0.0_f64; LIMITS.len()];
        for connections in CONNECTIONS {
            let mut callers = Callers::many(proxy, Case::Plain { body: 1 << 10, refuse: false }, connections).await;
            callers.run(turn / 10).await;
            let mut times = callers.run_timed(turn).await;
            times.sort_unstable();
            let Some(p99) = times.get(times.len() * 99 / 100) else { continue };
            let rate = times.len() as f64 / turn.as_secs_f64();
            for (best, limit) in best.iter_mut().zip(LIMITS) {
                if *p99 <= Duration::from_millis(limit) {
                    *best = best.max(rate);
                }
            }
        }
        println!("{name:<20}{}", best.map(|rate| format!("{rate:>16.0}")).concat());
    }
}
