//! Both at full speed on one gateway; `make adversary` runs it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::generated::number;
use crate::history::Deed;
use crate::ledgers::{booked, unbooked};
use crate::upstream::{ANT, BEE, ordinary_used};
use crate::wire::{Kind, Used};
use crate::witness::{self, Homes, Step};
use crate::world::World;

/// Callers of the ordinary consumer, and of the hostile one.
const ORDINARY: usize = 4;
const HOSTILE: usize = 32;

/// What the ordinary consumer did, and what went wrong.
#[derive(Default)]
struct Tally {
    asked: Vec<(String, Kind)>,
    failures: Vec<String>,
}

/// Names of the ordinary consumer's things, for the hostile one to try.
type Things = Arc<Mutex<Vec<String>>>;

async fn ordinary(world: Arc<World>, things: Things, caller: usize, until: Instant) -> Tally {
    let ask = |kind, model, streamed| Step::Ask { kind, streamed, told: streamed, model };
    let steps = [
        (Kind::Chat, ask(Kind::Chat, "m", false)),
        (Kind::Chat, ask(Kind::Chat, "m", true)),
        (Kind::Completions, ask(Kind::Completions, "m", true)),
        (Kind::Embeddings, ask(Kind::Embeddings, "m", false)),
        (Kind::Responses, ask(Kind::Responses, "m", true)),
        (Kind::Messages, ask(Kind::Messages, "claude", true)),
        (Kind::Images, ask(Kind::Images, "m", false)),
        (Kind::Transcription, Step::Transcribe),
    ];
    let (mut tally, mut homes) = (Tally::default(), Homes::default());
    for (number, (kind, step)) in steps.iter().cycle().enumerate() {
        if Instant::now() >= until {
            break;
        }
        let id = format!("{BEE}{caller}-{number}");
        let seen = witness::take(&world, &mut homes, &id, step).await;
        if seen.status != 200 || seen.body.ends_with("(cut)") {
            tally.failures.push(format!("{seen:?}"));
        }
        if *kind == Kind::Responses {
            let mut things = things.lock();
            things.push(format!("resp_{id}"));
            let more = things.len().saturating_sub(100);
            things.drain(..more);
        }
        tally.asked.push((id, *kind));
    }
    tally
}

async fn hostile(world: Arc<World>, things: Things, caller: usize, until: Instant) -> usize {
    let mut rng = Rng::with_seed(caller as u64);
    let mut sent = 0;
    while Instant::now() < until {
        let known = things.lock().clone();
        let deed = Deed::any(format!("{ANT}{caller}-{sent}"), &known, false, &mut rng);
        world.book.write(&deed.id, deed.script);
        let heard = deed.sent.manner.send(world.gateway.address, &deed.sent.bytes).await;
        if !heard.whole {
            world.book.left(&deed.id);
        }
        world.book.heard(&deed.id, &String::from_utf8_lossy(&heard.bytes));
        sent += 1;
    }
    sent
}

/// The ordinary consumer sees no failure, its usage is exact to the token, and the hostile one's is at least what its
/// upstreams counted.
#[test]
#[ignore = "takes a minute: `make adversary`"]
fn a_minute_at_full_speed() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let world = Arc::new(World::start("").await);
        let until = Instant::now() + Duration::from_secs(number("SPILLWAY_ADVERSARY_SECONDS", 60) as u64);
        let things = Things::default();
        let (mut ordinaries, mut hostiles) = (JoinSet::new(), JoinSet::new());
        for caller in 0..ORDINARY {
            ordinaries.spawn(ordinary(Arc::clone(&world), Arc::clone(&things), caller, until));
        }
        for caller in 0..HOSTILE {
            hostiles.spawn(hostile(Arc::clone(&world), Arc::clone(&things), caller, until));
        }
        while Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(500)).await;
            world.forget();
        }
        let mut tally = Tally::default();
        for one in ordinaries.join_all().await {
            tally.asked.extend(one.asked);
            tally.failures.extend(one.failures);
        }
        let sent: usize = hostiles.join_all().await.into_iter().sum();
        world.settled().await;
        let due: Vec<(&String, Used)> = tally.asked.iter().map(|(id, kind)| (id, ordinary_used(*kind, id))).collect();
        let mut wrong = Vec::new();
        for _ in 0..5 {
            let rows = booked(&world, "bee");
            wrong =
                due.iter().filter(|(id, used)| rows.get(*id) != Some(used)).map(|(id, used)| (id, used, rows.get(*id).copied())).collect();
            if wrong.is_empty() && unbooked(&world).is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        let sum = |all: &mut dyn Iterator<Item = Used>| {
            all.fold(Used::default(), |mut sum, used| {
                sum += used;
                sum
            })
        };
        println!(
            "ordinary: {} requests, {} failures, {:?} used, {} wrongly booked",
            tally.asked.len(),
            tally.failures.len(),
            sum(&mut due.iter().map(|(_, used)| *used)),
            wrong.len()
        );
        println!(
            "hostile: {sent} requests, {:?} used, {:?} booked",
            sum(&mut world.book.used().into_values()),
            sum(&mut booked(&world, "ant").into_values())
        );
        assert!(tally.failures.is_empty(), "{:#?}", &tally.failures[..tally.failures.len().min(5)]);
        assert!(wrong.is_empty(), "{:#?}", &wrong[..wrong.len().min(5)]);
        let (unbooked, offences) = (unbooked(&world), world.book.all_wrong());
        assert!(unbooked.is_empty(), "{unbooked:#?}");
        assert!(offences.is_empty(), "{offences:#?}");
    });
}
