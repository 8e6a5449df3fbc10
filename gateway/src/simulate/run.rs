//! Events in virtual time: requests arrive, wait, are refused, and end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use fastrand::Rng;
use spillway_plugins::prices::{Cost, Money};
use spillway_plugins::retry::{RateSignal, ThrottleScope};

use super::call::{Call, Served, Waits, arrival};
use super::outcome::{Outcome, Span};
use super::request::{Names, Request};
use super::scenario::Scenario;
use super::tally::{HOUR, Tally};
use super::world::{Assumptions, Member, World, WorldError};
use crate::balance::ptu::load::Used;
use crate::balance::route::{NoneReady, Pick};
use crate::balance::target;
use crate::clock::Tick;
use crate::config::DeploymentPrice;

/// The shortest wait: the same event must not come again at the same time.
const SOON: Duration = Duration::from_millis(1);

/// A scenario in progress.
#[derive(Debug)]
pub struct Run {
    name: String,
    world: World,
    rng: Rng,
    events: BinaryHeap<Reverse<Event>>,
    /// How many events there were: those of the same time happen in the order in which they were made.
    made: u64,
    tally: Tally,
    began: Tick,
    /// When the last request arrived.
    last: Tick,
    now: Tick,
    /// The work of each deployment until the last full hour.
    work: Vec<f64>,
    unknown: BTreeMap<u32, u64>,
}

#[derive(Debug)]
enum What {
    /// A request may try again.
    Again(Call),
    /// A call ends.
    End(Served),
}

#[derive(Debug)]
struct Event {
    order: (Tick, u64),
    what: Box<What>,
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl Run {
    /// Starts at the first request's arrival.
    ///
    /// # Errors
    /// [`WorldError`]
    pub fn new(scenario: Scenario, assumptions: &Assumptions, now: Tick) -> Result<Self, WorldError> {
        let name = scenario.name.clone();
        let world = World::new(scenario, assumptions, now)?;
        let work = vec![0.0; world.deployments.len()];
        Ok(Run {
            name,
            world,
            rng: Rng::with_seed(assumptions.seed),
            events: BinaryHeap::new(),
            made: 0,
            tally: Tally::default(),
            began: now,
            last: now,
            now,
            work,
            unknown: BTreeMap::new(),
        })
    }

    /// A request arrives. They must come in order of time.
    pub fn arrive(&mut self, request: &Request, names: &Names) {
        self.advance(request.at);
        self.last = request.at;
        let Some(model) = self.world.index_of(request.model, names) else {
            *self.unknown.entry(request.model).or_default() += 1;
            return;
        };
        let consumer = self.world.consumer(request.consumer, names);
        self.tally.at(request.at).requests += 1;
        let call = Call::new(*request, model, consumer, &self.world);
        self.attempt(call, request.at);
    }

    /// Lets everything end that is under way.
    pub fn finish(mut self, names: &Names) -> Outcome {
        while let Some(Reverse(next)) = self.events.peek() {
            self.advance(next.order.0);
        }
        self.note_work(self.now);
        let unknown = self.unknown.iter().map(|(number, count)| (names.name(*number), *count)).collect();
        Outcome::new(self.name, &self.world.deployments, &self.tally, Span { from: self.began, last: self.last, to: self.now }, unknown)
    }

    /// Everything until `to` happens.
    fn advance(&mut self, to: Tick) {
        loop {
            let next = self.events.peek().map(|Reverse(event)| event.order.0).filter(|at| *at <= to);
            let until = next.unwrap_or(to);
            while until.0 / HOUR > self.now.0 / HOUR {
                let hour = Tick((self.now.0 / HOUR + 1) * HOUR);
                self.note_work(hour);
                self.now = hour;
            }
            self.now = self.now.max(until);
            if next.is_none() {
                return;
            }
            let Some(Reverse(event)) = self.events.pop() else { return };
            match *event.what {
                What::Again(mut call) => {
                    call.wake(self.now);
                    self.attempt(call, self.now);
                }
                What::End(served) => self.end(served, self.now),
            }
        }
    }

    /// Adds what was done since the last time to the hour that ends at `until`, or in which it is.
    fn note_work(&mut self, until: Tick) {
        for (index, deployment) in self.world.deployments.iter_mut().enumerate() {
            let Some((work, per_second)) = deployment.takes.work(until) else { continue };
            let done = work - std::mem::replace(&mut self.work[index], work);
            if done != 0.0 {
                *self.tally.at(Tick(until.0.saturating_sub(1))).busy.entry(index).or_default() += done / per_second;
            }
        }
    }

    fn schedule(&mut self, at: Tick, what: What) {
        self.made += 1;
        self.events.push(Reverse(Event { order: (at, self.made), what: Box::new(what) }));
    }

    /// Tries members until one takes the call, or none is left.
    fn attempt(&mut self, mut call: Call, now: Tick) {
        while now < call.deadline {
            let picked = self.world.model(call.model).route.pick(&call.asks(&self.world, now), now, &mut self.rng);
            call.has_asked();
            match picked {
                Ok(pick) => match self.send(call, pick, now) {
                    Some(refused) => call = refused,
                    None => return,
                },
                Err(NoneReady { room_at: Some(until), .. }) => {
                    if !self.queue(&mut call, true, now) {
                        call.hurry();
                        continue;
                    }
                    return self.schedule(until.max(now + SOON), What::Again(call));
                }
                Err(none) => {
                    let rules = &self.world.pools[self.world.model(call.model).pool].config.retry;
                    let soonest = none.soonest.filter(|soonest| {
                        call.releases < rules.max_attempts && *soonest <= now + call.wait_left && *soonest < call.deadline
                    });
                    match soonest {
                        Some(soonest) if soonest <= now => call.release(Duration::ZERO),
                        Some(soonest) if self.queue(&mut call, false, now) => return self.schedule(soonest, What::Again(call)),
                        _ => break,
                    }
                }
            }
        }
        self.tally.at(call.request.at).refused += 1;
    }

    /// Takes a place in the pool's queue. Returns whether there was one.
    fn queue(&self, call: &mut Call, for_room: bool, now: Tick) -> bool {
        let pool = &self.world.pools[self.world.model(call.model).pool];
        let class = call.request.class.unwrap_or(call.consumer.class);
        let owner = (!call.consumer.name.is_empty()).then(|| call.consumer.name.clone());
        let place = pool.waiting.enter(pool.config.retry.queue, class, owner);
        let is_in = place.is_some();
        call.waits = is_in.then_some(Waits { since: now, _place: place, for_room });
        is_in
    }

    /// Sends a call to a member. Returns it if that refuses.
    fn send(&mut self, mut call: Call, pick: Pick, now: Tick) -> Option<Call> {
        let Pick { index, mut lease, mut booking } = pick;
        let model = &self.world.models[call.model];
        let circuit = &self.world.pools[model.pool].config.circuit;
        let place = model.members[index].deployment;
        let deployment = &mut self.world.deployments[place];
        let answer = deployment.takes.admit(&call.arrives(), now);
        let outcome = match answer {
            Ok(_) => target::Outcome::Success { first: Duration::ZERO, signal: RateSignal::default() },
            Err(wait) => {
                let scope = if deployment.is_provisioned { ThrottleScope::Deployment } else { ThrottleScope::Quota };
                target::Outcome::Throttled { retry_after: Some(wait), scope }
            }
        };
        lease.record(outcome, circuit, now);
        if let Some(booking) = &mut booking {
            match answer {
                Ok(_) => booking.accepted(now),
                Err(wait) => booking.refused(Some(wait), now),
            }
        }
        match answer {
            Ok(reserved) => {
                self.note(&call, index, now);
                let served = Served { request: call.request, model: call.model, deployment: place, lease, booking, reserved, began: now };
                self.schedule(now + call.request.takes().max(SOON), What::End(served));
                None
            }
            Err(_) => {
                self.tally.at(call.request.at).throttled[usize::from(!self.world.deployments[place].is_provisioned)] += 1;
                call.refused_by(index);
                Some(call)
            }
        }
    }

    /// Counts a call that is served.
    fn note(&mut self, call: &Call, index: usize, now: Tick) {
        let model = self.world.model(call.model);
        let (member, usage) = (&model.members[index], &call.request.usage);
        let is_spilled = model.route.is_provisioned() && !self.world.deployments[member.deployment].is_provisioned;
        let is_provisioned = self.world.deployments[member.deployment].is_provisioned;
        let (cost, alone) = (cost(member, &call.request, is_provisioned), model.alone(usage));
        let (tokens, tier) = (usage.input + usage.output, member.tier);
        let sums = self.tally.at(call.request.at);
        let of_tier = sums.tiers.entry(tier).or_default();
        of_tier.requests += 1;
        of_tier.tokens += tokens;
        match cost {
            Cost::Known(money) => of_tier.paid += money,
            Cost::Hourly(_) => {}
            Cost::Unknown => of_tier.unpriced += 1,
        }
        if is_spilled {
            sums.spilled += 1;
            sums.spilled_tokens += tokens;
        }
        match alone {
            Some(money) => sums.alone += money,
            None => sums.alone_unpriced += 1,
        }
        sums.waits.note(now.since(call.request.at));
        if let Some(needed_by) = call.needed_by {
            sums.deadlines += 1;
            sums.missed += u64::from(now + call.request.takes() > needed_by);
        }
    }

    /// A call has ended.
    fn end(&mut self, served: Served, now: Tick) {
        let Served { request, model, deployment, lease, booking, reserved, began } = served;
        let usage = request.usage;
        self.world.deployments[deployment].takes.settle(reserved, &arrival(&request), usage.output, now);
        if let Some(booking) = booking {
            booking.settle(Some(Used { prompt: usage.input, cached: usage.cached_input, output: usage.output }), now);
        }
        drop(lease);
        self.world.model(model).durations.add(now.since(began));
    }
}

/// What a call costs at a member. What a PTU deployment costs does not depend on its calls.
fn cost(member: &Member, request: &Request, is_provisioned: bool) -> Cost {
    match &member.price {
        Some(DeploymentPrice::Hourly(money)) => Cost::Hourly(*money),
        Some(DeploymentPrice::ByUse(_)) | None if is_provisioned => Cost::Hourly(Money::default()),
        Some(DeploymentPrice::ByUse(price)) => {
            price.cost(&request.usage, member.service_tier).map_or(Cost::Unknown, |cost| Cost::Known(cost.money))
        }
        None => Cost::Unknown,
    }
}
