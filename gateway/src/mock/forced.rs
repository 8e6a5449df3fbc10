//! Faults that whoever runs the mock switches on and off, for all of its deployments or for some of them.

use std::collections::HashSet;

use parking_lot::Mutex;

use super::fault::MockFault;

/// A fault that is switched on.
#[derive(Debug, Clone, PartialEq)]
pub struct Forced {
    /// The fault.
    pub fault: MockFault,
    /// The deployments that have it; empty for all.
    pub deployments: HashSet<String>,
    /// For how many more requests; `None` for all.
    pub times: Option<u64>,
}

/// The fault that is switched on, if there is one.
#[derive(Debug, Default)]
pub(super) struct Switch(Mutex<Option<Forced>>);

impl Switch {
    pub(super) fn set(&self, forced: Option<Forced>) {
        *self.0.lock() = forced;
    }

    /// The fault of the next request to a deployment.
    pub(super) fn next(&self, deployment: &str) -> Option<MockFault> {
        let mut switch = self.0.lock();
        let forced = switch.as_mut().filter(|forced| forced.deployments.is_empty() || forced.deployments.contains(deployment))?;
        if let Some(times) = &mut forced.times {
            *times = times.checked_sub(1)?;
        }
        Some(forced.fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_and_it_knows_deployments() {
        let switch = Switch::default();
        assert_eq!(switch.next("a"), None);
        switch.set(Some(Forced { fault: MockFault::Status(401), deployments: HashSet::from(["a".to_owned()]), times: Some(1) }));
        assert_eq!([switch.next("b"), switch.next("a"), switch.next("a")], [None, Some(MockFault::Status(401)), None]);
    }
}
