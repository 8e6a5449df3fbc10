//! A month of every way to be served: what ledger and bill say of it agrees to the cent.

use std::collections::BTreeMap;
use std::path::Path;

use spillway_plugins::service_tier::ServiceTier;
use spillway_plugins::tokens::{Metered, Usage};

use super::super::reconcile::{BilledAs, Meter, reconcile};
use super::super::report_database::ReportDatabase;
use super::super::rollup::HOUR;
use super::super::row::Row;
use super::{known, place, report, row, writer};
use crate::config::{Config, DeploymentPrice, Secrets};
use crate::ledger::Cost;

/// Sunday, 2026-11-01, 0:00 UTC.
const FIRST: i64 = 1_793_491_200_000;
const HOURS: i64 = 30 * 24;

const CONFIG: &str = "[server]\nlisten = [\"127.0.0.1:0\"]\n
[[backends]]\nname = \"b\"\nkind = \"azure-openai\"\nurl = \"https://contoso.openai.azure.com\"\ndeployments = { m = \"ptu\" }
[backends.prices.ptu]\nusd_per_hour = 7.5
[backends.prices.payg]\ninput = 2.5\ncached_input = 1.25\noutput = 10.0
flex = { input = 1.25, cached_input = 0.625, output = 5.0 }\npriority = { input = 4.375, cached_input = 2.1875, output = 17.5 }
[[pools]]\nname = \"p\"\nmodels = [\"m\"]\nmembers = [{ backend = \"b\" }]\n";

/// What a token of each kind costs, in millionths of a millionth of a dollar: input, cached input, output.
fn prices(tier: Option<ServiceTier>) -> [u64; 3] {
    match tier {
        Some(ServiceTier::Flex) => [1_250_000, 625_000, 5_000_000],
        Some(ServiceTier::Priority) => [4_375_000, 2_187_500, 17_500_000],
        _ => [2_500_000, 1_250_000, 10_000_000],
    }
}

fn billed_as(tier: Option<ServiceTier>) -> BilledAs {
    match tier {
        Some(ServiceTier::Flex) => BilledAs::Flex,
        Some(ServiceTier::Priority) => BilledAs::Priority,
        _ => BilledAs::Default,
    }
}

/// To whole cents.
fn cents(usd: f64) -> i64 {
    (usd * 100.0).round() as i64
}

#[test]
fn a_month_is_right_to_the_cent() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::parse(CONFIG, Path::new("t.toml"), &Secrets::default()).unwrap();
    let backend = &config.backends[0];
    let by_tokens = config.prices.of_deployment(backend, "m", "payg").unwrap();
    let DeploymentPrice::ByUse(price) = &by_tokens else { panic!("{by_tokens:?}") };
    let Some(DeploymentPrice::Hourly(Some(hour))) = config.prices.of(backend, "m") else {
        panic!("the deployment of the model has a price per hour")
    };
    let (ptu, payg, spilled) = (place("ptu", None), place("payg", None), place("payg", Some("ptu")));
    let mut rng = fastrand::Rng::with_seed(20_261_101);
    let mut writer = writer(folder.path());
    // Tokens by the way in which they are billed: input that is not cached, cached input, output.
    let mut tokens: BTreeMap<BilledAs, [u64; 3]> = BTreeMap::new();
    let (mut money, mut spilled_money) = (0u64, 0u64);
    for hour_of_month in 0..HOURS {
        let mut rows: Vec<Row> = Vec::new();
        for call in 0..8 {
            let at = FIRST + hour_of_month * HOUR + call * 60_000;
            let input = rng.u64(1..200_000);
            let usage = Usage { input, cached_input: rng.u64(0..input), output: rng.u64(1..4000), ..Usage::default() };
            let (place, tier) = match call {
                0..3 => (&ptu, None),
                3 => (&payg, None),
                4 => (&spilled, Some(ServiceTier::Default)),
                5 => (&payg, Some(ServiceTier::Flex)),
                6 => (&payg, Some(ServiceTier::Priority)),
                // Priority that was asked for and not given.
                _ => (&payg, Some(ServiceTier::Default)),
            };
            let mut cost = Cost::Hourly(hour);
            if place.deployment.as_ref() == "payg" {
                let priced = price.cost(&usage, tier).unwrap();
                assert!(priced.exact);
                let counts = [usage.input - usage.cached_input, usage.cached_input, usage.output];
                let due: u64 = counts.iter().zip(prices(tier)).map(|(count, price)| count * price).sum();
                assert_eq!(priced.money.0, due);
                money += due;
                spilled_money += if call == 4 { due } else { 0 };
                let sums = tokens.entry(billed_as(tier)).or_default();
                sums.iter_mut().zip(counts).for_each(|(sum, count)| *sum += count);
                cost = known(due);
            }
            let consumer = ["x", "y", "z"][rng.usize(..3)];
            rows.push(Row { place: place.clone(), service_tier: tier, metered: Metered::reported(usage), ..row(at, consumer, 0, 0, cost) });
        }
        writer.write(&rows);
    }
    let mut bill = "Date,ResourceId,MeterName,Quantity,UnitOfMeasure,CostInBillingCurrency,AdditionalInfo\n".to_owned();
    let mut line = |day: &str, meter: &str, quantity: f64, unit: &str, cost: f64, deployment: &str| {
        let resource = "/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/contoso";
        bill += &format!("{day},{resource},{meter},{quantity},{unit},{cost},\"{{\"\"deploymentName\"\":\"\"{deployment}\"\"}}\"\n");
    };
    for (way, counts) in &tokens {
        let (tier, word) = match way {
            BilledAs::Flex => (Some(ServiceTier::Flex), " Flex"),
            BilledAs::Priority => (Some(ServiceTier::Priority), " PP"),
            _ => (None, ""),
        };
        for ((count, price), kind) in counts.iter().zip(prices(tier)).zip(["Inp", "Cd Inp", "opt"]) {
            line("2026-11-01", &format!("5.4{word} {kind} Gl"), *count as f64 / 1e6, "1M", (count * price) as f64 / 1e12, "payg");
        }
    }
    line("2026-11-30", "Provisioned Managed Global Unit", 0.0, "1/Hour", 0.0, "ptu");
    line("2026-11-01", "Provisioned Managed Global Unit", HOURS as f64, "1/Hour", HOURS as f64 * 7.5, "ptu");
    let all = FIRST + HOURS * HOUR;
    for _ in 0..2 {
        let whole = report(folder.path(), FIRST, all, "month");
        assert_eq!(cents(whole[0].paid_usd.unwrap()), cents(money as f64 / 1e12));
        assert_eq!(cents(whole[0].cost_usd.unwrap()), cents(money as f64 / 1e12 + HOURS as f64 * 7.5));
        let consumers: f64 = report(folder.path(), FIRST, all, "consumer").iter().map(|row| row.cost_usd.unwrap()).sum();
        assert_eq!(cents(consumers), cents(whole[0].cost_usd.unwrap()), "what an hour costs is shared out, and nothing is lost");
        let from_ptu = report(folder.path(), FIRST, all, "spilled_from").into_iter().find(|row| row.by["spilled_from"] == "ptu").unwrap();
        assert_eq!((cents(from_ptu.cost_usd.unwrap()), from_ptu.requests), (cents(spilled_money as f64 / 1e12), HOURS));
        let compared = reconcile(&config, bill.as_bytes(), |_, _| Ok(ReportDatabase::of_node(folder.path())?)).unwrap();
        assert_eq!((compared.rows.len(), compared.costs.len()), (9, 4), "{compared:#?}");
        for line in &compared.rows {
            assert_eq!(line.billed_tokens, line.ledger_tokens, "{line:?}");
        }
        for line in &compared.costs {
            assert_eq!(cents(line.billed_cost), cents(line.ledger_cost_usd), "{line:?}");
        }
        assert!(compared.rows.iter().any(|line| (line.billed_as, line.meter) == (BilledAs::Priority, Meter::CachedInput)));
        while writer.keep_house_at(all + 2 * HOUR) {}
    }
}
