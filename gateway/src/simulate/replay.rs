//! Replays traffic once, for all scenarios together.

use std::time::Duration;

use serde::Serialize;

use super::outcome::{Outcome, time_text};
use super::request::{Names, Request};
use super::run::Run;
use super::scenario::Scenario;
use super::shadow::compared::Comparison;
use super::trace::{Trace, TraceError, Unused};
use super::world::{Assumptions, WorldError};

/// Time without a request from which on it is a gap.
const GAP: Duration = Duration::from_secs(3600);

/// What the traffic was.
#[derive(Debug, Clone, Serialize)]
pub struct Traffic {
    /// Requests.
    pub requests: u64,
    /// The first one's arrival.
    pub from: String,
    /// The last one's.
    pub to: String,
    /// Times of an hour or more without a request.
    pub gaps: u64,
    /// How long they are together, in seconds.
    pub gap_seconds: u64,
    /// What was not used.
    pub unused: Unused,
}

/// Traffic can't be replayed.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// It can't be read.
    #[error("{0}")]
    Trace(#[from] TraceError),
    /// A config can't be simulated.
    #[error("{0}")]
    World(#[from] WorldError),
}

/// Replays it.
///
/// # Errors
/// [`ReplayError`]
pub fn replay(trace: &mut dyn Trace, scenarios: Vec<Scenario>, assumptions: &Assumptions) -> Result<(Traffic, Vec<Outcome>), ReplayError> {
    let mut names = Names::default();
    let first = trace.next(&mut names)?.ok_or(TraceError::Nothing)?;
    let starts = scenarios.into_iter().map(|scenario| Run::new(scenario, assumptions, first.at));
    let mut runs = starts.collect::<Result<Vec<Run>, WorldError>>()?;
    let traffic = each(trace, first, &mut names, &mut runs)?;
    Ok((traffic, runs.into_iter().map(|run| run.finish(&names)).collect()))
}

/// Replays it through one config as a shadow: what that would have decided, beside what the traffic's log says.
///
/// # Errors
/// [`ReplayError`]
pub fn shadow(trace: &mut dyn Trace, scenario: Scenario, assumptions: &Assumptions) -> Result<(Traffic, Outcome, Comparison), ReplayError> {
    let mut names = Names::default();
    let first = trace.next(&mut names)?.ok_or(TraceError::Nothing)?;
    let mut runs = vec![Run::shadow(scenario, assumptions, first.at)?];
    let traffic = each(trace, first, &mut names, &mut runs)?;
    let run = runs.pop().ok_or(TraceError::Nothing)?;
    let (outcome, comparison) = run.finish_shadow(&names);
    Ok((traffic, outcome, comparison.ok_or(TraceError::Nothing)?))
}

/// Lets every request arrive in all runs.
fn each(trace: &mut dyn Trace, first: Request, names: &mut Names, runs: &mut [Run]) -> Result<Traffic, TraceError> {
    let (mut requests, mut gaps, mut without) = (0, 0, Duration::ZERO);
    let (began, mut last, mut next) = (first.at, first.at, Some(first));
    while let Some(request) = next {
        requests += 1;
        let pause = request.at.since(last);
        if pause >= GAP {
            gaps += 1;
            without += pause;
        }
        last = request.at;
        runs.iter_mut().for_each(|run| run.arrive(&request, names));
        next = trace.next(names)?;
    }
    let (from, to, gap_seconds) = (time_text(began), time_text(last), without.as_secs());
    Ok(Traffic { requests, from, to, gaps, gap_seconds, unused: trace.unused() })
}
