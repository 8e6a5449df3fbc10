//! ISO 8601 durations.

use crate::import::draft::Millis;

/// Ten years: the longest in a Spillway config.
const LONGEST: u64 = 315_360_000_000;

/// # Errors
/// What was expected.
pub(super) fn parse(text: &str) -> Result<Millis, String> {
    if text.contains(':') {
        return clock(text).ok_or_else(|| format!("'{text}' is not a duration; expected ISO 8601 such as PT1M"));
    }
    let wrong = || format!("'{text}' is not an ISO 8601 duration such as PT1M or P1D");
    let upper = text.to_ascii_uppercase();
    let (days, time) = upper.strip_prefix('P').map(|rest| rest.split_once('T').unwrap_or((rest, ""))).ok_or_else(wrong)?;
    if days.is_empty() && time.is_empty() {
        return Err(wrong());
    }
    let mut total = 0_u64;
    for (part, in_time) in [(days, false), (time, true)] {
        let mut rest = part;
        while !rest.is_empty() {
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
            let unit = match (rest.as_bytes()[end], in_time) {
                (b'W', false) => 604_800_000,
                (b'D', false) => 86_400_000,
                (b'H', true) => 3_600_000,
                (b'M', true) => 60_000,
                (b'S', true) => 1_000,
                (b'Y' | b'M', false) => return Err(format!("'{text}' has months or years, which have no fixed length; write it in days")),
                _ => return Err(wrong()),
            };
            let amount = thousandths(&rest[..end]).ok_or_else(wrong)?;
            let millis = amount.checked_mul(unit).map(|millis| millis / 1_000);
            total = millis.and_then(|millis| total.checked_add(millis)).filter(|total| *total <= LONGEST).ok_or_else(wrong)?;
            rest = &rest[end + 1..];
        }
    }
    Ok(Millis(total))
}

/// `1.5` is 1500.
fn thousandths(text: &str) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part: String = part.chars().chain("000".chars()).take(3).collect();
    whole.parse::<u64>().ok()?.checked_mul(1_000)?.checked_add(part.parse().ok()?)
}

/// `hh:mm:ss`, with days before a dot.
fn clock(text: &str) -> Option<Millis> {
    let mut parts = text.split(':');
    let (first, minutes, seconds) = (parts.next()?, parts.next()?.parse::<u64>().ok()?, parts.next()?.parse::<u64>().ok()?);
    let (days, hours) = first.split_once('.').unwrap_or(("0", first));
    let hours = days.parse::<u64>().ok()?.checked_mul(24)?.checked_add(hours.parse().ok()?)?;
    let seconds = hours.checked_mul(3_600)?.checked_add(minutes.checked_mul(60)?)?.checked_add(seconds)?;
    let millis = seconds.checked_mul(1_000)?;
    (parts.next().is_none() && minutes < 60 && millis <= LONGEST).then_some(Millis(millis))
}
