//! One short run of each goal, through the code that writes the tables.

use crate::controller::Kind;
use crate::figures::Figures;
use crate::report::{halved, halving, quiet, while_batch_comes};
use crate::scenario::Scenario;
use crate::world::run;

/// The mean of two seeds: a PTU that takes less than the config says, and one that takes more.
fn mean(scenario: &Scenario, kind: Kind, figure: impl Fn(&Figures) -> f64) -> f64 {
    [4, 5].map(|seed| figure(&run(scenario, kind, seed))).iter().sum::<f64>() / 2.0
}

#[test]
fn the_twin_keeps_a_ptu_full_with_few_refusals() {
    let scenario = Scenario::default();
    let twin = |figure: fn(&Figures) -> f64| mean(&scenario, Kind::Twin, figure);
    let (busy, refusals, off) = (twin(|run| run.busy), twin(|run| run.refusals), twin(|run| run.off.0));
    assert!(busy > 0.96, "{busy} busy");
    assert!(refusals < 0.007, "{refusals} refused");
    assert!(off < 4.0, "its utilisation is {off} points off");
    let ideal = mean(&scenario, Kind::Clairvoyant, |run| run.spilled);
    assert!(twin(|run| run.spilled) < 1.1 * ideal);
    assert!(mean(&scenario, Kind::Today, |run| run.refusals) > 0.15);
}

#[test]
fn dear_calls_first_costs_less_than_a_reaction() {
    let scenario = Scenario::default();
    let [today, savings] = [Kind::Today, Kind::Savings].map(|kind| mean(&scenario, kind, |run| run.bill));
    assert!(savings < 0.9 * today, "{savings} of {today}");
}

#[test]
fn a_capacity_that_changes_is_followed() {
    let run = run(&halving(), Kind::Twin, 4);
    let [refusals, busy, minutes, later] = halved(&run);
    assert!(refusals < 0.03 && busy > 0.8, "{refusals} refused, {busy} busy after the loss");
    assert!(minutes <= 15.0 && later > 0.85, "{minutes} minutes, {later} busy after the return");
}

#[test]
fn batch_calls_fill_the_valley_and_keep_their_deadlines() {
    let scenario = Scenario { batch: 0.24, ..quiet() };
    let twin = |figure: fn(&Figures) -> f64| mean(&scenario, Kind::Twin, figure);
    let (busy, paid) = (twin(while_batch_comes), twin(|run| run.batch.paid / run.batch.price));
    assert!(busy > 0.88 && paid < 0.13, "{busy} busy, {paid} paid");
    assert_eq!(twin(|run| f64::from(run.missed)), 0.0);
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let scenario = Scenario { minutes: 10, ..Scenario::default() };
    let figures = || format!("{:?}", run(&scenario, Kind::Twin, 3));
    assert_eq!(figures(), figures());
}

#[test]
fn tables_are_written_between_their_markers() {
    let page = std::env::temp_dir().join(format!("steering-{}.md", std::process::id()));
    let path = page.to_str().unwrap();
    std::fs::write(path, "before\n<!-- steering: begin -->\nold\n<!-- steering: end -->\nafter\n").unwrap();
    crate::report::write(path, "new").unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, "no markers").unwrap();
    let error = crate::report::write(path, "new");
    std::fs::remove_file(path).unwrap();
    assert_eq!(text, "before\n<!-- steering: begin -->\n\nnew\n<!-- steering: end -->\nafter\n");
    assert!(error.is_err());
}
