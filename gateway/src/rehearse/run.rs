//! Rehearses a whole config: first without a fault, then every fault, several at once. Each has a gateway, backends and a
//! time of its own.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::fault::{Fault, FaultKind};
use super::findings;
use super::measure::alerts::{Evidence, alerts};
use super::measure::sums;
use super::outcome::{FaultOutcome, Rehearsal, RequestOutcome};
use super::place::Lines;
use super::plan::derive::{baseline, faults};
use super::plan::traffic::{Plan, plan};
use super::play::wall::FIRST_TOKEN;
use super::play::{Played, RehearsalError, play, staging};
use crate::config::Config;

/// Faults that are rehearsed at once. They mostly wait for their time to jump.
const AT_ONCE: usize = 16;

/// What to rehearse.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Only faults whose name contains one of these; all, if it is empty.
    pub only: Vec<String>,
}

/// A fault could not be rehearsed.
#[derive(Debug, thiserror::Error)]
#[error("{fault}: {source}")]
pub struct FaultError {
    /// The fault's name.
    pub fault: String,
    /// Why.
    pub source: RehearsalError,
}

/// Rehearses a config. `name` is what reports call the file, `text` is what is in it.
///
/// # Errors
/// [`FaultError`] of the first fault that could not be rehearsed.
pub fn rehearse(name: &str, text: &str, config: &Config, options: &Options) -> Result<Rehearsal, FaultError> {
    crate::http_client::install_crypto();
    let lines = Lines::new(text);
    let derived = faults(config, &lines);
    let is_wanted = |fault: &Fault| options.only.is_empty() || options.only.iter().any(|only| fault.name().contains(only.as_str()));
    for only in &options.only {
        let is_so = |name: &str| name.contains(only.as_str());
        if !derived.all.iter().any(|fault| is_so(&fault.name())) && !derived.not_applicable.iter().any(|not| is_so(not.kind.label())) {
            let there = derived.all.iter().map(Fault::name).collect::<Vec<_>>().join(", ");
            return Err(FaultError { fault: format!("--only '{only}'"), source: RehearsalError::NoSuchFault { there } });
        }
    }
    let planned = |fault: Fault| (plan(config, &fault), fault);
    // The baseline says why nobody may ask for a pool.
    let is_asked = |(plan, _): &(Plan, Fault)| !plan.requests.is_empty();
    let wanted: Vec<(Plan, Fault)> = derived.all.into_iter().filter(is_wanted).map(planned).filter(is_asked).collect();
    let (plan, none) = planned(baseline(config, &lines));
    let played = play(config, &none, plan).map_err(|source| FaultError { fault: none.name(), source })?;
    let usual = Usual::of(&played);
    let baseline = outcome(config, none, played, &usual);
    let faults = all(config, wanted, &usual)?;
    let findings = findings::all(config, &lines, &baseline, &faults);
    let not_applicable = derived.not_applicable;
    Ok(Rehearsal { config: name.to_owned(), replaced: staging::replaced(config), baseline, faults, not_applicable, findings })
}

fn all(config: &Config, faults: Vec<(Plan, Fault)>, usual: &Usual) -> Result<Vec<FaultOutcome>, FaultError> {
    let threads = AT_ONCE.min(faults.len());
    let (next, done) = (Mutex::new(faults.into_iter().enumerate()), Mutex::new(BTreeMap::new()));
    let take = || next.lock().next();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some((at, (plan, fault))) = take() {
                    let outcome = match play(config, &fault, plan) {
                        Ok(played) => Ok(outcome(config, fault, played, usual)),
                        Err(source) => Err(FaultError { fault: fault.name(), source }),
                    };
                    done.lock().insert(at, outcome);
                }
            });
        }
    });
    done.into_inner().into_values().collect()
}

/// How long first bytes take when there is no fault, by pool, model and whether it is a stream.
#[derive(Debug, Default)]
struct Usual(BTreeMap<(String, String, bool), Duration>);

impl Usual {
    fn of(played: &Played) -> Self {
        let mut usual = Usual::default();
        for (request, first) in played.requests.iter().zip(&played.firsts) {
            let Some(first) = first.filter(|_| request.is_good()) else { continue };
            let known = usual.0.entry(Usual::key(request)).or_insert(first);
            *known = first.min(*known);
        }
        usual
    }

    fn key(request: &RequestOutcome) -> (String, String, bool) {
        (request.pool.clone(), request.model.clone(), request.stream)
    }

    /// Without the time that the model itself takes.
    fn added(&self, request: &RequestOutcome) -> Duration {
        let own = self.0.get(&Usual::key(request)).copied().unwrap_or(FIRST_TOKEN);
        request.added.saturating_sub(if request.status == 200 { own } else { Duration::ZERO })
    }
}

fn outcome(config: &Config, fault: Fault, played: Played, usual: &Usual) -> FaultOutcome {
    // Its streams last longer.
    let own = fault.kind.is_in_the_middle().then(|| Usual::of(&played));
    let usual = own.as_ref().unwrap_or(usual);
    let Played { mut requests, floods, figures, mut notes, .. } = played;
    for request in &mut requests {
        request.added = usual.added(request);
    }
    let span = requests.iter().map(|request| request.at + request.took).max().unwrap_or_default();
    let alerts = alerts(&Evidence { requests: &requests, figures: &figures, span });
    let flood: Vec<&RequestOutcome> = requests.iter().zip(&floods).filter(|(_, floods)| **floods).map(|(request, _)| request).collect();
    let limits = fault.consumer.map_or_else(Vec::new, |at| sums::limits(&config.consumers[at], &flood, &figures));
    if fault.kind == FaultKind::Flood {
        let others = || requests.iter().zip(&floods).filter(|(_, floods)| !**floods).map(|(request, _)| request);
        let good = others().filter(|request| request.is_good()).count();
        notes.push(format!(
            "{} requests in a minute, {} of them answered; of {} requests of others, {good}",
            flood.len(),
            flood.iter().filter(|request| request.is_good()).count(),
            others().count()
        ));
    }
    if !fault.full.is_empty() {
        let names: Vec<&str> = fault.full.iter().map(|at| &*config.backends[*at].name).collect();
        notes.push(format!("meanwhile {} answered 429, so that requests came here", names.join(", ")));
    }
    let pools = sums::by_pool(&requests, &figures);
    FaultOutcome { fault, requests, pools, limits, alerts, notes }
}
