//! Where a request comes from, who sent it and what it runs on.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use chrono::{DateTime, Utc};
use spillway_plugins::api::{Api, Dialect};
use spillway_plugins::limits::{Class, Now};
use spillway_plugins::trace::Trace;

use crate::callers::{Caller, Holding, LiveConsumer};
use crate::clock::Tick;
use crate::runtime::Runtime;
use crate::shares::Owner;

/// Where a request comes from, who sent it and what it runs on. Written by `intake`, read by all later stages.
pub struct Facts {
    /// When its head was read.
    pub arrived: Tick,
    /// The same by the wall clock.
    pub arrived_at: DateTime<Utc>,
    /// The config it runs on.
    pub runtime: Arc<Runtime>,
    /// Its id.
    pub id: String,
    /// Its place in a trace, where there are traces.
    pub trace: Option<Box<Trace>>,
    /// The dialect for errors.
    pub dialect: Dialect,
    /// The caller, if known.
    pub caller: Option<Caller>,
    /// A request of the gateway's own, made for this caller: what is asked was allowed already.
    pub internal: bool,
    /// The operation, once the path is read.
    pub api: Option<Api>,
    /// The model's name as asked for, whether it exists or not.
    pub asked_for: Option<String>,
    /// The configured tag headers, as a JSON object.
    pub tags: Option<Arc<str>>,
}

impl Facts {
    /// Of a request that has just arrived.
    pub fn new(arrived: Tick, arrived_at: DateTime<Utc>, runtime: Arc<Runtime>) -> Self {
        Facts {
            arrived,
            arrived_at,
            runtime,
            id: String::new(),
            trace: None,
            dialect: Dialect::OpenAi,
            caller: None,
            internal: false,
            api: None,
            asked_for: None,
            tags: None,
        }
    }

    /// Whom the request belongs to, if known.
    pub fn consumer(&self) -> Option<&LiveConsumer> {
        self.caller.as_ref().map(|caller| &*caller.consumer)
    }

    /// Headers that are withheld from backends, but not the caller's.
    pub fn allowed_headers(&self) -> &[http::HeaderName] {
        self.consumer().map_or(&[], |consumer| &consumer.headers)
    }

    /// Whose share it takes of what all share.
    pub fn owner(&self) -> Owner {
        self.consumer().map(|consumer| Arc::clone(&consumer.name))
    }

    /// What counts what its consumer holds of what all share, where there are several consumers.
    pub fn holding(&self) -> Option<&Arc<Holding>> {
        self.runtime.callers.holding_of(self.consumer()).filter(|_| !self.internal)
    }

    /// What counts the bytes that its consumer's bodies take, where there are several consumers.
    pub fn buffered(&self) -> Option<Arc<AtomicUsize>> {
        Some(Arc::clone(&self.holding()?.buffered))
    }

    /// The moment `now` on both clocks, without asking the second one: the calendar's is taken when a request
    /// arrives.
    pub fn moment(&self, now: Tick) -> Now {
        let since = i64::try_from(now.since(self.arrived).as_secs()).unwrap_or(0);
        Now { monotonic: Duration::from_nanos(now.0), unix: self.arrived_at.timestamp().saturating_add(since) }
    }

    /// How urgent it is where room is short.
    pub fn class(&self) -> Class {
        self.consumer().map_or(Class::default(), |consumer| consumer.class)
    }
}
