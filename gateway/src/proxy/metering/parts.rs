//! Parts of an answer's usage with prices of their own: what another model did for it (an advisor, a fallback), and
//! requests within the request (a compaction), whose length chooses their price.

use spillway_plugins::service_tier::ServiceTier;
use spillway_plugins::tokens::{Part, Usage};

use super::settled::Settled;
use crate::config::DeploymentPrice;
use crate::ledger::{Cost, MemberLabels};
use crate::runtime::Runtime;

/// The price of a part.
enum PartPrice {
    /// That of the deployment that was asked.
    Own,
    /// That of another model at the same backend.
    Of(DeploymentPrice),
    /// Not known.
    Unknown,
}

/// A part with its price.
pub(super) struct PricedPart {
    usage: Usage,
    price: PartPrice,
}

/// The parts of an answer from this place, with their prices.
pub(super) fn priced(runtime: &Runtime, place: &MemberLabels, parts: &[Part]) -> Vec<PricedPart> {
    let backend = runtime.config.backends.iter().find(|backend| *backend.name == *place.backend);
    let is_own = |name: &str| [&*place.deployment, &*place.model].contains(&name);
    let price = |name: Option<&str>| match name {
        None => PartPrice::Own,
        Some(name) if is_own(name) || is_own(undated(name)) => PartPrice::Own,
        Some(name) => {
            let found = [name, undated(name)].into_iter().find_map(|name| runtime.config.prices.of(backend?, name));
            found.map_or(PartPrice::Unknown, PartPrice::Of)
        }
    };
    parts.iter().map(|part| PricedPart { usage: part.usage, price: price(part.model.as_deref()) }).collect()
}

/// A model's name without the date of its version (`claude-opus-4-6-20260205`).
fn undated(name: &str) -> &str {
    let is_date = |end: &str| end.len() == 8 && end.bytes().all(|byte| byte.is_ascii_digit());
    name.rsplit_once('-').filter(|(_, end)| is_date(end)).map_or(name, |(name, _)| name)
}

/// The cost of a usage with such parts, and whether all prices are known: as [`Settled::cost`] of the rest, and of each part
/// by itself.
pub(super) fn cost(
    settled: Settled,
    parts: &[PricedPart],
    price: Option<&DeploymentPrice>,
    named: Option<ServiceTier>,
    asked: Option<ServiceTier>,
) -> (Cost, bool) {
    if parts.is_empty() || matches!(price, Some(DeploymentPrice::Hourly(_))) {
        return settled.cost(price, named, asked);
    }
    let rest = parts.iter().fold(settled.metered().usage, |rest, part| rest.without(&part.usage));
    let own = (rest != Usage::default()).then(|| settled.of(rest).cost(price, named, asked));
    let of_part = |part: &PricedPart| match &part.price {
        PartPrice::Own => Settled::Reported(part.usage).cost(price, named, asked),
        PartPrice::Of(price) => Settled::Reported(part.usage).cost(Some(price), named, asked),
        // As the dearest that the deployment has.
        PartPrice::Unknown => (Settled::Bound(part.usage).cost(price, named, asked).0, false),
    };
    let (mut sum, mut exact) = (None, true);
    for (cost, is_exact) in own.into_iter().chain(parts.iter().map(of_part)) {
        match cost {
            Cost::Known(money) => sum = Some(sum.unwrap_or_default() + money),
            Cost::Hourly(_) | Cost::Unknown => exact = false,
        }
        exact &= is_exact;
    }
    (sum.map_or(Cost::Unknown, Cost::Known), exact)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use spillway_plugins::prices::Money;

    use super::*;
    use crate::proxy::fixtures;

    fn used(input: u64, output: u64) -> Usage {
        Usage { input, output, ..Usage::default() }
    }

    fn part(model: Option<&str>, input: u64, output: u64) -> Part {
        Part { model: model.map(Box::from), usage: used(input, output) }
    }

    /// The cost of a usage in dollars at the fixture's deployment: a million tokens cost one dollar, of output ten.
    fn dollars(usage: Usage, parts: &[Part]) -> (Option<f64>, bool) {
        let gateway = fixtures::gateway("");
        let runtime = gateway.runtime.load();
        let member = &runtime.model("m").unwrap().members[0];
        let priced = priced(&runtime, &Arc::clone(&member.place), parts);
        let (cost, exact) = cost(Settled::Reported(usage), &priced, member.price.as_ref(), None, None);
        (if let Cost::Known(money) = cost { Some(money.usd()) } else { None }, exact)
    }

    #[test]
    fn each_part_has_the_price_of_its_model() {
        let million = 1_000_000;
        assert_eq!(dollars(used(million, 0), &[]), (Some(1.0), true));
        for own in [None, Some("m"), Some("m-20260205")] {
            assert_eq!(dollars(used(million, million), &[part(own, million, 0)]), (Some(11.0), true), "{own:?}");
        }
        // Of the built-in table: 2.5 and 10 dollars.
        assert_eq!(dollars(used(2 * million, million), &[part(Some("gpt-4o"), million, million)]), (Some(1.0 + 2.5 + 10.0), true));
        assert_eq!(dollars(used(million, 0), &[part(Some("unheard-of"), million, 0)]), (Some(1.0), false));
        assert_eq!(dollars(used(3 * million, 0), &[part(Some("unheard-of"), million, 0), part(None, million, 0)]), (Some(3.0), false));
        assert_eq!(undated("gpt-4o-2024"), "gpt-4o-2024");
    }

    #[test]
    fn without_a_price_only_other_models_have_a_cost() {
        let gateway = fixtures::gateway("");
        let runtime = gateway.runtime.load();
        let member = &runtime.model("m").unwrap().members[1];
        let of = |parts: &[Part]| {
            cost(Settled::Reported(used(2, 0)), &priced(&runtime, &member.place, parts), member.price.as_ref(), None, None)
        };
        assert_eq!(of(&[part(None, 1, 0)]), (Cost::Unknown, false));
        assert_eq!(of(&[part(Some("gpt-4o"), 1, 0)]), (Cost::Known(Money(2_500_000)), false));
        let hourly = DeploymentPrice::Hourly(Some(Money(5)));
        let parts = priced(&runtime, &member.place, &[part(Some("gpt-4o"), 1, 0)]);
        assert_eq!(cost(Settled::Reported(used(2, 0)), &parts, Some(&hourly), None, None), (Cost::Hourly(Money(5)), true));
    }
}
