//! One history in two gateways: one that the ordinary consumer has for itself, and one that it shares.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::history::{History, Round};
use crate::ledgers;
use crate::manner::Heard;
use crate::upstream::NECTAR;
use crate::witness::{self, Homes, Seen, Step};
use crate::world::World;

/// Something that must not be, and the round in which it was seen.
#[derive(Debug)]
pub struct Finding {
    pub round: usize,
    pub what: String,
}

/// What came of a history.
#[derive(Debug, Default)]
pub struct Outcome {
    pub findings: Vec<Finding>,
    /// The ordinary consumer had to wait in the gateway that it shares, and not in the other.
    pub stood_still: Option<Finding>,
    /// It had to wait in some gateway: the machine was busy, or that was.
    pub busy: bool,
}

/// Rates forget after a minute, so they are compared only before.
const FRESH: Duration = Duration::from_secs(50);

/// Two gateways, and what the ordinary consumer knows of each.
struct Pair {
    worlds: [World; 2],
    homes: [Homes; 2],
    began: Instant,
    /// Another tier may serve, and more members be asked.
    throttled: bool,
    outcome: Outcome,
}

/// Plays a history.
pub async fn play(history: &History) -> Outcome {
    let worlds = [World::start("").await, World::start("").await];
    let mut pair =
        Pair { worlds, homes: Default::default(), began: Instant::now(), throttled: history.throttled, outcome: Outcome::default() };
    let mut hostile = JoinSet::new();
    let mut last = 0;
    for round in &history.rounds {
        last = round.number;
        pair.attack(round, &mut hostile);
        pair.follow(round.number, &round.plan, false).await;
        if pair.outcome.findings.len() > 5 {
            break;
        }
    }
    while let Some(heard) = hostile.join_next().await {
        let (round, id, heard) = heard.unwrap();
        if !heard.whole {
            pair.worlds[1].book.left(&id);
        }
        let heard = String::from_utf8_lossy(&heard.bytes);
        pair.worlds[1].book.heard(&id, &heard);
        if heard.contains(NECTAR) {
            pair.found(round, format!("{id} was told what the ordinary consumer was told"));
        }
    }
    pair.settled().await;
    pair.follow(last, &witness::last(last), true).await;
    let fresh = pair.began.elapsed() < FRESH;
    let Pair { worlds: [alone, shared], mut outcome, .. } = pair;
    outcome.findings.extend(ledgers::compare(&alone, &shared, fresh).await);
    outcome.findings.extend(shared.book.all_wrong());
    outcome
}

impl Pair {
    fn found(&mut self, round: usize, what: String) {
        self.outcome.findings.push(Finding { round, what });
    }

    /// Begins what the hostile consumer does in a round.
    fn attack(&self, round: &Round, all: &mut JoinSet<(usize, String, Heard)>) {
        let shared = &self.worlds[1];
        let (address, number) = (shared.gateway.address, round.number);
        for deed in &round.deeds {
            shared.book.write(&deed.id, deed.script.clone());
            let (id, sent) = (deed.id.clone(), deed.sent.clone());
            all.spawn(async move { (number, id, sent.manner.send(address, &sent.bytes).await) });
        }
    }

    /// Lets the ordinary consumer do the same in both gateways. `quiet`: nobody else does anything.
    async fn follow(&mut self, round: usize, plan: &[(String, Step)], quiet: bool) {
        let ([alone, shared], [here, there]) = (&self.worlds, &mut self.homes);
        let (seen_alone, seen_shared) = tokio::join!(take_all(alone, here, plan), take_all(shared, there, plan));
        let fresh = self.began.elapsed() < FRESH;
        for ((alone, shared), (_, step)) in seen_alone.iter().zip(&seen_shared).zip(plan) {
            let what = format!("alone  {alone:?}\nshared {shared:?}");
            self.outcome.busy |= alone.stood_still || shared.stood_still;
            if shared.stood_still && !alone.stood_still {
                self.outcome.stood_still.get_or_insert(Finding { round, what: what.clone() });
            }
            let succeeded = shared.status / 100 == 2 || shared.status == 101;
            if step.succeeds() != succeeded || !alike(alone, shared, self.throttled && !quiet, fresh) {
                self.found(round, what);
            }
        }
    }

    /// Waits until nothing is under way any more.
    async fn settled(&self) {
        for world in &self.worlds {
            world.settled().await;
        }
        if self.throttled {
            // Longer than any throttle of these gateways.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

async fn take_all(world: &World, homes: &mut Homes, plan: &[(String, Step)]) -> Vec<Seen> {
    let mut seen = Vec::new();
    for (id, step) in plan {
        seen.push(witness::take(world, homes, id, step).await);
    }
    seen
}

/// Whether two saw the same.
fn alike(alone: &Seen, shared: &Seen, throttled: bool, fresh: bool) -> bool {
    let [attempts, requests, content_type] = &alone.fields;
    let [their_attempts, their_requests, their_type] = &shared.fields;
    alone.status == shared.status
        && alone.body == shared.body
        && !shared.moved
        && content_type == their_type
        && (!fresh || requests == their_requests)
        && (throttled || (alone.tier == shared.tier && attempts == their_attempts))
}
