//! Events in virtual time: requests arrive, wait, are refused, and end.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use fastrand::Rng;
use spillway_plugins::prices::{Cost, Money};
use spillway_plugins::retry::{Quota, RateSignal};

use super::call::{Call, Served, Shadowed, Waits, arrival};
use super::event::{Event, What};
use super::outcome::{Outcome, Span};
use super::reaction::{How, Reaction, reaction};
use super::request::{Names, Request};
use super::scenario::Scenario;
use super::seen::{SeenEnd, place_name};
use super::shadow::Shadow;
use super::shadow::compared::Comparison;
use super::shadow::decision::{self, Decision, End};
use super::shadow::limits::{self, Asks, NotAdmitted};
use super::tally::{HOUR, Tally};
use super::world::{Assumptions, Member, World, WorldError};
use crate::balance::circuit::{ErrorKind, Failure};
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
    shadow: Option<Box<Shadow>>,
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
            shadow: None,
        })
    }

    /// The same, as a shadow of what the traffic's log says: with consumers' limits, and with what backends really answered.
    ///
    /// # Errors
    /// [`WorldError`]
    pub fn shadow(scenario: Scenario, assumptions: &Assumptions, now: Tick) -> Result<Self, WorldError> {
        let mut run = Run::new(scenario, assumptions, now)?;
        run.shadow = Some(Box::new(Shadow::new(&run.world)));
        Ok(run)
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
        let mut call = Call::new(request.clone(), model, consumer, &self.world);
        if self.admit(&mut call, names) {
            self.tally.at(request.at).requests += 1;
            self.attempt(call, request.at);
        }
    }

    /// Lets everything end that is under way.
    pub fn finish(mut self, names: &Names) -> Outcome {
        self.end_all();
        self.outcome(names)
    }

    /// Lets everything end that is under way; with the comparison, if this is a shadow.
    pub fn finish_shadow(mut self, names: &Names) -> (Outcome, Option<Comparison>) {
        self.end_all();
        (self.outcome(names), self.comparison())
    }

    /// What it came to until now.
    pub fn outcome(&mut self, names: &Names) -> Outcome {
        self.note_work(self.now);
        let unknown = self.unknown.iter().map(|(number, count)| (names.name(*number), *count)).collect();
        let span = Span { from: self.began, last: self.last, to: self.now };
        Outcome::new(self.name.clone(), &self.world.deployments, &self.tally, span, unknown)
    }

    /// The comparison until now, if this is a shadow.
    pub fn comparison(&self) -> Option<Comparison> {
        self.shadow.as_ref().map(|shadow| shadow.compared.figures())
    }

    /// As a shadow: whether the config lists this consumer.
    pub fn knows_consumer(&self, name: &str) -> bool {
        self.shadow.as_ref().is_some_and(|shadow| shadow.limits.knows(name))
    }

    /// As a shadow: the config's own name of the deployment that a log means by this name of a place, if there is one.
    pub fn known_place(&self, name: &str) -> Option<String> {
        let id = &self.world.deployments.get(self.shadow.as_ref()?.evidence.deployment(name)?)?.id;
        Some(place_name(&id.backend, &id.deployment))
    }

    /// How many requests wait or are being answered.
    pub fn under_way(&self) -> usize {
        self.events.len()
    }

    /// Forgets the sums of hours that ended before this time.
    pub fn forget_before(&mut self, time: Tick) {
        self.tally.hours.retain(|hour, _| *hour >= time.0 / HOUR);
    }

    fn end_all(&mut self) {
        while let Some(Reverse(next)) = self.events.peek() {
            self.advance(next.order.0);
        }
    }

    /// As a shadow: admits a request to its consumer's limits. Returns whether it may go on.
    fn admit(&mut self, call: &mut Call, names: &Names) -> bool {
        let Some(shadow) = &mut self.shadow else { return true };
        let (model, now) = (&self.world.models[call.model], call.request.at);
        let (answers, unknown) = shadow.evidence.of(&call.request, names);
        let asked = answers.asked();
        shadow.compared.arrives(&call.request, &asked);
        if let Some(place) = unknown {
            shadow.compared.unknown_backend(&names.name(place));
        }
        let consumer = &call.consumer.name;
        if !consumer.is_empty() && !shadow.limits.knows(consumer) {
            shadow.compared.unknown_consumer(consumer);
        }
        let seen = call.request.seen.as_deref();
        let ours = seen.filter(|seen| seen.is_ours && unknown.is_none());
        let asked: Vec<usize> = asked.iter().map(|(deployment, _)| *deployment).collect();
        let logged = ours.and_then(|seen| decision::logged(seen, &asked));
        let name = names.name(call.request.model);
        let asks = Asks { consumer, model: &name, pool: model.pool, pool_name: &self.world.pools[model.pool].config.name };
        let demand = shadow.limits.demand(&call.request, model, call.request.class.unwrap_or(call.consumer.class));
        let end = match shadow.limits.admit(asks, &call.request, demand, now) {
            Ok(permit) if seen.is_some_and(|seen| seen.end == SeenEnd::Unasked) => {
                limits::settle(permit, 0, Money::default(), now);
                End::Unasked
            }
            Ok(permit) => {
                call.shadowed = Shadowed { permit, answers, logged, first: None, failures: 0 };
                return true;
            }
            Err(NotAdmitted::Limit(limit)) => End::Limit(limit),
            Err(NotAdmitted::NotAllowed) => End::NotAllowed,
        };
        shadow.compared.decided(&call.request, &Decision { first: None, end }, logged);
        false
    }

    /// Everything until `to` happens.
    pub fn advance(&mut self, to: Tick) {
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
            match event.what {
                What::Again(mut call) => {
                    call.wake(self.now);
                    self.attempt(*call, self.now);
                }
                What::Refuses(refused) => {
                    let (call, pick, reaction) = *refused;
                    if let Some(call) = self.refused(call, pick, &reaction, self.now) {
                        self.attempt(call, self.now);
                    }
                }
                What::Begins(mut served) => {
                    if let Some(booking) = &mut served.booking {
                        booking.accepted(self.now);
                    }
                    self.schedule(served.ends, What::End(served));
                }
                What::End(served) => self.end(*served, self.now),
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
        self.events.push(Reverse(Event { order: (at, self.made), what }));
    }

    /// Tries members until one takes the call, or none is left.
    fn attempt(&mut self, mut call: Call, now: Tick) {
        while now < call.deadline {
            let picked = self.pick(&call, now);
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
                    return self.schedule(until.max(now + SOON), What::Again(Box::new(call)));
                }
                Err(none) => {
                    let rules = &self.world.pools[self.world.model(call.model).pool].config.retry;
                    let soonest = none.soonest.filter(|soonest| {
                        call.releases < rules.max_attempts && *soonest <= now + call.wait_left && *soonest < call.deadline
                    });
                    match soonest {
                        Some(soonest) if soonest <= now => call.release(Duration::ZERO),
                        Some(soonest) if self.queue(&mut call, false, now) => return self.schedule(soonest, What::Again(Box::new(call))),
                        _ => break,
                    }
                }
            }
        }
        self.give_up(call);
    }

    /// No deployment is left.
    fn give_up(&mut self, call: Call) {
        self.tally.at(call.request.at).refused += 1;
        self.decided(&call.request, call.shadowed, End::NoBackend);
    }

    /// As a shadow: counts what was decided for a request.
    fn decided(&mut self, request: &Request, shadowed: Shadowed, end: End) {
        if let Some(shadow) = &mut self.shadow {
            shadow.compared.decided(request, &Decision { first: shadowed.first, end }, shadowed.logged);
        }
    }

    /// Chooses a member. Where chance chooses within a tier, the log of this gateway is followed, if the member that it names
    /// could be chosen.
    fn pick(&mut self, call: &Call, now: Tick) -> Result<Pick, NoneReady> {
        let model = self.world.model(call.model);
        let followed = call.shadowed.answers.followed();
        let member = followed.and_then(|deployment| model.members.iter().position(|member| member.deployment == deployment));
        if let Some(member) = member {
            let tier = model.members[member].tier;
            let is_other = |index: &usize| *index != member && model.members[*index].tier == tier;
            let mut others: Vec<usize> = (0..model.members.len()).filter(is_other).collect();
            if !others.is_empty() {
                others.extend(model.excluded(call.request.api));
                let picked = model.route.pick(&call.asks_only(&others, &self.world, now), now, &mut self.rng);
                if let Some(pick) = picked.ok().filter(|pick| pick.index == member) {
                    return Ok(pick);
                }
            }
        }
        model.route.pick(&call.asks(&self.world, now), now, &mut self.rng)
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

    /// Sends a call to a member. Returns it if that refuses at once.
    fn send(&mut self, mut call: Call, pick: Pick, now: Tick) -> Option<Call> {
        let place = self.world.models[call.model].members[pick.index].deployment;
        call.shadowed.first.get_or_insert(place);
        let reaction = reaction(&mut call, place, &mut self.world.deployments[place], self.shadow.as_deref(), now);
        match reaction.how {
            How::Takes { reserved, exhausted } => {
                self.serve(call, pick, &reaction, (reserved, exhausted), now);
                None
            }
            _ if reaction.after.is_zero() => self.refused(call, pick, &reaction, now),
            _ => {
                self.schedule(now + reaction.after, What::Refuses(Box::new((call, pick, reaction))));
                None
            }
        }
    }

    /// A member serves a call.
    fn serve(&mut self, call: Call, pick: Pick, reaction: &Reaction, (reserved, exhausted): (f64, Option<Duration>), now: Tick) {
        let Pick { index, mut lease, mut booking } = pick;
        let model = &self.world.models[call.model];
        let circuit = &self.world.pools[model.pool].config.circuit;
        let place = model.members[index].deployment;
        lease.record(target::Outcome::Success { first: Duration::ZERO, signal: RateSignal::default() }, circuit, now);
        let takes = if reaction.after.is_zero() { call.request.takes() } else { reaction.after }.max(SOON);
        // A booking learns that it was accepted when the answer begins.
        let begins = call.request.first.filter(|first| booking.is_some() && !first.is_zero()).map(|first| now + first.min(takes));
        if let Some(booking) = booking.as_mut().filter(|_| begins.is_none()) {
            booking.accepted(now);
        }
        let cost = self.note(&call, index, now);
        let paid = if let Cost::Known(money) = cost { money } else { Money::default() };
        let Call { request, model, mut shadowed, .. } = call;
        let permit = shadowed.permit.take();
        self.decided(&request, shadowed, End::Served(place));
        let ends = now + takes;
        let served =
            Box::new(Served { request, model, deployment: place, lease, booking, reserved, began: now, ends, permit, paid, exhausted });
        match begins {
            Some(begins) => self.schedule(begins, What::Begins(served)),
            None => self.schedule(ends, What::End(served)),
        }
    }

    /// A member refuses a call, or fails. Returns it if it may go elsewhere.
    fn refused(&mut self, mut call: Call, pick: Pick, reaction: &Reaction, now: Tick) -> Option<Call> {
        let Pick { index, mut lease, booking } = pick;
        let model = &self.world.models[call.model];
        let config = &self.world.pools[model.pool].config;
        let place = model.members[index].deployment;
        if let Some((usage, cost)) = &reaction.used {
            limits::book(call.shadowed.permit.as_ref(), usage.tokens(), cost.unwrap_or_default(), now);
        }
        let (outcome, is_failure) = match reaction.how {
            How::Throttled(retry_after, scope) => {
                lease.record(target::Outcome::Throttled { retry_after, scope }, &config.circuit, now);
                if let Some(mut booking) = booking {
                    booking.refused(retry_after, now);
                }
                self.tally.at(call.request.at).throttled[usize::from(!self.world.deployments[place].is_provisioned)] += 1;
                if let Some(shadow) = &mut self.shadow {
                    shadow.compared.throttled(place);
                }
                call.refused_by(index);
                return Some(call);
            }
            How::Left => {
                self.decided(&call.request, call.shadowed, End::Left);
                return None;
            }
            How::Failed(failure, retry_after) => {
                // As in the gateway: where nothing was sent, nothing is counted.
                let sent = !matches!(failure, Failure::Error(ErrorKind::Connect | ErrorKind::Tls));
                (Some(target::Outcome::Failed { failure, retry_after }), sent)
            }
            How::Out(reason) => (Some(target::Outcome::Out(reason)), false),
            How::Passed | How::Takes { .. } => (None, false),
        };
        if let Some(mut booking) = booking {
            booking.answered();
            booking.settle(Some(Used { prompt: 0, cached: 0, output: 0 }), now);
        }
        if let Some(outcome) = outcome {
            lease.record(outcome, &config.circuit, now);
        }
        call.failed_at(index);
        call.shadowed.failures += u32::from(is_failure);
        if call.shadowed.failures >= config.retry.max_attempts {
            self.give_up(call);
            return None;
        }
        Some(call)
    }

    /// Counts a call that is served. Returns its cost.
    fn note(&mut self, call: &Call, index: usize, now: Tick) -> Cost {
        let model = self.world.model(call.model);
        let (member, usage) = (&model.members[index], &call.request.usage);
        let is_spilled = model.route.is_provisioned() && !self.world.deployments[member.deployment].is_provisioned;
        let is_provisioned = self.world.deployments[member.deployment].is_provisioned;
        let (cost, alone) = (cost(member, &call.request, is_provisioned), model.alone(usage));
        let (tokens, tier) = (usage.tokens(), member.tier);
        let sums = self.tally.at(call.request.at);
        let of_tier = sums.tiers.entry(tier).or_default();
        of_tier.requests += 1;
        of_tier.tokens = of_tier.tokens.saturating_add(tokens);
        match cost {
            Cost::Known(money) => of_tier.paid += money,
            Cost::Hourly(_) => {}
            Cost::Unknown => of_tier.unpriced += 1,
        }
        if is_spilled {
            sums.spilled += 1;
            sums.spilled_tokens = sums.spilled_tokens.saturating_add(tokens);
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
        cost
    }

    /// A call has ended.
    fn end(&mut self, served: Served, now: Tick) {
        let Served { request, model, deployment, mut lease, booking, reserved, began, permit, paid, exhausted, ends: _ } = served;
        let usage = request.usage;
        self.world.deployments[deployment].takes.settle(reserved, &arrival(&request), usage.output, now);
        if let Some(booking) = booking {
            booking.settle(Some(Used { prompt: usage.input, cached: usage.cached_input, output: usage.output }), now);
        }
        if let Some(wait) = exhausted {
            let nothing = Quota { remaining: Some(0), reset: Some(wait), ..Quota::default() };
            let signal = RateSignal { requests: nothing, ..RateSignal::default() };
            let circuit = &self.world.pools[self.world.model(model).pool].config.circuit;
            lease.record(target::Outcome::Success { first: Duration::ZERO, signal }, circuit, now);
        }
        limits::settle(permit, usage.tokens(), paid, now);
        drop(lease);
        self.world.model(model).durations.add(now.since(began));
    }
}

/// What a call costs at a member. What a PTU deployment costs does not depend on its calls.
fn cost(member: &Member, request: &Request, is_provisioned: bool) -> Cost {
    match &member.price {
        Some(DeploymentPrice::Hourly(money)) => Cost::Hourly(money.unwrap_or_default()),
        Some(DeploymentPrice::ByUse(_)) | None if is_provisioned => Cost::Hourly(Money::default()),
        Some(DeploymentPrice::ByUse(price)) => {
            price.cost(&request.usage, member.service_tier).map_or(Cost::Unknown, |cost| Cost::Known(cost.money))
        }
        None => Cost::Unknown,
    }
}
