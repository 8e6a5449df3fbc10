//! What was booked: for the ordinary consumer the same in both gateways, for the hostile one at least what it used.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::differential::Finding;
use crate::upstream::{ANT, BEE};
use crate::wire::Used;
use crate::world::World;

/// What is wrong in the ledgers and limits of two gateways in which nothing is under way any more. `fresh`: the rates have
/// forgotten nothing yet.
pub async fn compare(alone: &World, shared: &World, fresh: bool) -> Vec<Finding> {
    let mut wrong = Vec::new();
    // Rows that are owed are written within a tenth of a second.
    for _ in 0..60 {
        wrong = differences(&alone.rows(), &shared.rows());
        wrong.extend(unbooked(shared));
        let (here, there) = (limits(alone).await, limits(shared).await);
        if fresh && here != there {
            wrong.push(Finding { round: usize::MAX, what: format!("limits\nalone  {here}\nshared {there}") });
        }
        if wrong.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    wrong
}

/// What the ordinary consumer has used of its limits.
async fn limits(world: &World) -> Value {
    let all = world.gateway.admin("/api/limits").await.json();
    let scopes = all["scopes"].as_array().cloned().unwrap_or_default();
    scopes.into_iter().find(|scope| scope["scope"].as_str().is_some_and(|name| name.contains("bee"))).unwrap_or_default()
}

/// Where the ordinary consumer's rows differ.
fn differences(alone: &[Value], shared: &[Value]) -> Vec<Finding> {
    let (alone, shared) = (ordinary(alone), ordinary(shared));
    let mut wrong = Vec::new();
    for (request, rows) in &alone {
        let theirs = shared.get(request);
        if theirs != Some(rows) {
            wrong.push(Finding { round: round_of(request), what: format!("booked for {request}\nalone  {rows:?}\nshared {theirs:?}") });
        }
    }
    for (request, rows) in shared.iter().filter(|(request, _)| !alone.contains_key(*request)) {
        wrong.push(Finding { round: round_of(request), what: format!("booked for {request}, which it never asked: {rows:?}") });
    }
    wrong
}

/// What is booked of a consumer's requests.
pub fn booked(world: &World, consumer: &str) -> HashMap<String, Used> {
    let mut booked: HashMap<String, Used> = HashMap::new();
    for row in world.rows().iter().filter(|row| row["consumer"] == consumer) {
        let of = |name: &str| row[name].as_u64().unwrap_or(0);
        *booked.entry(row["request"].as_str().unwrap_or("").to_owned()).or_default() +=
            Used { input: of("input_tokens"), output: of("output_tokens") };
    }
    booked
}

/// What the hostile consumer used, and is not booked.
pub fn unbooked(world: &World) -> Vec<Finding> {
    let all = booked(world, "ant");
    let mut wrong = Vec::new();
    for (request, used) in world.book.used().iter().filter(|(request, _)| request.starts_with(ANT)) {
        let booked = all.get(request).copied().unwrap_or_default();
        if booked.input < used.input || booked.output < used.output {
            wrong.push(Finding { round: round_of(request), what: format!("used for {request}: {used:?}, booked: {booked:?}") });
        }
    }
    wrong
}

/// The ordinary consumer's rows by request, without what differs from run to run.
fn ordinary(rows: &[Value]) -> HashMap<String, Vec<Value>> {
    let mut by_request: HashMap<String, Vec<Value>> = HashMap::new();
    for row in rows.iter().filter(|row| row["consumer"] == "bee") {
        let kept = ["api", "model", "answered", "outcome", "status", "source", "input_tokens", "output_tokens", "cost_usd"];
        let kept: Vec<&Value> = kept.iter().map(|name| &row[*name]).collect();
        by_request.entry(row["request"].as_str().unwrap_or("").to_owned()).or_default().push(json!(kept));
    }
    by_request
}

/// The round that a request is of, by its name.
pub fn round_of(request: &str) -> usize {
    let name = request.strip_prefix(ANT).or_else(|| request.strip_prefix(BEE)).unwrap_or(request);
    name.split('-').next().and_then(|round| round.parse().ok()).unwrap_or(0)
}
