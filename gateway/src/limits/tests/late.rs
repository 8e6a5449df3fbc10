//! What the new process grants to a request that no longer waits for it.

use std::sync::Arc;

use spillway_plugins::limits::{LimitKind, Path, Period, Rank, Rules, Scope, Window};

use super::super::{ChangedScopes, Limits, Successor, UsageHistory};
use super::{demand, used};
use crate::clock::Clock;
use crate::telemetry::metrics::Metrics;

fn limits(clock: &Clock) -> (Arc<Limits>, Arc<Scope>) {
    let limits = Limits::new(UsageHistory::default(), None, Arc::new(Metrics::new().unwrap()), clock.clone());
    let windows = [LimitKind::RequestQuota, LimitKind::Quota].map(|kind| Window::utc(kind, Period::Year, 100));
    let rules = Rules { windows: windows.into(), ..Rules::default() };
    let scope = limits.scope(Rank::Pool, "pool".to_owned(), &rules).unwrap();
    (Arc::new(limits), scope)
}

fn tell(old: &Limits, changed: &ChangedScopes, successor: &Successor, new: &Limits) {
    let read = || changed.take().into_iter().map(|scope| (scope.name.clone(), scope.tally(old.now()))).collect::<Vec<_>>();
    let (tallies, counted) = successor.counted(read);
    new.inherit(tallies, &counted, 0);
}

#[tokio::test(start_paused = true)]
async fn it_counts_nothing_whenever_it_comes() {
    for comes in 0..3 {
        let clock = Clock::standing();
        let ((old, scope), (new, granting)) = (limits(&clock), limits(&clock));
        let changed = ChangedScopes::of(&old);
        // The new one gets the whole state before it accepts anything.
        let (successor, mut questions) = old.hand_over();
        tell(&old, &changed, &successor, &new);
        let path: Path = [scope].into_iter().collect();
        // There is no answer in time: the old one decides alone.
        let permit = old.admit(&path, demand(20), old.now()).await.unwrap();
        let question = questions.recv().await.unwrap();
        if comes == 0 {
            new.answer(question.clone()).await;
        }
        tell(&old, &changed, &successor, &new);
        if comes == 1 {
            new.answer(question.clone()).await;
        }
        permit.settle(used(5), old.now(), |_, _| {});
        tell(&old, &changed, &successor, &new);
        new.inherited_all();
        if comes == 2 {
            new.answer(question).await;
        }
        let used: Vec<u64> = granting.snapshot(new.now()).iter().map(|one| one.used).collect();
        assert_eq!(used, [1, 5], "one request, and what it used");
    }
}
