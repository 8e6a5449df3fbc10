//! The same rounds of the ordinary consumer in two gateways: one that it has for itself, and one that it shares.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value, json};

use crate::answers;
use crate::book::Script;
use crate::grammar;
use crate::upstream::{ANT, BEE};
use crate::wire::Used;
use crate::witness::{self, Homes, Seen, Step};
use crate::world::World;

/// The seed of a run: given, or another each time.
pub fn seed() -> u64 {
    std::env::var("SPILLWAY_ADVERSARY_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..))
}

/// How many rounds there are: given, or as many as `usual`.
pub fn rounds(usual: usize) -> usize {
    std::env::var("SPILLWAY_ADVERSARY_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(usual)
}

/// Rounds that share their two gateways.
#[derive(Debug, Clone, Copy)]
pub struct Batch {
    pub seed: u64,
    pub first: usize,
    pub rounds: usize,
}

/// What the hostile consumer did in a round, for whoever reads a finding.
type Deeds = Vec<String>;

impl Batch {
    /// Runs them; what was found, each with what led to it.
    pub async fn run(self) -> Vec<String> {
        let (alone, shared) = (World::start("").await, World::start("").await);
        let (mut homes_alone, mut homes_shared) = (Homes::default(), Homes::default());
        let mut found = Vec::new();
        let mut known = Vec::new();
        let mut deeds: HashMap<usize, Deeds> = HashMap::new();
        let began = Instant::now();
        for round in self.first..self.first + self.rounds {
            let mut rng = Rng::with_seed(self.seed.wrapping_add(round as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let (plan, made) = witness::plan(round, &known, &mut rng);
            let attack = attack(&shared, round, &known, &mut rng);
            let calm = begin(&shared, attack.moves);
            deeds.insert(round, attack.deeds);
            let (seen_alone, seen_shared) =
                tokio::join!(follow(&alone, &mut homes_alone, &plan), follow(&shared, &mut homes_shared, &plan));
            for ((alone, shared), (_, step)) in seen_alone.iter().zip(&seen_shared).zip(&plan) {
                // Rates forget after a minute.
                let same = alike(alone, shared, attack.weather, began.elapsed() < Duration::from_secs(50));
                if !same || step.succeeds() != (shared.status / 100 == 2 || shared.status == 101) {
                    found.push(finding(round, &deeds, &format!("alone  {alone:?}\nshared {shared:?}")));
                }
            }
            known.extend(made);
            calm.await;
            if let Some(ailing) = recovered(&shared, attack.weather).await {
                found.push(finding(round, &deeds, &format!("members are out: {ailing}")));
                break;
            }
            if found.len() > 5 {
                break;
            }
        }
        found.extend(self.books(&alone, &shared, &deeds).await);
        found.extend(shared.book.all_wrong());
        found
    }

    /// What was booked: for the ordinary consumer the same, for the hostile one at least what was used.
    async fn books(self, alone: &World, shared: &World, deeds: &HashMap<usize, Deeds>) -> Vec<String> {
        for world in [alone, shared] {
            for _ in 0..800 {
                if world.gateway.metric("spillway_in_flight_requests").await == 0.0 {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        // Rows that are owed are written within a tenth of a second.
        let mut lacking = Vec::new();
        for _ in 0..40 {
            lacking = compare(&alone.rows(), &shared.rows(), shared, deeds);
            if lacking.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        lacking
    }
}

/// What is wrong in the ledgers.
fn compare(alone: &[Value], shared: &[Value], world: &World, deeds: &HashMap<usize, Deeds>) -> Vec<String> {
    let mut wrong = Vec::new();
    let (alone, theirs) = (ordinary(alone), ordinary(shared));
    for (request, rows) in &alone {
        let other = theirs.get(request);
        if other != Some(rows) {
            wrong.push(finding(round_of(request), deeds, &format!("booked for {request}\nalone  {rows:?}\nshared {other:?}")));
        }
    }
    if theirs.len() > alone.len() {
        wrong.push("the ordinary consumer has rows for what it didn't ask".to_owned());
    }
    let mut booked: HashMap<String, Used> = HashMap::new();
    for row in shared.iter().filter(|row| row["consumer"] == "ant") {
        let sum = booked.entry(row["request"].as_str().unwrap_or("").to_owned()).or_default();
        sum.input += row["input_tokens"].as_u64().unwrap_or(0);
        sum.output += row["output_tokens"].as_u64().unwrap_or(0);
    }
    for (request, used) in world.book.used().iter().filter(|(request, _)| request.starts_with(ANT)) {
        let booked = booked.get(request).copied().unwrap_or_default();
        if booked.input < used.input || booked.output < used.output {
            let what = format!("used for {request}: {used:?}, booked: {booked:?}");
            wrong.push(finding(round_of(request), deeds, &what));
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

fn round_of(request: &str) -> usize {
    request.trim_start_matches(ANT).trim_start_matches(BEE).split('-').next().and_then(|round| round.parse().ok()).unwrap_or(0)
}

fn finding(round: usize, deeds: &HashMap<usize, Deeds>, what: &str) -> String {
    let deeds = deeds.get(&round).map(|deeds| deeds.join("\n  ")).unwrap_or_default();
    format!("round {round}: {what}\n  {deeds}")
}

/// Whether two saw the same. In bad weather, which is everybody's, another tier may have served.
fn alike(alone: &Seen, shared: &Seen, weather: bool, fresh: bool) -> bool {
    let [attempts, remaining, content_type] = &alone.fields;
    let [their_attempts, their_remaining, their_type] = &shared.fields;
    alone.status == shared.status
        && alone.body == shared.body
        && !shared.moved
        && content_type == their_type
        && (!fresh || remaining == their_remaining)
        && (weather || (alone.tier == shared.tier && attempts == their_attempts))
}

/// What the hostile consumer does in a round.
struct Attack {
    moves: Vec<grammar::Move>,
    deeds: Deeds,
    weather: bool,
}

fn attack(world: &World, round: usize, known: &[String], rng: &mut Rng) -> Attack {
    let mut attack = Attack { moves: Vec::new(), deeds: Vec::new(), weather: false };
    for number in 0..rng.usize(2..8) {
        let id = format!("{ANT}{round}-{number}");
        let done = grammar::any(&id, known, rng);
        let answers = answers::all(rng);
        attack.weather |= answers.iter().any(answers::Answer::is_weather);
        let head = String::from_utf8_lossy(&done.bytes[..done.bytes.len().min(700)]).into_owned();
        attack.deeds.push(format!("{id} {:?} -> {:?}: {head:?}", done.manner, answers));
        world.book.write(&id, Script { answers, cap: done.cap });
        attack.moves.push(done);
    }
    attack
}

/// Begins an attack; what is returned is over when it is.
fn begin(world: &World, moves: Vec<grammar::Move>) -> impl Future<Output = ()> {
    let address = world.gateway.address;
    let mut all = tokio::task::JoinSet::new();
    for one in moves {
        all.spawn(async move { one.manner.send(address, &one.bytes).await });
    }
    async move { while all.join_next().await.is_some() {} }
}

async fn follow(world: &World, homes: &mut Homes, plan: &[(String, Step)]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for (id, step) in plan {
        seen.push(witness::take(world, homes, id, step).await);
    }
    seen
}

/// Members that are out though only one consumer had trouble with them; after bad weather, those that stay out.
async fn recovered(world: &World, weather: bool) -> Option<String> {
    let mut ailing = world.ailing().await;
    for _ in 0..if weather { 40 } else { 0 } {
        if ailing.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        ailing = world.ailing().await;
    }
    (!ailing.is_empty()).then(|| ailing.join(", "))
}
