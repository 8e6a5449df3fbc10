//! The page that lists the kinds.

use std::collections::BTreeSet;
use std::path::Path;

/// The kinds in the sources: the texts in quotes that are the first argument of a finding, or a constant for one.
fn codes(folder: &Path, into: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() && !entry.ends_with("tests") {
            codes(&entry, into);
        } else if entry.extension().is_some_and(|extension| extension == "rs") && !entry.ends_with("tests.rs") {
            let text: String = std::fs::read_to_string(&entry).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
            for start in ["view.finding(", "view.finding( ", "const CODE: &str = ", "Severity::Warning, ", "Severity::Note, "] {
                let after = text.split(start).skip(1).filter_map(|rest| rest.strip_prefix('"')?.split_once('"'));
                into.extend(after.map(|(code, _)| code.to_owned()).filter(|code| is_code(code)));
            }
        }
    }
}

fn is_code(text: &str) -> bool {
    text.contains('-') && text.chars().all(|c| c.is_ascii_lowercase() || c == '-')
}

#[test]
fn every_kind_is_on_the_page_and_the_page_has_no_other() {
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = BTreeSet::new();
    codes(&crate_root.join("src/rehearse/findings"), &mut known);
    let page = std::fs::read_to_string(crate_root.join("../docs/rehearse-findings.md")).unwrap();
    let listed: BTreeSet<String> = page.lines().filter_map(|line| Some(line.strip_prefix("| `")?.split_once('`')?.0.to_owned())).collect();
    assert!(known.len() > 30, "{known:?}");
    assert_eq!(listed, known);
}
