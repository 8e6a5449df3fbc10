//! Where a request comes from, who sent it and what it runs on.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use chrono::{DateTime, Utc};
use spillway_plugins::api::{Api, Dialect};
use spillway_plugins::limits::{Class, Timestamps};
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
    /// The config that was live when it arrived. It keeps this one until its end.
    pub runtime: Arc<Runtime>,
    /// Its id.
    pub id: String,
    /// Its position in a trace, if tracing is on.
    pub trace: Option<Box<Trace>>,
    /// The dialect of its error bodies.
    pub dialect: Dialect,
    /// The caller, if known.
    pub caller: Option<Caller>,
    /// The gateway itself made this request, on behalf of this caller: the caller's rights were already checked.
    pub internal: bool,
    /// The operation's API, once the path is known.
    pub api: Option<Api>,
    /// The model's name in the request, even if no such model exists.
    pub asked_for: Option<String>,
    /// The configured tag headers, as a JSON object.
    pub tags: Option<Arc<str>>,
    /// When the caller needs its answer, if it says so.
    pub needed_by: Option<Tick>,
}

impl Facts {
    /// The facts of a request that has just arrived.
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
            needed_by: None,
        }
    }

    /// The consumer that the request belongs to, if known.
    pub fn consumer(&self) -> Option<&LiveConsumer> {
        self.caller.as_ref().map(|caller| &*caller.consumer)
    }

    /// Headers that are usually withheld from backends, but that this consumer may send.
    pub fn allowed_headers(&self) -> &[http::HeaderName] {
        self.consumer().map_or(&[], |consumer| &consumer.headers)
    }

    /// The owner whose share of common resources the request uses.
    pub fn owner(&self) -> Owner {
        self.consumer().map(|consumer| Arc::clone(&consumer.name))
    }

    /// Counts what its consumer holds of common resources. `None` if there is only one consumer.
    pub fn holding(&self) -> Option<&Arc<Holding>> {
        self.runtime.callers.holding_of(self.consumer()).filter(|_| !self.internal)
    }

    /// Counts the bytes that the bodies of its consumer take. `None` if there is only one consumer.
    pub fn buffered(&self) -> Option<Arc<AtomicUsize>> {
        Some(Arc::clone(&self.holding()?.buffered))
    }

    /// The time on the wall at a tick after its arrival: the wall clock is read once for each request.
    pub fn wall_at(&self, now: Tick) -> DateTime<Utc> {
        self.arrived_at + now.since(self.arrived)
    }

    /// The time `now` on both clocks. The wall clock is read only when the request arrives; later times are computed
    /// from there.
    pub fn timestamps(&self, now: Tick) -> Timestamps {
        let since = i64::try_from(now.since(self.arrived).as_secs()).unwrap_or(0);
        Timestamps { monotonic: Duration::from_nanos(now.0), unix: self.arrived_at.timestamp().saturating_add(since) }
    }

    /// The microseconds of its arrival beyond the millisecond.
    pub fn micros_of_arrival(&self) -> u16 {
        u16::try_from(self.arrived_at.timestamp_subsec_micros() % 1000).unwrap_or(0)
    }

    /// How urgent the request is when resources are short.
    pub fn class(&self) -> Class {
        self.consumer().map_or(Class::default(), |consumer| consumer.class)
    }
}
