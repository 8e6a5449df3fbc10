//! `spillway rehearse` over configs with one planted mistake each, and over good ones.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use spillway_testkit::shipped_configs::{self, root};

/// The exit code and the findings of a config. No secret of it is there.
fn rehearse(path: &Path, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_spillway"));
    command.env_clear().current_dir(root()).args(["rehearse", "--json", "--fail-on", "warning", "-c"]).arg(path).args(arguments);
    let output = command.output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{}: {error}: {}", path.display(), String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), answer["findings"].as_array().unwrap().clone())
}

/// The planted config of this number, the line of its mistake, and its kind.
fn planted(path: &Path) -> (usize, String) {
    let text = std::fs::read_to_string(path).unwrap();
    let mut marks = text.lines().enumerate().filter_map(|(at, line)| Some((at + 1, line.split_once("# planted: ")?.1.trim().to_owned())));
    marks.next().unwrap()
}

fn planted_paths() -> Vec<PathBuf> {
    let folder = root().join("gateway/tests/fixtures/rehearse/planted");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn is_alarm(finding: &Value) -> bool {
    ["error", "warning"].contains(&finding["severity"].as_str().unwrap())
}

/// Whether the mistake of a config is among the findings, at its line.
fn is_found(path: &Path, findings: &[Value]) -> bool {
    let (line, kind) = planted(path);
    findings.iter().any(|finding| is_alarm(finding) && finding["code"] == *kind && finding["place"]["line"] == line)
}

#[test]
fn mistakes_that_only_a_run_shows_are_found_at_their_lines() {
    for (name, fault) in [("14-budget", "failing"), ("18-quota-refuse", "redis-gone")] {
        let path = root().join(format!("gateway/tests/fixtures/rehearse/planted/{name}.toml"));
        let (code, findings) = rehearse(&path, &["--only", fault]);
        assert!(is_found(&path, &findings), "{name}: {findings:#?}");
        assert_eq!(code, Some(1), "{name}");
    }
}

#[test]
fn check_advises_of_what_needs_no_run_and_still_passes() {
    let path = root().join("gateway/tests/fixtures/rehearse/planted/09-group-limit.toml");
    let check = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_spillway")).arg("check").arg("-c").arg(&path).args(arguments).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let (line, kind) = planted(&path);
    let advice = format!("{}:{line}:", path.display());
    assert!(check(&["--advise"]).lines().any(|told| told.starts_with(&advice) && told.ends_with(&format!("[{kind}]"))));
    assert!(!check(&[]).contains(&format!("[{kind}]")));
}

#[test]
#[ignore = "a minute or more: make rehearse-corpus"]
fn at_least_nineteen_of_twenty_planted_mistakes_are_found_by_the_program() {
    let paths = planted_paths();
    assert_eq!(paths.len(), 20);
    let mut missed = Vec::new();
    for path in &paths {
        let (code, findings) = rehearse(path, &[]);
        if !is_found(path, &findings) || code != Some(1) {
            missed.push(path.file_stem().unwrap().to_string_lossy().into_owned());
        }
    }
    assert!(missed.len() <= 1, "{missed:?}");
}

#[test]
#[ignore = "a minute or more: make rehearse-corpus"]
fn good_configs_cause_no_alarm_by_the_program() {
    let folder = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for (name, text) in shipped_configs::all() {
        let path = folder.path().join(name.replace('/', "-"));
        std::fs::write(&path, text).unwrap();
        paths.push(path);
    }
    assert!(paths.len() >= 10);
    let mut loud = Vec::new();
    for path in &paths {
        let (code, findings) = rehearse(path, &[]);
        if code != Some(0) {
            loud.push((path.display().to_string(), findings.into_iter().filter(is_alarm).collect::<Vec<_>>()));
        }
    }
    assert!(loud.is_empty(), "{loud:#?}");
}
