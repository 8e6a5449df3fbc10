//! What happens in the rounds that share two gateways: made from a seed, and cut down to what a finding needs.

use std::fmt::Write as _;

use fastrand::Rng;

use crate::book::Script;
use crate::upstream::ANT;
use crate::witness::{self, Step};
use crate::{answers, grammar};

/// One request of the hostile consumer, and what upstreams answer it.
#[derive(Debug, Clone)]
pub struct Deed {
    pub id: String,
    pub sent: grammar::Move,
    pub script: Script,
}

/// What the two do side by side.
#[derive(Debug, Clone)]
pub struct Round {
    pub number: usize,
    pub plan: Vec<(String, Step)>,
    pub deeds: Vec<Deed>,
}

/// Rounds, one after the other.
#[derive(Debug, Clone)]
pub struct History {
    /// Upstreams say of themselves that they are full, which is true for everybody.
    pub throttled: bool,
    pub rounds: Vec<Round>,
}

impl History {
    /// The rounds from `first` on. The same seed makes the same rounds.
    pub fn new(seed: u64, first: usize, rounds: usize) -> Self {
        let throttled = (first / rounds.max(1)) % 4 == 3;
        let mut known = Vec::new();
        let mut all = Vec::new();
        for number in first..first + rounds {
            let mut rng = Rng::with_seed(seed.wrapping_add(number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let (plan, made) = witness::plan(number, &known, &mut rng);
            let deeds = (0..rng.usize(2..8)).map(|deed| Deed::any(format!("{ANT}{number}-{deed}"), &known, throttled, &mut rng)).collect();
            known.extend(made);
            all.push(Round { number, plan, deeds });
        }
        History { throttled, rounds: all }
    }

    /// How many requests the hostile consumer sends.
    fn deeds(&self) -> usize {
        self.rounds.iter().map(|round| round.deeds.len()).sum()
    }

    /// Without the requests of the hostile consumer that have a number in `range`.
    fn without(&self, range: &std::ops::Range<usize>) -> Self {
        let mut number = 0;
        let mut other = self.clone();
        for round in &mut other.rounds {
            round.deeds.retain(|_| {
                number += 1;
                !range.contains(&(number - 1))
            });
        }
        other
    }

    /// The shortest history that still `fails`, as far as `plays` of it can tell: nothing after `round`, and no hostile
    /// request that needn't be.
    pub fn shortest(mut self, round: usize, mut plays: usize, fails: impl Fn(&History) -> bool) -> Self {
        let whole = self.clone();
        self.rounds.retain(|one| one.number <= round);
        if !fails(&self) && !fails(&whole) {
            // It isn't seen every time: what happened in its round has to do.
            self.rounds.retain(|one| one.number == round);
            return self;
        }
        let mut size = self.deeds().div_ceil(2);
        while size > 0 {
            let mut at = 0;
            while at < self.deeds() {
                if plays == 0 {
                    return self;
                }
                plays -= 1;
                let shorter = self.without(&(at..at + size));
                if fails(&shorter) {
                    self = shorter;
                } else {
                    at += size;
                }
            }
            size = if size == 1 { 0 } else { size.div_ceil(2) };
        }
        self
    }

    /// The requests of the hostile consumer, for whoever reads a finding, and what the other one did last.
    pub fn told(&self) -> String {
        let mut text = String::new();
        for deed in self.rounds.iter().flat_map(|round| &round.deeds) {
            let head = String::from_utf8_lossy(&deed.sent.bytes[..deed.sent.bytes.len().min(700)]).into_owned();
            let _ = writeln!(text, "  {} {:?} -> {:?}\n    {head:?}", deed.id, deed.sent.manner, deed.script.answers);
        }
        for (id, step) in self.rounds.last().map(|round| &round.plan[..]).unwrap_or_default() {
            let _ = writeln!(text, "  {id} {step:?}");
        }
        text
    }
}

impl Deed {
    /// Some request named `id`, and some answers.
    pub fn any(id: String, things: &[String], throttled: bool, rng: &mut Rng) -> Self {
        let sent = grammar::any(&id, things, rng);
        let script = Script { answers: answers::all(throttled, rng), cap: sent.cap };
        Deed { id, sent, script }
    }
}

#[test]
fn a_history_is_cut_down_to_what_fails() {
    let whole = History::new(7, 0, 6);
    let needed = [whole.rounds[1].deeds[0].id.clone(), whole.rounds[3].deeds[1].id.clone()];
    let has = |history: &History, id: &String| history.rounds.iter().flat_map(|round| &round.deeds).any(|deed| deed.id == *id);
    let shortest = whole.shortest(4, 1000, |history| needed.iter().all(|id| has(history, id)));
    assert_eq!((shortest.deeds(), shortest.rounds.len()), (2, 5));
}

#[test]
fn the_same_seed_makes_the_same_history() {
    let [one, other] = [History::new(3, 5, 4), History::new(3, 5, 4)];
    assert_eq!(format!("{one:?}"), format!("{other:?}"));
    assert_ne!(one.told(), History::new(4, 5, 4).told());
}
