//! With many scopes, what one process reports to another costs what has changed.

use std::sync::Arc;
use std::time::Duration;

use spillway_plugins::limits::{Demand, Path, Rank, Rules, Scope};

use super::super::{ChangedScopes, Limits, OwnUseReports, UsageHistory};
use super::{demand, used};
use crate::clock::Clock;
use crate::telemetry::metrics::Metrics;

const MANY: usize = 500;

fn rules() -> Rules {
    Rules { tokens_per_minute: Some(100), concurrent: Some(10), ..Rules::default() }
}

fn limits(clock: &Clock) -> Arc<Limits> {
    let limits = Limits::new(UsageHistory::default(), None, Arc::new(Metrics::new().unwrap()), clock.clone());
    for number in 0..MANY {
        limits.scope(Rank::Consumer, format!("consumer '{number}'"), &rules());
    }
    Arc::new(limits)
}

fn one(limits: &Limits, number: usize) -> Arc<Scope> {
    limits.scope(Rank::Consumer, format!("consumer '{number}'"), &rules()).unwrap()
}

async fn ask(limits: &Limits, number: usize, demand: Demand) -> spillway_plugins::limits::Permit {
    let path: Path = [one(limits, number)].into_iter().collect();
    limits.admit(&path, demand, limits.now()).await.unwrap()
}

fn names(scopes: &[Arc<Scope>]) -> Vec<&str> {
    scopes.iter().map(|scope| scope.name.as_str()).collect()
}

#[tokio::test]
async fn a_report_reads_the_scopes_that_have_changed() {
    let limits = limits(&Clock::standing());
    let changed = ChangedScopes::of(&limits);
    assert_eq!(changed.take().len(), MANY, "at first all");
    assert!(changed.take().is_empty());
    let permit = ask(&limits, 7, demand(5)).await;
    let _other = ask(&limits, 7, demand(5)).await;
    assert_eq!(names(&changed.take()), ["consumer '7'"]);
    drop(permit);
    one(&limits, MANY);
    assert_eq!(names(&changed.take()), ["consumer '7'", "consumer '500'"], "and one that came later");
    limits.begin(UsageHistory::default());
    one(&limits, 7);
    limits.sweep();
    assert!(changed.take().is_empty(), "what the config has no longer isn't reported, nor what is as it was");
    drop(changed);
    let again = ChangedScopes::of(&limits);
    assert_eq!(again.take().len(), 1);
}

#[tokio::test]
async fn own_use_is_reported_when_it_changes_and_while_it_expires() {
    let clock = Clock::standing();
    let (new, old) = (limits(&clock), limits(&clock));
    let mut reports = OwnUseReports::of(&new);
    let tell = |reports: &mut OwnUseReports| {
        let used = reports.news();
        let names: Vec<String> = used.iter().map(|(name, _)| name.clone()).collect();
        old.leave_to_successor(used);
        names
    };
    assert_eq!(tell(&mut reports).len(), MANY);
    let permit = ask(&new, 3, demand(60)).await;
    assert_eq!(tell(&mut reports), ["consumer '3'"]);
    let path: Path = [one(&old, 3)].into_iter().collect();
    assert!(old.admit(&path, demand(41), old.now()).await.is_err());
    permit.settle(used(60), new.now(), |_, _| {});
    assert_eq!(tell(&mut reports), ["consumer '3'"], "it is no longer in flight");
    assert!(tell(&mut reports).is_empty());
    for _ in 0..60 {
        clock.pass(Duration::from_secs(1));
        assert!(tell(&mut reports).is_empty(), "as before");
    }
    clock.pass(Duration::from_secs(1));
    assert_eq!(tell(&mut reports), ["consumer '3'"], "a minute later nothing is used");
    assert!(old.admit(&path, demand(100), old.now()).await.is_ok());
    clock.pass(Duration::from_secs(100));
    assert!(tell(&mut reports).is_empty());
}

#[tokio::test]
async fn a_scope_that_comes_later_leaves_what_the_new_process_uses_of_it() {
    let clock = Clock::standing();
    let (new, old) = (limits(&clock), limits(&clock));
    let mut reports = OwnUseReports::of(&new);
    let late = one(&new, MANY);
    let _permit = new.admit(&[late].into_iter().collect(), demand(60), new.now()).await.unwrap();
    old.leave_to_successor(reports.news());
    let path: Path = [one(&old, MANY)].into_iter().collect();
    assert!(old.admit(&path, demand(41), old.now()).await.is_err());
    assert!(old.admit(&path, demand(40), old.now()).await.is_ok());
}

#[tokio::test]
async fn only_requests_in_flight_are_ended_when_the_old_process_ends() {
    let clock = Clock::standing();
    let (new, old) = (limits(&clock), limits(&clock));
    let changed = ChangedScopes::of(&old);
    let _open = ask(&old, 1, demand(5)).await;
    ask(&old, 2, demand(7)).await.settle(used(7), old.now(), |_, _| {});
    let now = old.now();
    new.inherit(changed.take().into_iter().map(|scope| (scope.name.clone(), scope.tally(now))), &[], 0);
    let changed = ChangedScopes::of(&new);
    changed.take();
    new.inherited_all();
    assert_eq!(names(&changed.take()), ["consumer '1'"]);
    let used = |number| one(&new, number).snapshot(now).iter().map(|one| one.used).collect::<Vec<_>>();
    assert_eq!((used(1), used(2)), (vec![5, 0], vec![7, 0]));
}
