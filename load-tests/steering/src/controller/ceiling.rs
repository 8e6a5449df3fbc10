//! A ceiling of tokens per minute as it is set by hand in other gateways: each counts its share of the configured capacity
//! by the minute, and leaves the PTU alone for 30 s after a refusal.

use std::time::Duration;

use spillway::clock::Tick;

use super::{Asking, Controller, Way};
use crate::call::Call;
use crate::truth::configured;

const LEAVE: Duration = Duration::from_secs(30);
const MINUTE: u64 = 60_000_000_000;

#[derive(Clone, Default)]
struct Node {
    minute: u64,
    tokens: f64,
    left_until: Tick,
}

/// The ceiling.
pub struct Ceiling {
    nodes: Vec<Node>,
    per_minute: f64,
    output_ratio: f64,
}

impl Ceiling {
    /// For so many gateways and units.
    pub fn new(nodes: usize, units: u32) -> Self {
        let (per_second, output_ratio) = configured(units);
        Ceiling { nodes: vec![Node::default(); nodes], per_minute: per_second * 60.0 / nodes as f64, output_ratio }
    }

    fn node(&mut self, call: &Call, now: Tick) -> &mut Node {
        let node = &mut self.nodes[call.node];
        if node.minute != now.0 / MINUTE {
            (node.minute, node.tokens) = (now.0 / MINUTE, 0.0);
        }
        node
    }
}

impl Controller for Ceiling {
    fn ask(&mut self, _: usize, call: &Call, asking: &Asking) -> Way {
        let most = self.per_minute;
        let node = self.node(call, asking.now);
        if asking.now < node.left_until || node.tokens >= most {
            return Way::Elsewhere;
        }
        node.tokens += call.prompt as f64;
        Way::Ptu
    }

    fn refused(&mut self, _: usize, call: &Call, _: Duration, now: Tick) {
        self.nodes.iter_mut().for_each(|node| node.left_until = node.left_until.max(now + LEAVE));
        self.node(call, now).tokens -= call.prompt as f64;
    }

    fn ended(&mut self, _: usize, call: &Call, now: Tick) {
        let ratio = self.output_ratio;
        self.node(call, now).tokens += ratio * call.output as f64 - call.cached as f64;
    }
}
