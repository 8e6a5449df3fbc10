//! A request on its way: what was tried, and what it holds at the deployment that serves it.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;
use spillway_plugins::api::Api;
use spillway_plugins::limits::Permit;
use spillway_plugins::prices::Money;

use super::bucket::Arrival;
use super::request::Request;
use super::shadow::decision::Decision;
use super::shadow::evidence::Answers;
use super::world::{Known, World};
use crate::balance::provisioned::{Booking, Demand};
use crate::balance::ptu::load::Ask;
use crate::balance::ptu::shares::Caller;
use crate::balance::route::PickRequest;
use crate::balance::target::{Lease, RequestKey};
use crate::balance::waiting::QueueSlot;
use crate::clock::Tick;

/// A deadline that is further away is no different.
const LONGEST_DEADLINE: Duration = Duration::from_secs(7 * 86_400);

/// A request that has no answer yet.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: Request,
    /// Index of its model.
    pub(super) model: usize,
    pub(super) consumer: Arc<Known>,
    key: RequestKey,
    pub(super) demand: Option<Demand>,
    pub(super) needed_by: Option<Tick>,
    /// When it is given up.
    pub(super) deadline: Tick,
    tried: SmallVec<[usize; 4]>,
    throttled: SmallVec<[usize; 4]>,
    /// How much longer it may wait for throttled members.
    pub(super) wait_left: Duration,
    /// How often throttled members were allowed again.
    pub(super) releases: u32,
    /// What it waits for, and since when.
    pub(super) waits: Option<Waits>,
    /// What is added by a shadow.
    pub(super) shadowed: Shadowed,
}

/// What a shadow knows of a request on its way.
#[derive(Debug, Default)]
pub(super) struct Shadowed {
    /// What it has reserved within its limits.
    pub(super) permit: Option<Permit>,
    /// The log's answers to it.
    pub(super) answers: Answers,
    /// What was decided, by the log of this gateway.
    pub(super) logged: Option<Decision>,
    /// The deployment that was asked first.
    pub(super) first: Option<usize>,
    /// Attempts that failed, other than by 429.
    pub(super) failures: u32,
}

/// What a request waits for.
#[derive(Debug)]
pub(super) struct Waits {
    pub(super) since: Tick,
    /// Its place in the pool's queue.
    pub(super) _place: Option<QueueSlot>,
    /// For room in provisioned throughput, not for a throttle to end.
    pub(super) for_room: bool,
}

/// A call that a deployment serves.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) request: Request,
    pub(super) model: usize,
    /// Index of the deployment.
    pub(super) deployment: usize,
    pub(super) lease: Lease,
    pub(super) booking: Option<Booking>,
    /// What the deployment has reserved.
    pub(super) reserved: f64,
    pub(super) began: Tick,
    pub(super) ends: Tick,
    /// What the request has reserved within its limits.
    pub(super) permit: Option<Permit>,
    /// What it costs by use.
    pub(super) paid: Money,
    /// From its end on, nothing is left of the deployment's limits for so long.
    pub(super) exhausted: Option<Duration>,
}

impl Call {
    /// A request that has just arrived.
    pub(super) fn new(request: Request, model: usize, consumer: Arc<Known>, world: &World) -> Self {
        let known = world.model(model);
        let class = request.class.unwrap_or(consumer.class);
        let left = request.deadline.or(consumer.deadline).map(|left| left.min(LONGEST_DEADLINE));
        let needed_by = left.map(|left| request.at + left);
        let pool = &world.pools[known.pool].config;
        let cap = if request.api == Api::Embeddings { Some(0) } else { request.cap.filter(|cap| *cap > 0) };
        let timeout = request.at + pool.timeouts.total;
        let demand = known.route.is_provisioned().then(|| Demand {
            ask: Ask { prompt: request.usage.input, cap, choices: 1 },
            caller: Caller { consumer: consumer.number, group: consumer.group, class },
            elsewhere: known.elsewhere,
            needed_by: Some(needed_by.map_or(timeout, |needed_by| needed_by.min(timeout))),
            takes: known.durations.most(),
            waited: Duration::ZERO,
            may_wait: true,
            is_new: true,
        });
        Call {
            key: RequestKey { by: world.number_at_targets(&consumer), api: request.api, whole: true },
            deadline: timeout,
            wait_left: pool.retry.wait,
            tried: SmallVec::new(),
            throttled: SmallVec::new(),
            releases: 0,
            waits: None,
            shadowed: Shadowed::default(),
            request,
            model,
            consumer,
            demand,
            needed_by,
        }
    }

    /// It as the route sees it.
    pub(super) fn asks<'c>(&'c self, world: &'c World, now: Tick) -> PickRequest<'c> {
        let most = world.model(self.model).durations.most();
        PickRequest {
            excluded: world.model(self.model).excluded(self.request.api),
            tried: &self.tried,
            throttled: &self.throttled,
            fence: self.consumer.fence.as_deref(),
            // Callers that want the same member again are thought to be the consumers.
            affinity_key: self.consumer.number,
            key: self.key,
            demand: self.demand.as_ref(),
            class: self.request.class.unwrap_or(self.consumer.class),
            is_late: self.needed_by.is_some_and(|needed_by| needed_by.since(now) < most),
        }
    }

    /// It has asked for the first time, or once more.
    pub(super) fn has_asked(&mut self) {
        if let Some(demand) = &mut self.demand {
            demand.is_new = false;
        }
    }

    /// It as the deployment sees it.
    pub(super) fn arrives(&self) -> Arrival {
        arrival(&self.request)
    }

    /// It as the route sees it if only this member may take it.
    pub(super) fn asks_only<'c>(&'c self, others: &'c [usize], world: &'c World, now: Tick) -> PickRequest<'c> {
        PickRequest { excluded: others, ..self.asks(world, now) }
    }

    /// A member has failed, or could not take it.
    pub(super) fn failed_at(&mut self, member: usize) {
        self.tried.push(member);
    }

    /// A member has refused it.
    pub(super) fn refused_by(&mut self, member: usize) {
        self.tried.push(member);
        self.throttled.push(member);
    }

    /// It doesn't wait for room any longer.
    pub(super) fn hurry(&mut self) {
        if let Some(demand) = &mut self.demand {
            demand.may_wait = false;
        }
    }

    /// Throttled members may be tried again; it waited this long for them.
    pub(super) fn release(&mut self, waited: Duration) {
        self.wait_left = self.wait_left.saturating_sub(waited);
        self.releases += 1;
        let throttled = std::mem::take(&mut self.throttled);
        self.tried.retain(|member| !throttled.contains(member));
    }

    /// A wait is over.
    pub(super) fn wake(&mut self, now: Tick) {
        let Some(waits) = self.waits.take() else { return };
        let waited = now.since(waits.since);
        match (&mut self.demand, waits.for_room) {
            (Some(demand), true) => demand.waited += waited,
            _ => self.release(waited),
        }
    }
}

/// A request as a deployment sees it.
pub(super) fn arrival(request: &Request) -> Arrival {
    let cap = request.cap.filter(|cap| *cap > 0);
    Arrival { prompt: request.usage.input, cached: request.usage.cached_input, cap, choices: 1 }
}
