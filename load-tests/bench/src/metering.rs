//! What reserving, settling and reading a stream's usage cost, without any I/O around them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use spillway_plugins::api::Api;
use spillway_plugins::limits::{Demand, LimitKind, Path, Period, Rank, Rules, Scope, Timestamps, Used, Window, admit};
use spillway_plugins::prices::Money;
use spillway_plugins::stream::StreamWatch;

const ROUNDS: u32 = 200_000;
const USERS: usize = 10_000;

/// Every kind of limit, each far away.
fn rules() -> Rules {
    let window = |kind| Window::utc(kind, Period::Month, u64::MAX / 4);
    Rules {
        requests_per_minute: Some(u64::MAX / 4),
        tokens_per_minute: Some(u64::MAX / 4),
        concurrent: Some(1000),
        windows: vec![window(LimitKind::Quota), window(LimitKind::Budget)],
        ..Rules::default()
    }
}

fn scope(rank: Rank) -> Arc<Scope> {
    Scope::new(rank, String::new(), rules(), false)
}

/// Nanoseconds to admit and settle a request with every kind of limit, at a consumer, its group and its pool.
pub fn admission() -> f64 {
    let scopes = [Rank::Group, Rank::Pool, Rank::Consumer].map(scope);
    per_request(|_| scopes.iter().cloned().collect())
}

/// The same for ten thousand users in turn, whose consumers are in `depth - 1` groups, one in the other.
pub fn of_users(depth: usize) -> f64 {
    let groups: Vec<Arc<Scope>> = (1..depth).map(|_| scope(Rank::Group)).collect();
    let pool = scope(Rank::Pool);
    let users: Vec<Arc<Scope>> = (0..USERS).map(|_| scope(Rank::Consumer)).collect();
    per_request(|round| {
        // Neighbours in time are no neighbours in memory.
        let user = &users[round as usize * 7919 % USERS];
        std::iter::once(user).chain(&groups).chain([&pool]).cloned().collect()
    })
}

fn per_request(path: impl Fn(u32) -> Path) -> f64 {
    let demand = Demand { tokens: 500, cost: Money(500), ..Demand::default() };
    let began = Instant::now();
    for round in 0..ROUNDS {
        let now = Timestamps { monotonic: Duration::from_micros(u64::from(round) * 50), unix: 1_800_000_000 };
        let permit = admit(&path(round), demand, now, |_, _| {}).expect("there is room");
        permit.settle(Used { tokens: 300, cost: Money(300) }, now, |_, _| {});
    }
    began.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}

/// Nanoseconds to read one chunk of a chat stream.
pub fn tap(chunk: &'static [u8]) -> f64 {
    let mut watch = StreamWatch::new(Api::Chat, 1, true);
    let began = Instant::now();
    for _ in 0..ROUNDS {
        std::hint::black_box(watch.feed(Bytes::from_static(chunk)));
    }
    began.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}
