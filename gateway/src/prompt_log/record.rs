//! A record: a line of JSON with the facts about a request, its prompt and its answer.

use spillway_plugins::prompt_log::{Answer, Level, Request, content};

use super::entry::Entry;
use crate::config::PromptLogRules;

/// Completes a record whose facts, a JSON object, are the end of `lines`. The line ends here.
pub(super) fn complete(rules: &PromptLogRules, entry: &Entry, lines: &mut Vec<u8>) {
    // The end of the object.
    lines.pop();
    lines.extend_from_slice(b",\"level\":\"");
    lines.extend_from_slice(entry.level.name().as_bytes());
    lines.push(b'"');
    if entry.level.has_content() {
        let redactor = (entry.level == Level::Redacted).then_some(&rules.redactor);
        let body = entry.body.as_ref().map(|body| Request { bytes: &body.bytes, cut: body.cut });
        let answer = entry.answer.as_ref();
        let answer = answer.map(|answer| Answer { bytes: &answer.bytes, streamed: entry.streamed, cut: answer.cut });
        content(entry.api, body, answer, redactor, rules.max_message, |content| content.write(lines));
    }
    lines.extend_from_slice(b"}\n");
}
