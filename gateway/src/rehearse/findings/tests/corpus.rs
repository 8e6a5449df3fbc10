//! Configs with one planted mistake each, and good ones.

use std::path::Path;

use spillway_testkit::shipped_configs::{self, root};

use crate::config::{Config, Secrets};
use crate::import::{Source, import};
use crate::rehearse::finding::{Finding, Severity};
use crate::rehearse::findings::of_config;
use crate::rehearse::place::Lines;

/// Mistakes that the config alone doesn't show: `tests/it/rehearse_corpus.rs` finds them by a run.
const BY_A_RUN: [&str; 2] = ["14-budget.toml", "18-quota-refuse.toml"];

/// The findings of a file's text.
fn findings(name: &str, text: &str) -> Vec<Finding> {
    let config = Config::parse(text, Path::new(name), &Secrets::stand_ins()).unwrap_or_else(|error| panic!("{error}"));
    of_config(&config, &Lines::new(text))
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The kind and the line of a config's planted mistake.
fn planted(text: &str) -> (usize, &str) {
    let mut marks = text.lines().enumerate().filter_map(|(at, line)| Some((at + 1, line.split_once("# planted: ")?.1.trim())));
    let mark = marks.next().expect("a mark");
    assert_eq!(marks.next(), None, "one mistake in each");
    mark
}

fn alarms(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.severity > Severity::Note).collect()
}

#[test]
fn planted_mistakes_are_found_at_their_lines() {
    let folder = root().join("gateway/tests/fixtures/rehearse/planted");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert_eq!(files.len(), 20);
    let (mut missed, mut wrong) = (Vec::new(), Vec::new());
    for file in &files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let text = read(file);
        let (line, kind) = planted(&text);
        let found = findings(&name, &text);
        if !alarms(&found).iter().any(|finding| finding.code == kind && finding.place.line == Some(line)) {
            missed.push(name.clone());
        }
        // One mistake can hurt in several places.
        wrong.extend(alarms(&found).into_iter().filter(|finding| finding.code != kind).map(|finding| (name.clone(), finding.clone())));
    }
    assert!(wrong.is_empty(), "one mistake in each: {wrong:#?}");
    assert_eq!(missed, BY_A_RUN, "only a run shows these");
}

#[test]
fn good_configs_cause_no_alarm() {
    let good = shipped_configs::all();
    assert!(good.len() >= 10, "{}", good.len());
    let found: Vec<_> = good.iter().map(|(name, text)| (name, findings(name, text))).collect();
    let loud: Vec<_> = found.iter().filter(|(_, found)| !alarms(found).is_empty()).map(|(name, found)| (name, alarms(found))).collect();
    assert!(loud.is_empty(), "{loud:#?}");
}

/// Imports keep what their sources do: what these would lose in a bad night is found.
#[test]
fn imports_show_the_weaknesses_of_their_sources() {
    let fixtures = root().join("gateway/src/import/fixtures");
    type Expected = &'static [(&'static str, &'static str)];
    let cases: [(Source, &str, Expected); 5] = [
        // No other backend has the embeddings.
        (Source::Apim, "listing.json", &[("no-lower-tier", "pools[1].members")]),
        (Source::Apim, "template.json", &[]),
        (Source::Apim, "bare.json", &[]),
        // One timeout for everything.
        (Source::AcaLb, "aca.env", &[("total-too-short", "pools[0].timeouts.total")]),
        (Source::LiteLlm, "litellm.yaml", &[("no-lower-tier", "pools[2].members")]),
    ];
    for (source, name, expected) in &cases {
        let imported = import(*source, &[(name, &read(&fixtures.join(name)))]).unwrap();
        let found = findings(name, &imported.toml);
        let alarms: Vec<_> = alarms(&found).into_iter().map(|finding| (finding.code, finding.place.key.as_str())).collect();
        assert_eq!(alarms, *expected, "{name}");
    }
}

#[test]
fn every_finding_says_what_happens_and_what_to_do() {
    let folder = root().join("gateway/tests/fixtures/rehearse/planted");
    let planted = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let all = planted.map(|path| (path.display().to_string(), read(&path))).chain(shipped_configs::all());
    for (name, text) in all {
        for finding in findings(&name, &text) {
            assert!(finding.place.line.is_some() || finding.severity == Severity::Note, "{name}: {finding:?}");
            for sentence in [&finding.text, &finding.remedy] {
                assert!(sentence.ends_with('.') && !sentence.contains("  "), "{name}: {sentence}");
            }
        }
    }
}
