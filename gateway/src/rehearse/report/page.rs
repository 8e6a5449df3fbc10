//! A rehearsal as a page: one file without scripts, in the style of the status page.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::picture::{LOOKS, cells, sample};
use super::words;
use crate::html::escaped;
use crate::rehearse::finding::{Finding, Severity};
use crate::rehearse::outcome::{FaultOutcome, PoolSums, Rehearsal};

const STYLE: &str = include_str!("style.css");

/// The page.
pub fn page(rehearsal: &Rehearsal) -> String {
    let name = escaped(&rehearsal.config);
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Rehearsal of {name}</title>\n<style>\n{STYLE}</style>\n\
         <header><p><span class=\"brand\">Spillway</span> <span>rehearsal of <code>{name}</code></span></p></header>\n\
         <main>\n<h1>{}</h1>\n",
        escaped(&verdict(rehearsal))
    );
    page += &findings(&rehearsal.findings);
    page += &faults(rehearsal);
    page += "<h2>What does not apply</h2>\n<ul class=\"plain\">\n";
    for not in &rehearsal.not_applicable {
        let _ = writeln!(page, "<li>{}: {}</li>", not.kind.label(), escaped(&not.reason));
    }
    page += "</ul>\n<h2>What was replaced</h2>\n<ul class=\"plain\">\n";
    for replaced in &rehearsal.replaced {
        let _ = writeln!(page, "<li>{}</li>", escaped(replaced));
    }
    page + "</ul>\n</main>\n</html>\n"
}

/// The result in a sentence.
fn verdict(rehearsal: &Rehearsal) -> String {
    let all = rehearsal.faults.len();
    let unseen = rehearsal.faults.iter().filter(|outcome| outcome.pools.iter().all(|sums| sums.good == sums.requests)).count();
    let count = |severity: Severity| rehearsal.findings.iter().filter(|finding| finding.severity == severity).count();
    let counted = |count: usize, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    format!(
        "Of {all} faults, callers notice {}. {}, {} and {}.",
        all - unseen,
        counted(count(Severity::Error), "error"),
        counted(count(Severity::Warning), "warning"),
        counted(count(Severity::Note), "note")
    )
}

fn findings(findings: &[Finding]) -> String {
    let mut text = "<h2>Findings</h2>\n".to_owned();
    if findings.is_empty() {
        return text + "<p class=\"quiet\">None.</p>\n";
    }
    text += "<ol class=\"findings\">\n";
    for finding in findings {
        let severity = finding.severity.label();
        let line = finding.place.line.map_or(String::new(), |line| format!("line {line}, "));
        let _ = writeln!(
            text,
            "<li><span class=\"severity\" data-severity=\"{severity}\">{severity}</span><div><p>{}</p><p class=\"quiet\">{line}<code>{}</code>: {}</p></div></li>",
            escaped(&format!("{} [{}]", finding.text, finding.code)),
            escaped(&finding.place.key),
            escaped(&finding.remedy)
        );
    }
    text + "</ol>\n"
}

fn faults(rehearsal: &Rehearsal) -> String {
    let all = || std::iter::once(&rehearsal.baseline).chain(&rehearsal.faults);
    let tiers: BTreeSet<u32> = all().flat_map(|outcome| &outcome.requests).flat_map(|request| request.served.tier()).collect();
    let tiers: Vec<u32> = tiers.into_iter().collect();
    let mut text = "<h2>Faults</h2>\n<ul class=\"key\">\n".to_owned();
    for (class, meaning) in LOOKS {
        let _ = writeln!(text, "<li>{} {meaning}</li>", sample(class));
    }
    text += "</ul>\n<div class=\"scroll\" role=\"region\" aria-label=\"Faults\" tabindex=\"0\"><table>\n<thead><tr><th scope=\"col\">Fault</th>\
             <th scope=\"col\">Requests in order of time</th><th scope=\"col\">Served by</th><th scope=\"col\">Callers saw</th>\
             <th scope=\"col\" class=\"number\">Attempts</th><th scope=\"col\" class=\"number\">Added wait</th><th scope=\"col\" class=\"number\">Cost</th>\
             <th scope=\"col\">Alerts</th></tr></thead>\n<tbody>\n";
    for outcome in all() {
        text += &row(outcome, &tiers);
    }
    text + "</tbody></table></div>\n"
}

fn row(outcome: &FaultOutcome, tiers: &[u32]) -> String {
    let each = |of: &dyn Fn(&PoolSums) -> String| outcome.pools.iter().map(of).collect::<Vec<_>>().join("<br>");
    let pool = |sums: &PoolSums| if outcome.pools.len() > 1 { format!("{}: ", escaped(&sums.pool)) } else { String::new() };
    let served =
        |sums: &PoolSums| pool(sums) + &words::served_lines(sums).iter().map(|line| escaped(line)).collect::<Vec<_>>().join("<br>");
    let seen = |sums: &PoolSums| {
        let broken = if sums.broken > 0 { format!(", {} broke off", sums.broken) } else { String::new() };
        format!("{}{}{broken}", pool(sums), words::statuses(sums))
    };
    let limits = outcome.limits.iter().map(|limit| {
        format!("<span class=\"more\">{}: {} of {}, {}</span>", escaped(&limit.limit), limit.used, limit.allowed, limit.says())
    });
    let notes = outcome.notes.iter().map(|note| format!("<span class=\"more\">{}</span>", escaped(note)));
    let more: String = limits.chain(notes).collect();
    let line = outcome.fault.place.line.map_or(String::new(), |line| format!(", line {line}"));
    let alerts = words::alerts(outcome).iter().map(|alert| escaped(alert)).collect::<Vec<_>>().join("<br>");
    format!(
        "<tr><th scope=\"row\">{}<span>{}{line}</span></th><td>{}</td><td data-label=\"Served by\">{}</td><td data-label=\"Callers saw\">{}{more}</td>\
         <td class=\"number\" data-label=\"Attempts\">{}</td><td class=\"number\" data-label=\"Added wait\">{}</td>\
         <td class=\"number\" data-label=\"Cost\">{}</td><td data-label=\"Alerts\">{}</td></tr>\n",
        escaped(&outcome.fault.name()),
        escaped(outcome.fault.kind.says()),
        cells(outcome, tiers),
        each(&served),
        each(&seen),
        each(&|sums| sums.attempts.to_string()),
        each(&|sums| words::time(sums.added_most)),
        each(&|sums| escaped(&words::cost(sums))),
        if alerts.is_empty() { "<span class=\"quiet\">none</span>".to_owned() } else { alerts }
    )
}
