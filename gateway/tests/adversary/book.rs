//! What upstreams know of the rounds: what they are to answer, what they have used, and what they should never have seen.

use std::collections::HashMap;

use parking_lot::Mutex;

use crate::answers::Answer;
use crate::differential::Finding;
use crate::ledgers::round_of;
use crate::wire::{self, Used};

/// What the upstreams do with one request of the hostile consumer.
#[derive(Debug, Clone)]
pub struct Script {
    /// What each attempt gets; the last one again for those that follow.
    pub answers: Vec<Answer>,
    /// The most tokens that the request lets a model say.
    pub cap: u64,
}

/// One book for all upstreams of a gateway.
#[derive(Debug, Default)]
pub struct Book {
    scripts: Mutex<HashMap<String, (Script, usize)>>,
    used: Mutex<HashMap<String, (Used, Used)>>,
    turns: Mutex<HashMap<String, Used>>,
    wrong: Mutex<Vec<(String, String)>>,
}

impl Book {
    /// Says what becomes of a request.
    pub fn write(&self, request: &str, script: Script) {
        self.scripts.lock().insert(request.to_owned(), (script, 0));
    }

    /// What the next attempt of a request gets.
    pub fn next(&self, request: &str) -> Option<(Answer, u64)> {
        let mut scripts = self.scripts.lock();
        let (script, asked) = scripts.get_mut(request)?;
        let answer = script.answers.get((*asked).min(script.answers.len() - 1))?.clone();
        *asked += 1;
        Some((answer, script.cap))
    }

    /// Adds to what a request has used. Of `least` something must be booked even if its caller doesn't wait for the
    /// answer to tell.
    pub fn add(&self, request: &str, used: Used, least: Used) {
        let mut all = self.used.lock();
        let sum = all.entry(request.to_owned()).or_default();
        sum.0 += used;
        sum.1 += least;
    }

    /// The caller of a request left before its answer had ended.
    pub fn left(&self, request: &str) {
        if let Some(sum) = self.used.lock().get_mut(request) {
            sum.0 = sum.1;
        }
    }

    /// A turn of a socket will use this, if the socket stands for so long.
    pub fn turn(&self, request: &str, used: Used) {
        self.turns.lock().insert(request.to_owned(), used);
    }

    /// What the hostile consumer heard of a turn tells how far it came.
    pub fn heard(&self, request: &str, heard: &str) {
        let Some(used) = self.turns.lock().remove(request) else { return };
        if heard.contains(wire::TURN_ENDED) {
            self.add(request, used, used);
        } else if heard.contains(wire::TURN_BEGUN) {
            let some = Used { input: 0, output: 1 };
            self.add(request, some, some);
        }
    }

    /// What must be booked of each request.
    pub fn used(&self) -> HashMap<String, Used> {
        self.used.lock().iter().map(|(request, (used, _))| (request.clone(), *used)).collect()
    }

    /// Notes what must not be, of a request.
    pub fn wrong(&self, request: &str, what: String) {
        self.wrong.lock().push((request.to_owned(), what));
    }

    /// Everything that must not have been.
    pub fn all_wrong(&self) -> Vec<Finding> {
        self.wrong.lock().iter().map(|(request, what)| Finding { round: round_of(request), what: what.clone() }).collect()
    }
}
