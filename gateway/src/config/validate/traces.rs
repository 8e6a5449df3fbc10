//! `[traces]`.

use super::checker::Checker;
use super::prompt_log;
use crate::config::TraceRules;
use crate::config::raw::RawTraces;

const KEY: &str = "traces";

pub(super) fn read(raw: Option<&RawTraces>, check: &mut Checker<'_>) -> Option<TraceRules> {
    let raw = raw?;
    let key = format!("{KEY}.otlp");
    // Spans contain no content, and collectors within a cluster mostly have no TLS; but keys for a collector need TLS.
    match raw.otlp.headers.is_empty() {
        true => check.http(&format!("{key}.url"), &raw.otlp.url),
        false => check.https(&format!("{key}.url"), &raw.otlp.url, true),
    }
    Some(TraceRules {
        otlp: prompt_log::otlp(&raw.otlp, &key, check),
        sample: prompt_log::share(raw.sample, KEY, check).unwrap_or(1.0),
        caller_rate: raw.caller_rate.unwrap_or(100),
    })
}
