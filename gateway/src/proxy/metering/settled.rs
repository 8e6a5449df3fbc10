//! The usage that is booked for an attempt, where it comes from, and what it costs.

use spillway_plugins::prices::Money;
use spillway_plugins::service_tier::ServiceTier;
use spillway_plugins::tokens::{Metered, Usage};

use crate::config::DeploymentPrice;
use crate::ledger::Cost;

/// The usage that is booked for an attempt, and where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// Reported by the backend.
    Reported(Usage),
    /// Estimated from the texts, if all of them were seen.
    Estimated(Usage),
    /// The upper bound.
    Bound(Usage),
}

impl Settled {
    pub(super) fn metered(self) -> Metered {
        match self {
            Settled::Reported(usage) => Metered::reported(usage),
            Settled::Estimated(usage) | Settled::Bound(usage) => Metered::estimated(usage),
        }
    }

    /// Another usage, from the same source.
    pub(super) fn of(self, usage: Usage) -> Self {
        match self {
            Settled::Reported(_) => Settled::Reported(usage),
            Settled::Estimated(_) => Settled::Estimated(usage),
            Settled::Bound(_) => Settled::Bound(usage),
        }
    }

    /// The cost in the service tier that the answer names, or else that was asked for; and whether all prices of that
    /// tier are known.
    pub(super) fn cost(self, price: Option<&DeploymentPrice>, named: Option<ServiceTier>, asked: Option<ServiceTier>) -> (Cost, bool) {
        let price = match price {
            Some(DeploymentPrice::Hourly(Some(money))) => return (Cost::Hourly(*money), true),
            // Whatever it costs, this use of it costs nothing.
            Some(DeploymentPrice::Hourly(None)) => return (Cost::Known(Money::default()), true),
            Some(DeploymentPrice::ByUse(price)) => price,
            None => return (Cost::Unknown, true),
        };
        let (tier, certain) = match (named, asked) {
            (Some(named), _) => (Some(named), true),
            // It may have been served at the usual price.
            (None, Some(ServiceTier::Flex)) => (None, false),
            (None, asked) => (asked, asked.is_none_or(|asked| asked == ServiceTier::Default)),
        };
        // A kind of token without a price is charged at the highest price of the others.
        let (usage, known) = match self {
            Settled::Reported(usage) | Settled::Estimated(usage) => (usage, price.cost(&usage, tier)),
            Settled::Bound(usage) => (usage, None),
        };
        let exact = certain && known.is_none_or(|cost| cost.exact);
        let money = known.map(|cost| cost.money).or_else(|| Some(price.at_most(&usage, tier)).filter(|money| money.0 > 0));
        (money.map_or(Cost::Unknown, Cost::Known), exact)
    }
}
