//! A request's line for people.

use std::io::Write;

use super::line::RequestLine;

/// The most important fields, for people. A value that a caller chose can't break the format.
pub(super) fn write(line: &RequestLine<'_>, out: &mut Vec<u8>) -> std::io::Result<()> {
    let RequestLine { time, id, status, end, api, us, .. } = line;
    let known = |text: Option<&str>| text.unwrap_or("-").replace(|c: char| c.is_control() || c == ' ', "?");
    write!(out, "{time} {status} {end} {api} {} consumer={}", known(line.model), known(line.consumer))?;
    for attempt in &line.attempts {
        write!(out, " {}/{}={}", attempt.backend, attempt.deployment, attempt.outcome)?;
    }
    if let Some(metered) = &line.usage {
        write!(out, " tokens={}+{}", metered.usage.input, metered.usage.output)?;
    }
    if let Some(tier) = line.service_tier {
        write!(out, " service_tier={tier}")?;
    }
    if let Some(code) = line.code {
        write!(out, " code={code}")?;
    }
    write!(out, " {:.1}ms id={id}", *us as f64 / 1000.0)
}
