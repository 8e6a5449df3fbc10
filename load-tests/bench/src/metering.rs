//! What reserving, settling and reading a stream's usage cost, without any I/O around them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use spillway_plugins::api::Api;
use spillway_plugins::limits::{Demand, Period, Rank, Rules, Scope, Timestamps, Used, admit};
use spillway_plugins::prices::Money;
use spillway_plugins::stream::StreamWatch;

const ROUNDS: u32 = 200_000;

/// Nanoseconds to admit and settle a request with every kind of limit, at a consumer, its group and its pool.
pub fn admission() -> f64 {
    let rules = Rules {
        requests_per_minute: Some(u64::MAX / 4),
        tokens_per_minute: Some(u64::MAX / 4),
        concurrent: Some(1000),
        quota: Some((Period::Month, u64::MAX / 4)),
        budget: Some((Period::Month, Money(u64::MAX / 4))),
        shadow: false,
        classes: false,
    };
    let scopes: Vec<Arc<Scope>> =
        [Rank::Consumer, Rank::Group, Rank::Pool].map(|rank| Scope::new(rank, String::new(), rules.clone(), false)).into();
    let demand = Demand { tokens: 500, cost: Money(500), ..Demand::default() };
    let began = Instant::now();
    for round in 0..ROUNDS {
        let now = Timestamps { monotonic: Duration::from_micros(u64::from(round) * 50), unix: 1_800_000_000 };
        let permit = admit(&scopes, demand, now, |_, _| {}).expect("there is room");
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
