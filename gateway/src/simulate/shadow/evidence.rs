//! What a backend would have answered. If the log says what it answered to this very request, that. Otherwise it refuses as
//! long as its last known 429 said, and takes the request as the simulated deployment does.

use std::time::Duration;

use super::places::Places;
use crate::clock::Tick;
use crate::simulate::request::{Names, Request};
use crate::simulate::seen::{Answer, Said};
use crate::simulate::world::World;

/// How long a 429 without a time is believed to last for other requests.
const UNSAID: Duration = Duration::from_secs(1);

/// What is known of the config's deployments.
#[derive(Debug)]
pub(in crate::simulate) struct Evidence {
    places: Places,
    /// By deployment: until when it is known to refuse.
    closed: Vec<Tick>,
}

/// The log's answers to a request, by deployment of the config, in their order.
#[derive(Debug, Default)]
pub(in crate::simulate) struct Answers {
    left: Vec<(usize, Answer)>,
    /// The first member that was asked, and those that followed.
    next: Option<usize>,
    is_ours: bool,
}

impl Evidence {
    pub(super) fn new(world: &World) -> Self {
        Evidence { places: Places::new(world), closed: vec![Tick::default(); world.deployments.len()] }
    }

    /// The answers to a request, and the first of its places that the config doesn't have.
    pub(in crate::simulate) fn of(&mut self, request: &Request, names: &Names) -> (Answers, Option<u32>) {
        let Some(seen) = &request.seen else { return (Answers::default(), None) };
        let (mut left, mut unknown) = (Vec::new(), None);
        let mut at = request.at;
        for answer in &seen.answers {
            at = at + answer.took;
            let Some(deployment) = self.places.index_of(answer.place, names) else {
                unknown.get_or_insert(answer.place);
                continue;
            };
            self.closed[deployment] = match answer.said {
                Said::Throttled(wait, _) => at + wait.unwrap_or(UNSAID),
                Said::Served(None) => Tick::default(),
                _ => self.closed[deployment],
            };
            left.push((deployment, answer.clone()));
        }
        let next = left.first().map(|(deployment, _)| *deployment);
        (Answers { left, next, is_ours: seen.is_ours }, unknown)
    }

    /// The deployment of the config that this name of a place means.
    pub(in crate::simulate) fn deployment(&self, name: &str) -> Option<usize> {
        self.places.find(name)
    }

    /// How much longer a deployment is known to refuse.
    pub(in crate::simulate) fn refuses_for(&self, deployment: usize, now: Tick) -> Option<Duration> {
        Some(self.closed[deployment].since(now)).filter(|left| !left.is_zero())
    }
}

impl Answers {
    /// The deployments that were asked, in order, and whether they answered 429.
    pub(in crate::simulate) fn asked(&self) -> Vec<(usize, bool)> {
        self.left.iter().map(|(deployment, answer)| (*deployment, matches!(answer.said, Said::Throttled(..)))).collect()
    }

    /// The deployment that the gateway asked next, by its own log.
    pub(in crate::simulate) fn followed(&self) -> Option<usize> {
        self.next.filter(|_| self.is_ours)
    }

    /// Takes the deployment's next answer, if the log has one.
    pub(in crate::simulate) fn take(&mut self, deployment: usize) -> Option<Answer> {
        let at = self.left.iter().position(|(known, _)| *known == deployment)?;
        let (_, answer) = self.left.remove(at);
        self.next = self.left.get(at).or(self.left.first()).map(|(deployment, _)| *deployment);
        Some(answer)
    }
}
