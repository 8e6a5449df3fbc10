//! Findings that the config's owner has accepted: in a comment at the line of the setting, or in the line above it.

use crate::rehearse::finding::{Finding, Severity};
use crate::rehearse::place::Lines;

/// `# rehearse: accept one-location, because the data must stay there`
const MARK: &str = "# rehearse: accept ";

/// A finding that is accepted is a note.
pub(super) fn lowered(finding: Finding, lines: &Lines) -> Finding {
    if !is_accepted(&finding, lines) {
        return finding;
    }
    Finding { severity: Severity::Note, text: format!("{} Accepted in this file.", finding.text), ..finding }
}

fn is_accepted(finding: &Finding, lines: &Lines) -> bool {
    let Some(line) = finding.place.line else { return false };
    let accepts = |number: usize| {
        let rest = lines.line(number).and_then(|line| line.split_once(MARK)).map(|(_, rest)| rest);
        let code = rest.and_then(|rest| rest.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).next());
        code == Some(finding.code)
    };
    let is_comment = |number: usize| lines.line(number).is_some_and(|line| line.trim_start().starts_with('#'));
    accepts(line) || (line > 1 && is_comment(line - 1) && accepts(line - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_at_the_line_or_above_it_accepts_one_kind() {
        let lowered_at = |text: &str| {
            let lines = Lines::new(text);
            let (place, code) = (lines.place("server.admin"), "admin-exposed");
            let finding = Finding { code, severity: Severity::Warning, place, text: "It is.".to_owned(), remedy: String::new() };
            lowered(finding, &lines).severity == Severity::Note
        };
        assert!(lowered_at("[server]\nadmin = \"\"  # rehearse: accept admin-exposed: behind a firewall"));
        assert!(lowered_at("[server]\n# rehearse: accept admin-exposed\nadmin = \"\""));
        assert!(!lowered_at("[server]  # rehearse: accept admin-exposed\nadmin = \"\""), "that is of another setting");
        assert!(!lowered_at("[server]\nadmin = \"\"  # rehearse: accept admin"));
        assert!(!lowered_at("[server]\nadmin = \"\""));
    }
}
