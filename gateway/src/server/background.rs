//! Background tasks that keep addresses, tokens, keys, certificates and health up to date: one task for each, started
//! when a config needs it and stopped when none does.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::backend::{health, resolve};
use crate::clock::Clock;
use crate::runtime::Runtime;

/// The tasks, by the address of their object. A task holds the object, so no other one can have its address.
#[derive(Debug, Default)]
pub(super) struct Upkeep(HashMap<usize, JoinHandle<()>>);

/// The address that identifies an object.
fn address<T: ?Sized>(thing: &Arc<T>) -> usize {
    Arc::as_ptr(thing).addr()
}

impl Upkeep {
    /// Starts the tasks that `runtime` needs and that don't run yet.
    pub(super) fn start(&mut self, runtime: &Runtime, clock: &Clock) {
        for backend in &runtime.backends {
            self.ensure(address(backend), || tokio::spawn(resolve::keep_resolved(Arc::clone(backend))));
        }
        for identity in runtime.identities.iter() {
            self.ensure(address(identity), || tokio::spawn(Arc::clone(identity).keep_fresh(clock.clone())));
        }
        if let Some(tokens) = &runtime.callers.tokens {
            self.ensure(address(&tokens.issuer), || tokio::spawn(Arc::clone(&tokens.issuer).keep_fresh(clock.clone())));
        }
        if let Some(sign_in) = &runtime.sign_in {
            self.ensure(address(&sign_in.issuer), || tokio::spawn(Arc::clone(&sign_in.issuer).keep_fresh(clock.clone())));
        }
        if let Some(tls) = &runtime.tls {
            self.ensure(address(tls), || tokio::spawn(Arc::clone(tls).keep_fresh()));
        }
        for pool in &runtime.pools {
            let Some(rules) = &pool.config.health else { continue };
            for (member, up) in pool.config.members.iter().zip(&pool.health) {
                let backend = Arc::clone(&runtime.backends[member.backend]);
                let check = || health::keep_checked(backend, pool.config.name.clone(), rules.clone(), Arc::clone(up), clock.clone());
                self.ensure(address(up), || tokio::spawn(check()));
            }
        }
    }

    /// Stops the tasks that `runtime` doesn't need.
    pub(super) fn retain(&mut self, runtime: &Runtime) {
        let backends = runtime.backends.iter().map(address);
        let identities = runtime.identities.iter().map(address);
        let issuer = runtime.callers.tokens.iter().map(|tokens| address(&tokens.issuer));
        let sign_in = runtime.sign_in.iter().map(|sign_in| address(&sign_in.issuer));
        let checks = runtime.pools.iter().filter(|pool| pool.config.health.is_some()).flat_map(|pool| pool.health.iter().map(address));
        let needed: Vec<usize> =
            backends.chain(identities).chain(issuer).chain(sign_in).chain(runtime.tls.iter().map(address)).chain(checks).collect();
        self.0.retain(|key, task| {
            let needed = needed.contains(key);
            if !needed {
                task.abort();
            }
            needed
        });
    }

    /// Stops all tasks.
    pub(super) fn stop(&self) {
        self.0.values().for_each(JoinHandle::abort);
    }

    fn ensure(&mut self, key: usize, start: impl FnOnce() -> JoinHandle<()>) {
        if self.0.get(&key).is_none_or(JoinHandle::is_finished) {
            self.0.insert(key, start());
        }
    }
}

/// Waits a moment for the first look-ups and tokens, so that the first requests don't fail. A name or a token that
/// can't be fetched doesn't delay the start for long.
pub(super) async fn wait_for_backends(runtime: &Runtime) {
    let upstreams = || runtime.backends.iter().filter_map(|backend| backend.upstream.as_ref());
    wait(2, || upstreams().all(|upstream| upstream.resolved.get())).await;
    let known = || runtime.callers.tokens.as_ref().is_none_or(|tokens| tokens.issuer.is_ready());
    wait(5, || known() && runtime.identities.iter().all(|identity| identity.usable.get())).await;
}

/// Waits until `ready`, at most this many seconds.
async fn wait(limit: u64, ready: impl Fn() -> bool) {
    let all = async {
        while !ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(limit), all).await;
}
