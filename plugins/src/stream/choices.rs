//! Chat and legacy completion chunks: `choices[]` with `delta` or `text` and `finish_reason`.

use super::shape::Found;
use super::state::{EventKind, StreamState, fault_of};
use crate::json::{JsonError, Kind, Reader, Value};

/// Which choices have begun and which have finished; only the first 64 are distinguished.
#[derive(Debug)]
pub(super) struct Choices {
    seen: u64,
    finished: u64,
    /// The number of choices that the caller asked for.
    expected: u64,
    /// The number that have ended with an event of their own, in APIs with such events.
    ended: u64,
}

impl Choices {
    /// For so many choices.
    pub(super) fn of(expected: u64) -> Self {
        Choices { seen: 0, finished: 0, expected: expected.min(64), ended: 0 }
    }

    /// One has ended with an event of its own. Returns whether all have.
    pub(super) fn one_has_ended(&mut self) -> bool {
        self.ended += 1;
        self.ended >= self.expected
    }
}

/// Fields of a delta that contain output. A `role` alone isn't output, nor are filter results.
const OUTPUT: [&[u8]; 7] = [b"content", b"refusal", b"tool_calls", b"function_call", b"audio", b"reasoning", b"reasoning_content"];

/// Reads one chunk. A malformed one changes nothing.
pub(super) fn read(data: &[u8], state: &mut StreamState, choices: &mut Choices, found: &mut Found) -> EventKind {
    let mut list = None;
    let mut error = None;
    let mut usage = None;
    let mut service_tier = None;
    let mut filters = false;
    let read = Reader::new(data).strict().members(|key, value| match key {
        b"choices" => list = Some(value),
        b"error" if value.kind != Kind::Null => error = Some(value),
        b"usage" if value.kind == Kind::Object => usage = Some(value),
        b"prompt_filter_results" => filters = true,
        b"service_tier" => service_tier = Some(value),
        b"obfuscation" if value.kind == Kind::String => found.padding(&value),
        _ => {}
    });
    if read.is_err() {
        return EventKind::Malformed;
    }
    if error.is_some() {
        state.fault = Some(fault_of(data));
        return EventKind::Anything;
    }
    if let Some(tier) = &service_tier {
        state.reported.read_service_tier(data, tier);
    }
    if let Some(usage) = &usage {
        state.reported.read(data, usage);
        found.more();
    }
    let Some(list) = list.filter(|list| list.kind == Kind::Array) else { return EventKind::Anything };
    let only_usage = usage.is_some() && !filters && !list.is_filled(data);
    let _ = Reader::within(data, &list).objects(|choice| read_choice(data, choice, state, choices, found));
    // Reset when a further choice begins after the others have ended.
    state.finished = choices.seen != 0 && choices.seen == choices.finished && u64::from(choices.finished.count_ones()) >= choices.expected;
    if only_usage { EventKind::UsageOnly } else { EventKind::Anything }
}

fn read_choice(
    data: &[u8],
    choice: &mut Reader<'_>,
    state: &mut StreamState,
    choices: &mut Choices,
    found: &mut Found,
) -> Result<(), JsonError> {
    let (mut index, mut output, mut finished) = (0, false, false);
    choice.members(|key, value| match key {
        b"index" => index = value.as_u64(data).unwrap_or(0),
        b"text" => {
            output |= value.is_filled(data);
            state.output(data, &value, found);
        }
        b"finish_reason" => finished = value.kind == Kind::String,
        b"delta" if value.kind == Kind::Object => {
            let delta = &value;
            let _ = Reader::within(data, delta).members(|key, value| {
                if key == b"audio" {
                    state.made.sound(data, delta);
                    found.more();
                }
                if OUTPUT.contains(&key) {
                    output |= value.is_filled(data);
                    read_text(data, &value, state, found);
                }
            });
        }
        _ => {}
    })?;
    let bit = 1u64 << index.min(63);
    choices.seen |= bit;
    state.content |= output || finished;
    if finished {
        found.more();
        choices.finished |= bit;
    }
    Ok(())
}

/// Measures the text of a delta: the value itself, or the arguments of calls.
fn read_text(data: &[u8], value: &Value, state: &mut StreamState, found: &mut Found) {
    match value.kind {
        Kind::Array => drop(Reader::within(data, value).array(|call| read_text(data, &call, state, found))),
        Kind::Object => drop(Reader::within(data, value).members(|key, value| match key {
            b"function" | b"arguments" | b"name" | b"transcript" => read_text(data, &value, state, found),
            _ => {}
        })),
        _ => state.output(data, value, found),
    }
}
