//! Active health checks: Pingora's HTTP check of each of a backend's addresses. A member is up while at least one of
//! them answers with an expected status.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use http::{HeaderMap, Method, StatusCode, header};
use pingora::connectors::http::Connector;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::lb::Backend as Address;
use pingora::lb::health_check::{HealthCheck, HttpHealthCheck};
use pingora::{Error, ErrorType, OrErr};
use tracing::{info, warn};

use super::{Backend, Upstream, resolve};
use crate::balance::route::HealthFlag;
use crate::clock::Clock;
use crate::config::HealthRules;
use crate::http1::request_head::{RequestHead, Unwritable};
use crate::provider::Signing;

/// Checks a backend for a pool, for ever, and sets `up`.
pub async fn keep_checked(backend: Arc<Backend>, pool: Arc<str>, rules: HealthRules, up: Arc<HealthFlag>, clock: Clock) {
    let (Some(upstream), Some(mut addresses)) = (&backend.upstream, resolve::addresses(&backend)) else { return };
    let name = &backend.config.name;
    let current = Arc::new(ArcSwapOption::empty());
    let answered = Arc::new(AtomicBool::new(false));
    let thresholds = (rules.healthy_after, rules.unhealthy_after);
    addresses.set_health_check(Box::new(Current { check: Arc::clone(&current), thresholds, answered: Arc::clone(&answered) }));
    let mut sent = 0;
    // Checks that must still succeed in a row, if the process before this one found it to be down: Pingora's begins anew.
    let mut lacking = if up.get() { 0 } else { rules.healthy_after };
    loop {
        // Read before the token itself, which may be renewed in between.
        let token = upstream.auth.token().map_or(0, |token| token.number());
        match request(upstream, &rules, &clock) {
            Ok(request) => {
                // Replaced only for a new credential, because a check keeps its connections.
                if current.load().is_none() || token != sent {
                    sent = token;
                    current.store(Some(Arc::new(check(upstream, &rules, request, token, &clock))));
                }
            }
            // Without a credential the backend is out anyway; this must not count as unhealthy.
            Err(Unaskable::NoCredential) => {
                clock.sleep(rules.interval).await;
                continue;
            }
            Err(error) => {
                warn!(backend = %name, pool = %pool, %error, "the health check can't be made");
                return;
            }
        }
        // If a look-up fails, the last addresses stay, and the resolver reports it.
        let _ = addresses.update(|_| {}).await;
        addresses.run_health_check(true).await;
        let list = addresses.get_backend();
        if lacking > 0 {
            lacking = if answered.swap(false, Ordering::Relaxed) { lacking - 1 } else { rules.healthy_after };
        }
        let healthy = lacking == 0 && (list.is_empty() || list.iter().any(|address| addresses.ready(address)));
        if up.set(healthy) {
            match healthy {
                true => info!(backend = %name, pool = %pool, "the health check succeeds again"),
                false => warn!(backend = %name, pool = %pool, path = %rules.path, "the health check fails: no more requests go there"),
            }
        }
        clock.sleep(rules.interval).await;
    }
}

/// The check with the current credential. Pingora takes one check per list of addresses and never replaces it.
struct Current {
    check: Arc<ArcSwapOption<HttpHealthCheck>>,
    /// Checks in a row that change the state: successful ones, failed ones.
    thresholds: (usize, usize),
    /// Set whenever an address passes.
    answered: Arc<AtomicBool>,
}

#[async_trait]
impl HealthCheck for Current {
    async fn check(&self, target: &Address) -> pingora::Result<()> {
        if let Some(check) = self.check.load_full() {
            check.check(target).await?;
        }
        self.answered.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn health_threshold(&self, success: bool) -> usize {
        if success { self.thresholds.0 } else { self.thresholds.1 }
    }
}

/// Why a backend can't be checked.
#[derive(Debug, thiserror::Error)]
enum Unaskable {
    #[error("no credential to send")]
    NoCredential,
    #[error(transparent)]
    Unwritable(#[from] Unwritable),
    #[error(transparent)]
    Request(#[from] pingora::BError),
}

fn request(upstream: &Upstream, rules: &HealthRules, clock: &Clock) -> Result<RequestHeader, Unaskable> {
    let mut request = RequestHead::new(Method::GET, rules.path.as_bytes())?;
    request.require(&header::HOST, upstream.endpoint.authority.as_bytes())?;
    request.require(&header::USER_AGENT, concat!("spillway/", env!("CARGO_PKG_VERSION")).as_bytes())?;
    let signing = Signing::without_body(clock.wall());
    upstream.auth.authorise(&HeaderMap::new(), &mut request, clock.now(), &signing).map_err(|_| Unaskable::NoCredential)?;
    Ok(request.to_pingora()?)
}

/// `sent` is the number of the token in `request`.
fn check(upstream: &Upstream, rules: &HealthRules, request: RequestHeader, sent: u64, clock: &Clock) -> HttpHealthCheck {
    let mut check = HttpHealthCheck::new_custom(&upstream.endpoint.server_name, upstream.endpoint.tls, Connector::new(None));
    check.peer_template = upstream.peers.template();
    check.peer_template.options.total_connection_timeout = Some(rules.timeout);
    check.peer_template.options.read_timeout = Some(rules.timeout);
    check.reuse_connection = true;
    check.req = request;
    let statuses = rules.statuses.clone();
    let (token, clock) = (upstream.auth.token().cloned(), clock.clone());
    check.validator = Some(Box::new(move |answer: &ResponseHeader| {
        let status = StatusCode::from_u16(answer.status.as_u16()).or_err(ErrorType::InvalidHTTPHeader, "status")?;
        // Without traffic no request would notice the 401.
        if let (StatusCode::UNAUTHORIZED, Some(token)) = (status, &token) {
            token.refused(sent, clock.now());
        }
        if statuses.contains(status) { Ok(()) } else { Error::e_explain(ErrorType::HTTPStatus(status.as_u16()), "unhealthy status") }
    }));
    check
}
