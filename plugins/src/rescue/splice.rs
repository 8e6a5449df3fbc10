//! The second stream: what was sent is removed, the rest is sent with the first stream's ids.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use serde_json::Value;

use super::record::{Record, Sent, turn};
use super::side::{Channel, Difference, Found, Need, Side, channel};
use super::walk::walk;
use crate::api::Api;
use crate::sse::{Fate, MOST_KEPT, Splitter};

/// Reads a second stream.
#[derive(Debug)]
pub struct Splice {
    api: Api,
    splitter: Splitter,
    side: Comparing,
    /// Events that are sent once everything was repeated.
    held: Vec<u8>,
    /// Most bytes that are held.
    most: usize,
    sequence: Option<u64>,
}

impl Splice {
    /// A second stream that continues after what was `sent`; `None` if none can.
    pub fn new(sent: Sent) -> Option<Self> {
        let (api, record, most) = sent.into_record()?;
        let sequence = record.sequence;
        let side = Comparing::new(record);
        Some(Splice { api, splitter: Splitter::keeping(MOST_KEPT), side, held: Vec::new(), most, sequence })
    }

    /// Reads the next bytes of the second stream. Returns what is sent to the caller.
    ///
    /// # Errors
    /// [`Difference`]: nothing more can be sent to the caller.
    pub fn feed(&mut self, bytes: Bytes) -> Result<Bytes, Difference> {
        let mut failed = None;
        let Self { api, splitter, side, held, sequence, .. } = self;
        splitter.feed(bytes, |event| {
            if failed.is_none() {
                let compared = match event.cut {
                    Some(_) => Err(Difference::Unreadable),
                    None => compare(*api, event.name, &event.data, side, held, sequence),
                };
                failed = compared.err();
            }
            Fate::Pass
        });
        match failed {
            Some(difference) => Err(difference),
            None if self.splitter.is_within_event() => Err(Difference::Unreadable),
            None if self.has_caught_up() => Ok(std::mem::take(&mut self.held).into()),
            None if self.held.len() > self.most => Err(Difference::TooMuch),
            None => Ok(Bytes::new()),
        }
    }

    /// The second stream has ended.
    ///
    /// # Errors
    /// [`Difference::Ended`] if it has not repeated everything that was sent.
    pub fn end(&mut self) -> Result<Bytes, Difference> {
        let rest = self.splitter.take_tail();
        let rest = if rest.is_empty() { rest } else { self.feed([&rest[..], b"\n\n"].concat().into())? };
        if self.has_caught_up() { Ok(rest) } else { Err(Difference::Ended) }
    }

    /// The number of the last event that was sent to the caller, if events are numbered.
    pub fn sequence(&self) -> Option<u64> {
        self.sequence
    }

    /// Whether it has repeated everything that was sent.
    fn has_caught_up(&self) -> bool {
        self.side.missing == 0
    }
}

fn compare(
    api: Api,
    name: &[u8],
    data: &[u8],
    side: &mut Comparing,
    held: &mut Vec<u8>,
    sequence: &mut Option<u64>,
) -> Result<(), Difference> {
    if data.starts_with(b"[DONE]") {
        side.over()?;
        write(held, name, b"[DONE]");
        return Ok(());
    }
    let mut event: Value = serde_json::from_slice(data).map_err(|_| Difference::Unreadable)?;
    match walk(api, name, &mut event, side)? {
        Found { news: true, .. } => {}
        Found { sent: false, .. } if side.missing == 0 => {}
        Found { .. } => return Ok(()),
    }
    if let (Some(last), Some(number)) = (sequence, event.get_mut("sequence_number")) {
        *last += 1;
        *number = (*last).into();
    }
    write(held, name, event.to_string().as_bytes());
    Ok(())
}

/// Writes an event; `data` has no line ends.
fn write(held: &mut Vec<u8>, name: &[u8], data: &[u8]) {
    if !name.is_empty() {
        held.extend_from_slice(b"event: ");
        held.extend_from_slice(name);
        held.push(b'\n');
    }
    held.extend_from_slice(b"data: ");
    held.extend_from_slice(data);
    held.extend_from_slice(b"\n\n");
}

/// Compares with what was sent.
#[derive(Debug)]
struct Comparing {
    sent: Record,
    /// The second stream's position in each text that was sent.
    at: HashMap<Channel, usize>,
    marks: HashSet<Channel>,
    closed: HashSet<Channel>,
    ended: HashSet<u64>,
    turns: HashMap<u64, &'static str>,
    /// Bytes and facts that must still be repeated: in each choice, item or block, and in all.
    left: HashMap<u64, usize>,
    missing: usize,
}

impl Comparing {
    fn new(sent: Record) -> Self {
        let mut left: HashMap<u64, usize> = HashMap::new();
        for (channel, text) in &sent.texts {
            *left.entry(channel.outer).or_default() += text.len();
        }
        for channel in sent.marks.iter().filter(|(_, mark)| mark.need == Need::Required).map(|(channel, _)| channel) {
            *left.entry(channel.outer).or_default() += 1;
        }
        for channel in &sent.closed {
            *left.entry(channel.outer).or_default() += 1;
        }
        let missing = left.values().sum::<usize>() + sent.ended.len();
        Comparing {
            sent,
            at: HashMap::new(),
            marks: HashSet::new(),
            closed: HashSet::new(),
            ended: HashSet::new(),
            turns: HashMap::new(),
            left,
            missing,
        }
    }

    /// So much of what was sent was repeated.
    fn said(&mut self, outer: u64, much: usize) {
        if let Some(left) = self.left.get_mut(&outer) {
            *left -= much;
        }
        self.missing -= much;
    }

    /// Whether everything that was sent of a choice, item or block was repeated.
    fn is_behind(&self, outer: u64) -> bool {
        self.left.get(&outer).is_some_and(|left| *left > 0)
    }
}

impl Side for Comparing {
    fn text(&mut self, channel: Channel, text: &str) -> Result<usize, Difference> {
        let sent = self.sent.texts.get(&channel).map_or("", String::as_str);
        let at = self.at.get(&channel).copied().unwrap_or(0);
        let rest = &sent.as_bytes()[at..];
        let same = rest.len().min(text.len());
        // If all of `rest` is the beginning of `text`, it ends at a character boundary.
        if rest[..same] != text.as_bytes()[..same] {
            return Err(Difference::Other);
        }
        let more = same < text.len();
        let is_over =
            self.sent.closed.contains(&channel) || self.sent.complete.contains(&channel) || self.sent.ended.contains_key(&channel.outer);
        if more && is_over {
            return Err(Difference::Other);
        }
        if same > 0 {
            let outer = channel.outer;
            self.at.insert(channel, at + same);
            self.said(outer, same);
        }
        Ok(same)
    }

    fn mark(&mut self, channel: Channel, value: &str, need: Need) -> Result<bool, Difference> {
        match self.sent.marks.get(&channel) {
            Some(sent) if sent.value == value => {
                if self.marks.insert(channel.clone()) && need == Need::Required {
                    self.said(channel.outer, 1);
                }
                Ok(true)
            }
            Some(_) => Err(Difference::Other),
            None if self.sent.ended.contains_key(&channel.outer) => Err(Difference::Other),
            None => Ok(false),
        }
    }

    fn closes(&mut self, channel: Channel) -> Result<bool, Difference> {
        let sent = self.sent.texts.get(&channel).map_or(0, String::len);
        if self.at.get(&channel).copied().unwrap_or(0) < sent {
            return Err(Difference::Other);
        }
        let was_sent = self.sent.closed.contains(&channel);
        if was_sent && self.closed.insert(channel.clone()) {
            self.said(channel.outer, 1);
        }
        Ok(was_sent)
    }

    fn ends(&mut self, outer: u64, how: &str) -> Result<bool, Difference> {
        if self.is_behind(outer) {
            return Err(Difference::Other);
        }
        match self.sent.ended.get(&outer) {
            Some(sent) if sent == how => {
                if self.ended.insert(outer) {
                    self.missing -= 1;
                }
                Ok(true)
            }
            Some(_) => Err(Difference::Other),
            None => Ok(false),
        }
    }

    fn turn(&mut self, outer: u64, kind: &'static str) -> Result<(), Difference> {
        match self.turns.insert(outer, kind) {
            Some(before) if before == kind => Ok(()),
            Some("tool_calls" | "function_call") if self.is_behind(outer) => Err(Difference::Other),
            _ => self.text(channel(outer, 0, "flow"), &turn(kind)).map(drop),
        }
    }

    fn identity(&mut self, channel: Channel, value: &mut Value) -> Result<(), Difference> {
        if let Some(first) = self.sent.identities.get(&channel) {
            value.clone_from(first);
        }
        Ok(())
    }

    fn over(&mut self) -> Result<(), Difference> {
        if self.missing > 0 { Err(Difference::Ended) } else { Ok(()) }
    }

    fn foreign(&mut self) -> Result<(), Difference> {
        if self.missing == 0 { Ok(()) } else { Err(Difference::Unreadable) }
    }
}
