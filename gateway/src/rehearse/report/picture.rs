//! The picture of a fault: a cell for each request, in the order in which they were sent.

use std::fmt::Write as _;

use super::words;
use crate::html::escaped;
use crate::rehearse::outcome::{FaultOutcome, RequestOutcome, Served};

/// What a cell looks like, and what that means, in the order of the legend.
pub(super) const LOOKS: [(&str, &str); 5] = [
    ("t1", "the first tier"),
    ("t2", "the second tier"),
    ("t3", "a lower tier"),
    ("own", "the last resort"),
    ("bad", "an error, or an answer that broke off"),
];

/// Cells in a row.
const ROW: usize = 24;
/// Most cells; of more requests, each cell stands for several.
const MOST: usize = 96;
/// The size of a cell with its gap, and the gap.
const CELL: usize = 10;
const GAP: usize = 2;

/// A cell of the legend.
pub(super) fn sample(class: &str) -> String {
    format!("<svg viewBox=\"0 0 8 8\" aria-hidden=\"true\">{}</svg>", cell(class, 0, 0))
}

/// The cells of a fault. Words say the same beside it.
pub(super) fn cells(outcome: &FaultOutcome, tiers: &[u32]) -> String {
    let step = outcome.requests.len().div_ceil(MOST).max(1);
    let shown: Vec<&RequestOutcome> = outcome.requests.chunks(step).filter_map(worst).collect();
    let rows = shown.len().div_ceil(ROW).max(1);
    let good: u64 = outcome.pools.iter().map(|sums| sums.good).sum();
    let label = format!("{good} of {} requests were answered well", outcome.requests.len());
    let mut svg = format!("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{label}\">", ROW * CELL, rows * CELL);
    for (at, request) in shown.iter().enumerate() {
        let title = format!("{}, after {}: {} {}", request.model, words::time(request.at), request.status, words::served(&request.served));
        let one = cell(look(request, tiers), (at % ROW) * CELL, (at / ROW) * CELL);
        let _ = write!(svg, "<g><title>{}</title>{one}</g>", escaped(&title));
    }
    svg + "</svg>"
}

/// An error has a cross in it, so that it needs no colour to be seen.
fn cell(class: &str, x: usize, y: usize) -> String {
    let size = CELL - GAP;
    let square = format!("<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{size}\" height=\"{size}\" rx=\"1\"/>");
    let (right, bottom) = (x + size - 2, y + size - 2);
    let (left, top) = (x + 2, y + 2);
    match class {
        "bad" => format!(
            "{square}<path d=\"M{left} {top}L{right} {bottom}M{right} {top}L{left} {bottom}\" stroke=\"var(--paper)\" stroke-width=\"1.4\"/>"
        ),
        _ => square,
    }
}

/// Of several requests, one that went wrong, if there is one.
fn worst(requests: &[RequestOutcome]) -> Option<&RequestOutcome> {
    requests.iter().find(|request| !request.is_good()).or(requests.first())
}

fn look(request: &RequestOutcome, tiers: &[u32]) -> &'static str {
    match &request.served {
        Served::LastResort => "own",
        Served::Member { tier, .. } if request.is_good() => match tiers.iter().position(|known| known == tier) {
            Some(0) => "t1",
            Some(1) => "t2",
            _ => "t3",
        },
        _ => "bad",
    }
}
