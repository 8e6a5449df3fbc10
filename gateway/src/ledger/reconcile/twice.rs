//! Finds quantities that are billed twice: the same amount of the same thing, on the same day, under two meters.
//!
//! Of tokens, two meters that count different traffic don't have the same count by chance, if the counts are large. Provisioned
//! throughput has round quantities; there, only two meters of one deployment are an error, because a deployment has one.

use std::collections::BTreeMap;

use serde::Serialize;

use super::meters::Meter;

/// Smaller counts of tokens may be equal by chance.
const LARGE: f64 = 100_000.0;
/// One day with equal counts is enough from this many tokens on; otherwise two are needed.
const VERY_LARGE: f64 = 1_000_000.0;
/// Quantities are equal up to the rounding of decimal fractions.
const ROUNDING: f64 = 1e-9;

/// The same quantity under two meters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BilledTwice {
    /// The backend.
    pub backend: String,
    /// The deployment; null if the export doesn't name one.
    pub deployment: Option<String>,
    /// The two meters.
    pub meters: [String; 2],
    /// The days on which the quantities are equal.
    pub days: usize,
    /// Tokens, or hours of provisioned throughput, under each of the two on these days.
    pub quantity: f64,
    /// What each costs on these days, in the export's currency.
    pub costs: [f64; 2],
}

/// What is counted: at a backend and a deployment, tokens by their kind, or provisioned throughput.
type Counted = (String, Option<String>, Option<Meter>);
/// The name of a meter, its id, and how it is priced.
type Rating = [String; 3];
/// Quantity and cost, by day.
type Days = BTreeMap<i64, (f64, f64)>;

/// The quantities of each day.
#[derive(Debug, Default)]
pub(super) struct Quantities {
    all: BTreeMap<Counted, BTreeMap<Rating, Days>>,
}

impl Quantities {
    pub(super) fn add(
        &mut self,
        (backend, deployment, meter): (&str, Option<&str>, Option<Meter>),
        rating: [&str; 3],
        day: i64,
        quantity: f64,
        cost: f64,
    ) {
        let counted = (backend.to_owned(), deployment.map(str::to_owned), meter);
        let days = self.all.entry(counted).or_default().entry(rating.map(str::to_owned)).or_default();
        let sum = days.entry(day).or_default();
        sum.0 += quantity;
        sum.1 += cost;
    }

    /// All that are billed twice.
    pub(super) fn billed_twice(&self) -> Vec<BilledTwice> {
        let mut found = Vec::new();
        for ((backend, deployment, meter), ratings) in &self.all {
            let ratings: Vec<(&Rating, &Days)> = ratings.iter().collect();
            for (index, (one, days)) in ratings.iter().enumerate() {
                for (other, others) in &ratings[index + 1..] {
                    // Half of a deployment's units may be reserved: then each of the two prices has the same quantity.
                    let is_other_meter = one[..2] != other[..2] && (meter.is_some() || (one[0] != other[0] && one[2] == other[2]));
                    if !is_other_meter || (meter.is_none() && deployment.is_none()) {
                        continue;
                    }
                    let equal: Vec<_> = days.iter().filter_map(|(day, sum)| equal(*sum, *others.get(day)?, meter.is_some())).collect();
                    let most = equal.iter().map(|(quantity, _)| *quantity).fold(0.0, f64::max);
                    if equal.is_empty() || (meter.is_some() && equal.len() < 2 && most < VERY_LARGE) {
                        continue;
                    }
                    found.push(BilledTwice {
                        backend: backend.clone(),
                        deployment: deployment.clone(),
                        meters: [one[0].clone(), other[0].clone()],
                        days: equal.len(),
                        quantity: equal.iter().map(|(quantity, _)| quantity).sum(),
                        costs: [0, 1].map(|which| equal.iter().map(|(_, costs)| costs[which]).sum()),
                    });
                }
            }
        }
        found
    }
}

/// The quantity and both costs of a day, if both quantities are the same and large enough.
fn equal(one: (f64, f64), other: (f64, f64), is_tokens: bool) -> Option<(f64, [f64; 2])> {
    let least = if is_tokens { LARGE } else { f64::MIN_POSITIVE };
    let is_equal = one.0 >= least && (one.0 - other.0).abs() <= one.0 * ROUNDING;
    is_equal.then_some((one.0, [one.1, other.1]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The deployment, the meter, how it is rated, the day and the quantity.
    type Line<'l> = (&'l str, Option<Meter>, [&'l str; 3], i64, f64);

    fn found(lines: &[Line<'_>]) -> Vec<BilledTwice> {
        let mut quantities = Quantities::default();
        for (deployment, meter, rating, day, quantity) in lines {
            let deployment = Some(*deployment).filter(|name| !name.is_empty());
            quantities.add(("b", deployment, *meter), *rating, *day, *quantity, quantity * 2.0);
        }
        quantities.billed_twice()
    }

    #[test]
    fn tokens_that_are_counted_by_two_meters_are_found() {
        let (input, output) = (Some(Meter::Input), Some(Meter::Output));
        let one = ["5.4 Inp Gl", "1", "OnDemand"];
        let other = ["5.4 Inp Flex Gl", "2", "OnDemand"];
        let large = 3_000_001.0;
        let twice =
            found(&[("d", input, one, 1, large), ("d", input, other, 1, large), ("d", input, one, 2, 5e6), ("d", input, other, 2, 6e6)]);
        assert_eq!((twice.len(), twice[0].days, twice[0].quantity, twice[0].costs), (1, 1, large, [large * 2.0; 2]));
        // A meter that is split into many lines has the same sum.
        let split = found(&[("d", input, one, 1, large), ("d", input, other, 1, 1.0), ("d", input, other, 1, large - 1.0)]);
        assert_eq!(split.len(), 1);
        for harmless in [
            // The same meter in two lines, other days, other deployments, other kinds of tokens.
            [("d", input, one, 1, large), ("d", input, one, 1, large)],
            [("d", input, one, 1, large), ("d", input, other, 2, large)],
            [("d", input, one, 1, large), ("e", input, other, 1, large)],
            [("d", input, one, 1, large), ("d", output, other, 1, large)],
            // So few that it may be chance, and so many on a single day.
            [("d", input, one, 1, 90_000.0), ("d", input, other, 1, 90_000.0)],
            [("d", input, one, 1, 200_000.0), ("d", input, other, 1, 200_000.0)],
            [("d", input, one, 1, large), ("d", input, other, 1, large + 1.0)],
        ] {
            assert_eq!(found(&harmless), [], "{harmless:?}");
        }
        let days = [1, 2].map(|day| [("d", input, one, day, 200_000.0), ("d", input, other, day, 200_000.0)]).concat();
        assert_eq!(found(&days)[0].days, 2);
    }

    #[test]
    fn a_deployment_with_two_meters_of_throughput_is_found_and_one_that_is_half_reserved_is_not() {
        let (global, zone) = ("Provisioned Managed Global Unit", "Provisioned Managed Data Zone Unit");
        let hours = 100.0 * 24.0;
        assert_eq!(found(&[("d", None, [global, "1", ""], 1, hours), ("d", None, [zone, "2", ""], 1, hours)]).len(), 1);
        for harmless in [
            [("d", None, [global, "1", "OnDemand"], 1, hours), ("d", None, [global, "1", "Reservation"], 1, hours)],
            [("d", None, [global, "1", "OnDemand"], 1, hours), ("d", None, [global, "9", "Reservation"], 1, hours)],
            // Without the deployments' names, these may be two of them.
            [("", None, [global, "1", ""], 1, hours), ("", None, [zone, "2", ""], 1, hours)],
        ] {
            assert_eq!(found(&harmless), [], "{harmless:?}");
        }
    }
}
