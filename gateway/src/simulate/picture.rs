//! Outcomes as a page with charts: the share of each tier, how busy PTUs are, and costs, by hour. One file, without
//! scripts.

use std::fmt::Write as _;

use super::outcome::{HourFigures, Outcome};
use super::replay::Traffic;
use crate::html::escaped;

/// The size of a chart, in its own units.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 180.0;
/// Most bars; of longer times several hours are one bar.
const BARS: usize = 240;
/// Colours that there are for tiers; further ones look like the last.
const TIERS: usize = 4;

const STYLE: &str = "
:root { color-scheme: light dark; --ink: #1f2328; --soft: #636c76; --line: #d1d9e0; --page: #ffffff;
  --t0: #1f6feb; --t1: #d4731a; --t2: #1a8a6a; --t3: #8250df; --other: #8c959f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9198a1; --line: #3d444d; --page: #0d1117;
  --t0: #4f93f7; --t1: #e38b3c; --t2: #35b08a; --t3: #a37bf0; --other: #6e7681; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--page); max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.15rem; margin-top: 2.5rem; } h3 { font-size: 1rem; margin-bottom: .2rem; }
p { color: var(--soft); margin: .2rem 0; } svg { width: 100%; height: auto; display: block; } text { fill: var(--soft); font-size: 11px; }
.axis { stroke: var(--line); } .t0 { fill: var(--t0); } .t1 { fill: var(--t1); } .t2 { fill: var(--t2); } .t3 { fill: var(--t3); }
.other { fill: var(--other); } .key { display: inline-block; width: .8em; height: .8em; margin: 0 .35em 0 1em; border-radius: 2px; }
.key.t0 { background: var(--t0); } .key.t1 { background: var(--t1); } .key.t2 { background: var(--t2); } .key.t3 { background: var(--t3); }
.key.other { background: var(--other); }
";

/// The class of a part's colour, and its value.
type Part = (String, f64);

/// Several hours in one bar.
struct Bar {
    from: String,
    /// From below.
    parts: Vec<Part>,
    says: String,
}

/// The page.
pub fn page(traffic: &Traffic, outcomes: &[Outcome]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Simulated traffic</title>\n<style>{STYLE}</style>\n<h1>Simulated traffic</h1>\n<p>{} requests from {} to {}</p>\n",
        traffic.requests, traffic.from, traffic.to
    );
    for outcome in outcomes {
        let _ = writeln!(page, "<h2>{}</h2>", escaped(&outcome.name));
        page += &summary(outcome);
        page += &charts(outcome);
    }
    page + "</html>\n"
}

fn summary(outcome: &Outcome) -> String {
    let total = &outcome.total;
    let busy = total.ptu_utilisation.map_or_else(String::new, |share| format!("PTUs {:.1} % busy, ", share * 100.0));
    let mut text = format!(
        "<p>{} requests, {} spilled, {busy}{} 429s. Cost ${:.2}; by pay-as-you-go alone ${:.2}.</p>\n",
        total.requests,
        total.spilled_requests,
        total.ptu_429s + total.other_429s,
        total.cost_usd(),
        total.pay_as_you_go_usd
    );
    for note in &outcome.notes {
        let _ = writeln!(text, "<p>{}</p>", escaped(note));
    }
    text
}

fn charts(outcome: &Outcome) -> String {
    let mut tiers: Vec<u32> = outcome.hours.iter().flat_map(|hour| hour.figures.tiers.iter().map(|tier| tier.tier)).collect();
    tiers.sort_unstable();
    tiers.dedup();
    let colour = |tier: u32| format!("t{}", tiers.iter().position(|known| *known == tier).unwrap_or(0).min(TIERS - 1));
    let size = outcome.hours.len().div_ceil(BARS).max(1);
    let bars = |parts: &dyn Fn(&[HourFigures]) -> Vec<Part>, says: &dyn Fn(&[Part]) -> String| -> Vec<Bar> {
        let one = |hours: &[HourFigures]| {
            let parts = parts(hours);
            let from = hours.first().map_or_else(String::new, |hour| hour.hour.clone());
            Bar { says: says(&parts), from, parts }
        };
        outcome.hours.chunks(size).map(one).collect()
    };
    let sum = |hours: &[HourFigures], of: &dyn Fn(&HourFigures) -> f64| hours.iter().map(of).sum::<f64>();
    let of_tier = |hour: &HourFigures, tier: u32, cost: bool| {
        let found = hour.figures.tiers.iter().find(|known| known.tier == tier);
        found.map_or(0.0, |found| if cost { found.cost_usd } else { found.requests as f64 })
    };
    let share = bars(
        &|hours| {
            let all = sum(hours, &|hour| hour.figures.tiers.iter().map(|tier| tier.requests as f64).sum()).max(1.0);
            tiers.iter().map(|tier| (colour(*tier), sum(hours, &|hour| of_tier(hour, *tier, false)) / all * 100.0)).collect()
        },
        &|parts| parts.iter().map(|(_, share)| format!("{share:.1} %")).collect::<Vec<_>>().join(", "),
    );
    let busy = bars(
        &|hours| vec![("t0".to_owned(), sum(hours, &|hour| hour.figures.ptu_utilisation.unwrap_or(0.0)) / hours.len() as f64 * 100.0)],
        &|parts| format!("{:.1} %", parts[0].1),
    );
    let cost =
        bars(&|hours| tiers.iter().map(|tier| (colour(*tier), sum(hours, &|hour| of_tier(hour, *tier, true)))).collect(), &|parts| {
            parts.iter().map(|(_, usd)| format!("${usd:.2}")).collect::<Vec<_>>().join(", ")
        });
    let keys: String =
        tiers.iter().map(|tier| format!("<span class=\"key {}\"></span>tier {tier}", colour(*tier))).collect::<Vec<_>>().concat();
    let unit = if size == 1 { "hour".to_owned() } else { format!("{size} hours") };
    let mut text = format!("<h3>Share of requests by tier, %</h3>\n<p>{keys}</p>\n{}", chart(&share, Some(100.0)));
    if outcome.total.ptu_utilisation.is_some() {
        text += &format!("<h3>PTU utilisation, %</h3>\n{}", chart(&busy, Some(100.0)));
    }
    text + &format!("<h3>Cost by tier, USD per {unit}</h3>\n<p>{keys}</p>\n{}", chart(&cost, None))
}

/// Bars beside each other. `most`: what the whole height stands for, if that is fixed; higher bars still fit.
fn chart(bars: &[Bar], most: Option<f64>) -> String {
    let height = |bar: &Bar| bar.parts.iter().map(|(_, value)| value.max(0.0)).sum::<f64>();
    let highest = bars.iter().map(height).fold(most.unwrap_or(0.0), f64::max).max(1e-9);
    let (left, bottom) = (44.0, 20.0);
    let (width, tall) = ((WIDTH - left) / bars.len().max(1) as f64, HEIGHT - bottom - 8.0);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n");
    for share in [0.0, 0.5, 1.0] {
        let y = 8.0 + tall * (1.0 - share);
        let label = if highest >= 10.0 { format!("{:.0}", highest * share) } else { format!("{:.2}", highest * share) };
        let _ = writeln!(svg, "<line class=\"axis\" x1=\"{left}\" x2=\"{WIDTH}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>");
        let _ = writeln!(svg, "<text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>", left - 6.0, y + 4.0);
    }
    for (index, bar) in bars.iter().enumerate() {
        let x = left + width * index as f64;
        let _ = write!(svg, "<g><title>{}: {}</title>", escaped(&bar.from), escaped(&bar.says));
        let mut below = 0.0;
        for (colour, value) in &bar.parts {
            let part = value.max(0.0) / highest * tall;
            let y = 8.0 + tall - below - part;
            let _ = write!(
                svg,
                "<rect class=\"{colour}\" x=\"{x:.2}\" y=\"{y:.2}\" width=\"{:.2}\" height=\"{part:.2}\"/>",
                (width * 0.9).max(0.5)
            );
            below += part;
        }
        svg += "</g>\n";
    }
    for index in [0, bars.len() / 2] {
        if let Some(bar) = bars.get(index) {
            let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{HEIGHT}\">{}</text>", left + width * index as f64, escaped(&bar.from));
        }
    }
    svg + "</svg>\n"
}
