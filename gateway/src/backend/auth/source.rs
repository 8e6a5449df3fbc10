//! One identity's token: fetched before the first request, renewed in the background by one task, and read by every
//! backend that uses the identity. Reading never waits.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::HeaderValue;
use parking_lot::Mutex;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::fetch::{FetchError, Fetched};
use super::{auto, client_credentials, managed_identity, rehearsed, schedule, workload_identity};
use crate::balance::route::HealthFlag;
use crate::clock::{Clock, Tick};
use crate::config::{Identity, TokenAuth};
use crate::renewal::Renewal;
use crate::telemetry::metrics::TokenMetrics;

/// Timeout of one fetch, which may be two calls of ten seconds (Arc).
const FETCH: Duration = Duration::from_secs(25);
/// Least time between two renewals that a backend's 401 caused.
const FLOOR: Duration = Duration::from_secs(10);

/// How long a token that was requested is expected to come.
const SOON: Duration = Duration::from_secs(3);

/// A token and its end.
struct Held {
    header: HeaderValue,
    expires: Tick,
}

/// One identity's token.
pub struct TokenSource {
    config: TokenAuth,
    current: ArcSwapOption<Held>,
    /// Whether there is a valid token.
    pub usable: Arc<HealthFlag>,
    renewal: Renewal,
    chosen: Mutex<Option<String>>,
    metrics: TokenMetrics,
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TokenSource({})", self.config)
    }
}

impl TokenSource {
    /// Without a token; [`TokenSource::keep_fresh`] fetches it.
    pub fn new(config: TokenAuth, metrics: TokenMetrics) -> Self {
        let usable = Arc::new(HealthFlag::default());
        usable.set(false);
        TokenSource { config, current: ArcSwapOption::empty(), usable, renewal: Renewal::new(FLOOR), chosen: Mutex::new(None), metrics }
    }

    /// The identity's name, for logs and metrics.
    pub fn name(&self) -> String {
        self.config.to_string()
    }

    /// Equal for identities that share a token.
    pub fn identifier(&self) -> String {
        self.config.identifier()
    }

    /// The header's value, if the token is valid at `now`.
    pub fn header(&self, now: Tick) -> Option<HeaderValue> {
        self.current.load().as_ref().filter(|held| held.expires > now).map(|held| held.header.clone())
    }

    /// The number of tokens that were fetched; it numbers the current one.
    pub fn number(&self) -> u64 {
        self.renewal.number()
    }

    /// A target refused token `number`: requests another one and waits for it, at most `limit`. Other targets use the
    /// refused token until then. `true` if there is a newer one.
    pub async fn renew(&self, number: u64, clock: &Clock, limit: Duration) -> bool {
        self.renewal.request(number, clock, limit).await
    }

    /// A target refused token `number`, the one that was sent: requests another one, and doesn't wait. `true` if there
    /// is a newer one already or one will come soon: the refusal says nothing about the target then.
    pub fn refused(&self, number: u64, now: Tick) -> bool {
        self.renewal.is_replaced(number, now, SOON)
    }

    /// The scheme that `auto` chose last.
    pub fn chosen(&self) -> Option<String> {
        self.chosen.lock().clone()
    }

    /// Fetches a token once, without storing it.
    ///
    /// # Errors
    /// [`FetchError`] says why there is none.
    pub async fn fetch(&self, clock: &Clock) -> Result<Fetched, FetchError> {
        let scope = &self.config.scope;
        let wall = clock.wall();
        let auto = match &self.config.identity {
            Identity::Auto => Some(auto::choose(|name| std::env::var(name).ok())),
            _ => None,
        };
        if let Some(chosen) = auto.as_ref().map(ToString::to_string)
            && self.chosen.lock().replace(chosen.clone()).as_ref() != Some(&chosen)
        {
            info!(%chosen, "auto chose a credential from the environment");
        }
        let fetched = async {
            match auto.as_ref().unwrap_or(&self.config.identity) {
                Identity::Managed { client_id } => managed_identity::fetch(client_id.as_deref(), scope, wall).await,
                Identity::Workload(identity) => workload_identity::fetch(identity, scope, wall).await,
                Identity::Client(identity) => client_credentials::fetch(identity, scope, wall).await,
                Identity::Rehearsed { service, .. } => rehearsed::fetch(*service).await,
                // `auto` always chooses another scheme: the managed identity is its last choice.
                Identity::Auto => Err(FetchError::new("the environment has no credential")),
            }
        };
        timeout(FETCH, fetched).await.unwrap_or_else(|_| Err(FetchError::new("the token service did not answer in time")))
    }

    /// Renews the token in the background, for ever. One fetch at a time.
    pub async fn keep_fresh(self: Arc<Self>, clock: Clock) {
        let mut failures = 0;
        loop {
            let began = clock.now();
            let fetched = {
                let mut fetching = std::pin::pin!(self.fetch(&clock));
                loop {
                    tokio::select! {
                        fetched = &mut fetching => break fetched,
                        () = self.expiry(&clock) => self.expired(),
                    }
                }
            };
            let chance = fastrand::f64();
            let mut left_alone = false;
            let wait = match fetched {
                Ok(fetched) => {
                    let wait = schedule::renew_after(fetched.lifetime, fetched.refresh_in, chance);
                    self.store(fetched, began, failures, &clock);
                    failures = 0;
                    wait
                }
                Err(error) => {
                    failures += 1;
                    self.failed(&error, failures);
                    left_alone = error.retry_after.is_some();
                    schedule::pause(failures, error.retry_after, chance)
                }
            };
            let next = clock.now() + wait;
            loop {
                tokio::select! {
                    () = clock.sleep(next.since(clock.now())) => break,
                    // Not during the service's Retry-After.
                    () = self.renewal.wanted(), if !left_alone => break,
                    () = self.expiry(&clock) => self.expired(),
                }
            }
        }
    }

    fn store(&self, fetched: Fetched, began: Tick, failures: u32, clock: &Clock) {
        // Counted from the request: the service counts from before its answer.
        let expires = began + fetched.lifetime;
        self.current.store(Some(Arc::new(Held { header: fetched.header, expires })));
        self.metrics.fetched(clock.wall().timestamp() + i64::try_from(fetched.lifetime.as_secs()).unwrap_or(i64::MAX / 2));
        if self.usable.set(true) || failures > 0 {
            info!(identity = %self.config, lifetime_s = fetched.lifetime.as_secs(), "token acquired");
        }
        self.renewal.done();
    }

    fn failed(&self, error: &FetchError, failures: u32) {
        self.metrics.failed();
        // One log line per outage; the metric counts every failure.
        if failures == 1 {
            warn!(identity = %self.config, %error, usable = self.usable.get(), "no token could be fetched; trying again");
        }
    }

    /// Returns when a token that is in use expires.
    async fn expiry(&self, clock: &Clock) {
        let expires = self.current.load().as_ref().map(|held| held.expires);
        match expires.filter(|_| self.usable.get()) {
            Some(expires) => clock.sleep(expires.since(clock.now())).await,
            None => std::future::pending().await,
        }
    }

    fn expired(&self) {
        if self.usable.set(false) {
            self.metrics.lost();
            error!(identity = %self.config, "the token expired and no new one could be fetched: its backends are out until that succeeds");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    fn source() -> TokenSource {
        let config = TokenAuth { identity: Identity::Managed { client_id: None }, scope: "https://x/.default".into() };
        TokenSource::new(config, Metrics::new().unwrap().identities.of("managed-identity"))
    }

    #[test]
    fn a_token_is_shown_until_its_end_counted_from_when_it_was_asked_for() {
        let (source, clock) = (source(), Clock::new());
        let began = clock.now();
        assert!(source.header(began).is_none() && !source.usable.get());
        source.store(Fetched::new("CANARY", 60, None).unwrap(), began, 0, &clock);
        let at = |seconds: u64| source.header(began + Duration::from_secs(seconds)).is_some();
        assert!(source.usable.get() && at(0) && at(59) && !at(60));
        source.expired();
        assert!(!source.usable.get());
    }

    #[test]
    fn a_held_token_is_in_no_debug_print() {
        let (source, clock) = (source(), Clock::new());
        let fetched = Fetched::new("CANARY", 60, None).unwrap();
        assert!(!format!("{fetched:?} {:?}", fetched.header).contains("CANARY"));
        source.store(fetched, clock.now(), 0, &clock);
        assert!(!format!("{source:?}").contains("CANARY"));
    }
}
