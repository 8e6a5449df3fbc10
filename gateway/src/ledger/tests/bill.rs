//! A bill that is generated with a known truth: what a comparison says of it is right, and what is planted in it is found.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use spillway_plugins::service_tier::ServiceTier;
use spillway_plugins::tokens::{Metered, Usage};

use super::super::reconcile::{BilledAs, Meter, Reconciliation, reconcile};
use super::super::report_database::ReportDatabase;
use super::super::row::Row;
use super::{known, place, row, writer};
use crate::config::{Config, Secrets};
use crate::ledger::MemberLabels;

/// Sunday, 2026-11-01, 0:00 UTC.
const FIRST: i64 = 1_793_491_200_000;
const DAY: i64 = 86_400_000;
const DAYS: i64 = 30;
const ACCOUNTS: usize = 3;
const DEPLOYMENTS: usize = 12;
const WAYS: [(BilledAs, Option<ServiceTier>, &str); 4] = [
    (BilledAs::Default, Some(ServiceTier::Default), "Std"),
    (BilledAs::Flex, Some(ServiceTier::Flex), "Flex"),
    (BilledAs::Priority, Some(ServiceTier::Priority), "PP"),
    (BilledAs::Batch, Some(ServiceTier::Batch), "Batch"),
];
const METERS: [(Meter, &str); 4] =
    [(Meter::Input, "Inp"), (Meter::CachedInput, "Cd Inp"), (Meter::CacheWrite, "Cd Wr"), (Meter::Output, "opt")];
/// In picodollars a token: of each meter in the default tier.
const PRICES: [u64; 4] = [4_000_000, 400_000, 5_000_000, 20_000_000];

/// The ledger lacks a twentieth of this deployment's flex tokens.
const LACKING: (usize, usize, usize) = (1, 3, 1);
/// Of this one, Azure bills the default tier's output under a second meter, too.
const TWICE: (usize, usize) = (2, 5);

fn config() -> Config {
    let mut text = "[server]\nlisten = [\"127.0.0.1:0\"]\n".to_owned();
    for account in 0..ACCOUNTS {
        text += &format!(
            "[[backends]]\nname = \"b{account}\"\nkind = \"azure-openai\"\nurl = \"https://account{account}.openai.azure.com\"\n\
             deployments = {{ m = \"d0\" }}\n"
        );
    }
    text += "[[pools]]\nname = \"p\"\nmodels = [\"m\"]\nmembers = [{ backend = \"b0\" }, { backend = \"b1\" }, { backend = \"b2\" }]\n";
    Config::parse(&text, Path::new("t.toml"), &Secrets::default()).unwrap()
}

/// Account, deployment, way, meter, day.
type Key = (usize, usize, usize, usize, i64);

/// The lines of an export, made as they are read.
struct Export {
    rng: fastrand::Rng,
    left: u64,
    /// Text that was made and not read yet.
    text: Vec<u8>,
    at: usize,
    /// Tokens, by what they are billed as.
    truth: BTreeMap<Key, u64>,
    /// Lines at the end.
    tail: Vec<String>,
    seals: bool,
}

const HEAD: &str = "SubscriptionId,ResourceGroup,Date,ProductName,MeterCategory,MeterName,MeterId,UnitOfMeasure,Quantity,\
                    CostInBillingCurrency,ResourceId,Tags,AdditionalInfo,ChargeType,PricingModel\n";

impl Export {
    fn new(lines: u64, seed: u64) -> Self {
        let text = HEAD.as_bytes().to_vec();
        Export { rng: fastrand::Rng::with_seed(seed), left: lines, text, at: 0, truth: BTreeMap::new(), tail: Vec::new(), seals: true }
    }

    fn line(&mut self) -> String {
        let rng = &mut self.rng;
        if rng.u8(..16) == 0 {
            // Something else of the subscription.
            let name = rng.u32(..);
            return format!(
                "s,g,11/05/2026,Virtual Machines,Virtual Machines,D2 v3,m-{name},1 Hour,{},0.1,/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/virtualMachines/vm{name},,,Usage,OnDemand\n",
                rng.u8(1..24)
            );
        }
        let key: Key = (rng.usize(..ACCOUNTS), rng.usize(..DEPLOYMENTS), rng.usize(..4), rng.usize(..4), rng.i64(0..DAYS));
        let tokens = rng.u64(1..5_000_000);
        *self.truth.entry(key).or_default() += tokens;
        let (in_millions, in_tags) = (rng.bool(), rng.bool());
        line_of(key, WAYS[key.2].2, tokens, in_millions, in_tags)
    }

    /// What comes after the random lines.
    fn seal(&mut self) -> Vec<String> {
        let resource = resource(0);
        let throughput = "Azure AI Foundry Provisioned Throughput Reservation";
        let mut tail = vec![
            format!(
                "s,g,2026-11-02,Azure OpenAI,Foundry Models,Provisioned Managed Global Unit,p1,1/Hour,2400,2400.0,{resource},,\"{{\"\"deploymentName\"\":\"\"ptu\"\"}}\",Usage,OnDemand\n"
            ),
            format!(
                "s,g,2026-11-02,Azure OpenAI,Foundry Models,Provisioned Managed Global Unit,p1,1/Hour,2400,0,{resource},,\"{{\"\"deploymentName\"\":\"\"ptu\"\"}}\",Usage,Reservation\n"
            ),
            format!(
                "s,,2026-11-01,{throughput},Foundry Models,Provisioned Managed Global Unit,p1,1/Hour,100,26000.0,,,,Purchase,Reservation\n"
            ),
            format!(
                "s,,2026-11-03,{throughput},Foundry Models,Provisioned Managed Global Unit,p1,1/Hour,240,86.5,,,,UnusedReservation,Reservation\n"
            ),
            format!("s,g,2026-11-02,Azure OpenAI,Foundry Models,gpt image 2 Img Gl,i1,1M,3.5,7.25,{resource},,,Usage,OnDemand\n"),
        ];
        let twice: Vec<(Key, u64)> = self
            .truth
            .iter()
            .filter(|(key, _)| (key.0, key.1, key.2, key.3) == (TWICE.0, TWICE.1, 0, 3))
            .map(|(key, tokens)| (*key, *tokens))
            .collect();
        tail.extend(twice.iter().map(|(key, tokens)| line_of(*key, "ShCo Std", *tokens, true, false)));
        tail.reverse();
        tail
    }
}

fn resource(account: usize) -> String {
    format!("/subscriptions/s/resourceGroups/g/providers/Microsoft.CognitiveServices/accounts/account{account}")
}

fn line_of((account, deployment, way, meter, day): Key, words: &str, tokens: u64, in_millions: bool, in_tags: bool) -> String {
    let date = chrono::DateTime::from_timestamp_millis(FIRST + day * DAY).unwrap().format("%m/%d/%Y");
    let (unit, quantity) = if in_millions { ("1M", tokens as f64 / 1e6) } else { ("1K", tokens as f64 / 1e3) };
    let name = format!("\"\"deploymentName\"\": \"\"d{deployment}\"\"");
    let (tags, further) = if in_tags { (format!("\"{name}\""), String::new()) } else { (String::new(), format!("\"{{{name}}}\"")) };
    let cost = (tokens * price(way, meter)) as f64 / 1e12;
    format!(
        "s,g,{date},Azure OpenAI GPT5,Foundry Models,5.6 sol {} {words} Gl,id-{way}-{meter}-{words},{unit},{quantity},{cost},{},{tags},{further},Usage,OnDemand\n",
        METERS[meter].1,
        resource(account)
    )
}

fn price(way: usize, meter: usize) -> u64 {
    match WAYS[way].0 {
        BilledAs::Flex | BilledAs::Batch => PRICES[meter] / 2,
        BilledAs::Priority => PRICES[meter] * 2,
        _ => PRICES[meter],
    }
}

impl Read for Export {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        if self.at == self.text.len() {
            if self.left == 0 && self.seals {
                (self.tail, self.seals) = (self.seal(), false);
            }
            let next = if self.left > 0 { Some(self.line()) } else { self.tail.pop() };
            self.left = self.left.saturating_sub(1);
            let Some(line) = next else { return Ok(0) };
            (self.text, self.at) = (line.into_bytes(), 0);
        }
        let count = into.len().min(self.text.len() - self.at);
        into[..count].copy_from_slice(&self.text[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

/// Writes what was really used to a ledger: all of what Azure bills once, without what is planted as lacking.
fn write_ledger(folder: &Path, truth: &BTreeMap<Key, u64>) {
    let mut writer = writer(folder);
    let mut rows: BTreeMap<(usize, usize, usize, i64), [u64; 4]> = BTreeMap::new();
    for ((account, deployment, way, meter, day), tokens) in truth {
        let lacks = (*account, *deployment, *way) == LACKING;
        rows.entry((*account, *deployment, *way, *day)).or_default()[*meter] += if lacks { tokens * 19 / 20 } else { *tokens };
    }
    let rows: Vec<Row> = rows
        .iter()
        .map(|((account, deployment, way, day), counts)| {
            let [input, cached_input, cache_write, output] = *counts;
            let usage = Usage { input: input + cached_input + cache_write, cached_input, cache_write, output, ..Usage::default() };
            let cost = counts.iter().enumerate().map(|(meter, count)| count * price(*way, meter)).sum();
            let labels =
                MemberLabels { backend: format!("b{account}").as_str().into(), ..(*place(&format!("d{deployment}"), None)).clone() };
            Row {
                place: labels.into(),
                service_tier: WAYS[*way].1,
                metered: Metered::reported(usage),
                ..row(FIRST + day * DAY + 5, "x", 0, 0, known(cost))
            }
        })
        .collect();
    writer.write(&rows);
}

/// Compares an export of so many lines; the ledger is written when the export was read.
fn compared(lines: u64) -> (Reconciliation, BTreeMap<Key, u64>) {
    let folder = tempfile::tempdir().unwrap();
    let mut truth = Export::new(lines, 7);
    std::io::copy(&mut truth, &mut std::io::sink()).unwrap();
    write_ledger(folder.path(), &truth.truth);
    let compared = reconcile(&config(), Export::new(lines, 7), |_, _| Ok(ReportDatabase::of_node(folder.path())?)).unwrap();
    (compared, truth.truth)
}

fn check(lines: u64) {
    let (compared, truth) = compared(lines);
    let mut sums: BTreeMap<(usize, usize, usize, usize), u64> = BTreeMap::new();
    for ((account, deployment, way, meter, _), tokens) in &truth {
        *sums.entry((*account, *deployment, *way, *meter)).or_default() += tokens;
    }
    assert_eq!(compared.rows.len(), sums.len());
    for ((account, deployment, way, meter), tokens) in &sums {
        let line = compared.rows.iter().find(|line| {
            (line.backend.as_str(), line.deployment.as_deref(), line.billed_as, line.meter)
                == (&format!("b{account}"), Some(&format!("d{deployment}")), WAYS[*way].0, METERS[*meter].0)
        });
        let line = line.unwrap();
        let is_twice = (*account, *deployment, *way, *meter) == (TWICE.0, TWICE.1, 0, 3);
        let billed = if is_twice { tokens * 2 } else { *tokens };
        assert!((line.billed_tokens - i64::try_from(billed).unwrap()).abs() <= 1, "{line:?} {billed}");
        let due = (billed * price(*way, *meter)) as f64 / 1e12;
        assert!((line.billed_cost - due).abs() <= due * 1e-9, "{line:?} {due}");
        let lacks = (*account, *deployment, *way) == LACKING;
        let percent = if is_twice {
            -50.0
        } else if lacks {
            -5.0
        } else {
            0.0
        };
        assert!((line.percent().unwrap() - percent).abs() < 0.001, "{line:?}: {percent} % expected");
    }
    for line in compared.costs.iter().filter(|line| line.billed_as != BilledAs::Provisioned) {
        let is = |(account, deployment): (usize, usize)| {
            (line.backend.as_str(), line.deployment.as_deref()) == (&format!("b{account}"), Some(&format!("d{deployment}")))
        };
        let planted =
            (is(TWICE) && line.billed_as == BilledAs::Default) || (is((LACKING.0, LACKING.1)) && line.billed_as == BilledAs::Flex);
        let off = (line.ledger_cost_usd - line.billed_cost).abs() / line.billed_cost;
        assert!(planted == (off > 0.001), "{line:?}");
    }
    assert_eq!(compared.billed_twice.len(), 1, "{:#?}", compared.billed_twice);
    let twice = &compared.billed_twice[0];
    assert_eq!((twice.backend.as_str(), twice.deployment.as_deref()), ("b2", Some("d5")));
    assert!(twice.meters.iter().all(|meter| meter.contains("opt")) && (twice.costs[0] - twice.costs[1]).abs() < 1e-6, "{twice:?}");
    let hours = &compared.provisioned[0];
    assert_eq!((hours.deployment.as_deref(), hours.unit_hours.hourly, hours.unit_hours.reserved), (Some("ptu"), 2400.0, 2400.0));
    let reservations: Vec<(&str, f64)> = compared.reservations.iter().map(|line| (line.charge.as_str(), line.billed_cost)).collect();
    assert_eq!(reservations, [("Purchase", 26_000.0), ("UnusedReservation", 86.5)]);
    assert_eq!(compared.skipped.iter().map(|line| (line.meter.as_str(), line.lines)).collect::<Vec<_>>(), [("gpt image 2 Img Gl", 1)]);
}

#[test]
fn every_meter_of_a_generated_bill_is_right_and_what_is_planted_in_it_is_found() {
    check(20_000);
}

/// Peak memory of this process so far, in KiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// `make reconcile-million`. Alone in its process: it measures how much memory that takes.
#[test]
#[ignore = "takes a minute"]
fn a_million_lines_are_right_in_little_memory() {
    check(20_000);
    let small = peak();
    check(1_000_000);
    let grown = peak() - small;
    assert!(grown < 16 * 1024, "peak memory grew by {grown} KiB from 20,000 lines to 1,000,000");
}

#[test]
fn columns_of_other_agreements_and_lines_that_are_broken_are_told() {
    let read = |text: &str| {
        let folder = tempfile::tempdir().unwrap();
        reconcile(&config(), text.as_bytes(), |_, _| Ok(ReportDatabase::of_node(folder.path())?)).map_err(|error| error.to_string())
    };
    let line = |quantity: &str, unit: &str, date: &str| format!("{date},{},gpt 4.1 Inp glbl Tokens,{quantity},{unit},1.5\n", resource(1));
    let ordinary = "date,resourceId,meterName,quantity,unitOfMeasure,costInBillingCurrency\n".to_owned();
    let found = read(&(ordinary.clone() + &line("2", "1K", "2026-11-01"))).unwrap();
    assert_eq!((found.rows[0].billed_tokens, found.rows[0].deployment.as_deref(), found.currency), (2000, None, None));
    let in_euros = ordinary.trim_end().to_owned() + ",billingCurrency\n";
    let euros = |currency: &str| line("1", "1K", "2026-11-01").trim_end().to_owned() + &format!(",{currency}\n");
    assert_eq!(read(&(in_euros.clone() + &euros("EUR"))).unwrap().currency.as_deref(), Some("EUR"));
    let both = read(&(in_euros.replace("meterName", "costInUsd,meterName") + &euros("EUR").replace("gpt 4.1", "1.7,gpt 4.1"))).unwrap();
    assert_eq!((both.currency.as_deref(), both.costs[0].billed_cost), (Some("USD"), 1.7), "the ledger's currency, if it is there");
    for (text, expected) in [
        (ordinary.clone() + &line("x", "1K", "2026-11-01"), "line 2 of the export: 'x' is not a number"),
        (ordinary.clone() + &line("NaN", "1K", "2026-11-01"), "'NaN' is not a number"),
        (ordinary.clone() + &line("1", "1 Hour", "2026-11-01"), "unknown unit '1 Hour'"),
        (ordinary.clone() + &line("1", "1K", "soon"), "'soon' is not a date"),
        (
            ordinary.clone() + &line("1", "1K", "2026-11-01") + "2026-11-02,/subscr",
            "line 3 of the export: it has 2 fields and the head has 6",
        ),
        (in_euros.clone() + &euros("EUR") + &euros("USD"), "line 3 of the export: its cost is in USD, those before in EUR"),
        (ordinary.replace("meterName", "m"), "no column for the meter's name; one of: MeterName, Meter"),
        (ordinary, "no line about one of the config's Azure backends"),
    ] {
        let error = read(&text).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
