//! All texts of a request that a model reads, in order.
//!
//! The rule is the same as for answers: every string is read, unless its place is known to contain no text
//! ([`super::places`]). The body is walked once, and the texts are stored once.

use std::borrow::Cow;
use std::ops::Range;

use super::content_kind::{ContentKind, Leaf, SEALED, Spot, is_address, is_encoded, is_word, spot};
use crate::api::Api;
use crate::visible::with_tags;
use crate::walk::{Token, Tokens, Unreadable};

/// The mark after a text that the model reads together with the next one. These marks are noncharacters: no text
/// contains them.
const SAID: char = '\u{fdd0}';
/// The mark after a text that may be read together with the next one.
const PERHAPS: char = '\u{fdd1}';
/// The mark after a text that is read separately.
const ALONE: char = '\u{fdd2}';

/// Who wrote a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Application,
    Person,
    Model,
    /// A tool, a document: content that the caller got from somewhere else.
    Elsewhere,
}

/// The texts of one author until another one follows, or the texts of one member of the body.
#[derive(Debug, Clone)]
struct Span {
    range: Range<usize>,
    by: By,
    /// Whether it consists of messages: a model may join adjacent messages of the same role.
    message: bool,
}

/// The texts of a request.
#[derive(Debug, Default)]
pub struct PromptText {
    text: String,
    spans: Vec<Span>,
    /// The ranges within spans whose content is from elsewhere.
    brought: Vec<Range<usize>>,
    attachments: u64,
    bytes: u64,
}

/// Tokens that an image, a sound or a file counts when the length of prompts is limited: what the largest images take.
const ATTACHMENT: u64 = 765;

/// An object or array that is being read.
struct Frame<'t> {
    spot: Spot,
    object: bool,
    /// Where its texts begin.
    begun: usize,
    by: Option<By>,
    kind: Cow<'t, str>,
    /// A string that is encoded bytes if the part's type says so.
    held: Option<Cow<'t, str>>,
    /// The results of a call, in the same item.
    results: Option<Range<usize>>,
    /// What the next value is.
    next: Spot,
    results_next: bool,
}

/// Reads a body.
struct Walk<'t> {
    api: Api,
    asked: PromptText,
    frames: Vec<Frame<'t>>,
    /// Where the texts begin that are in no span yet.
    rest: usize,
    /// The author of the current member of the body.
    by: By,
}

impl PromptText {
    /// Reads a request's body.
    ///
    /// # Errors
    /// [`Unreadable`] if it is not a JSON object, if it could be read in two ways, or if it contains input that the
    /// model reads but this code can't: tokens instead of texts.
    pub fn read(api: Api, body: &[u8]) -> Result<PromptText, Unreadable> {
        let mut tokens = Tokens::new(body)?;
        if tokens.token()? != Some(Token::Object) {
            return Err(Unreadable);
        }
        let asked = PromptText { text: String::with_capacity(body.len()), ..PromptText::default() };
        let mut walk = Walk { api, asked, frames: Vec::new(), rest: 0, by: By::Application };
        walk.begin(Spot { place: ContentKind::Top, leaf: Leaf::Alone, named: false }, true);
        while let Some(token) = tokens.token()? {
            walk.take(token)?;
        }
        walk.asked.text.shrink_to_fit();
        Ok(walk.asked)
    }

    /// Its number of tokens, approximately.
    pub fn tokens(&self) -> u64 {
        self.bytes / 4 + self.attachments * ATTACHMENT
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Calls `look` with every text, and with the texts that a model may join, joined in two ways: directly, and with
    /// line ends between them. Stops when `look` finds something.
    pub fn find<F>(&self, mut look: impl FnMut(&str) -> Option<F>) -> Option<F> {
        let mut joined = String::new();
        for span in &self.spans {
            let run = &self.text[span.range.clone()];
            if let Some(found) = pieces(run).find_map(|(piece, _)| look(piece)) {
                return Some(found);
            }
            let count = |leaves: &[char]| pieces(run).filter(|(_, end)| leaves.contains(end)).count();
            let (said, all) = (count(&[SAID]), count(&[SAID, PERHAPS]));
            let views: [(&[char], bool); 2] = [(&[SAID], said > 1), (&[SAID, PERHAPS], all > 1 && all > said)];
            for (leaves, _) in views.into_iter().filter(|(_, worth)| *worth) {
                for between in ["", "\n"] {
                    joined.clear();
                    for (piece, _) in pieces(run).filter(|(_, end)| leaves.contains(end)) {
                        if !joined.is_empty() {
                            joined.push_str(between);
                        }
                        joined.push_str(piece);
                    }
                    if let Some(found) = look(&joined) {
                        return Some(found);
                    }
                }
            }
        }
        None
    }

    /// All texts as a reader sees them, one per line: what a service checks.
    pub fn into_seen(self) -> Seen {
        let mut seen = Seen { text: String::with_capacity(self.text.len()), said: Vec::new(), brought: Vec::new() };
        // Results are within the span that ends after them.
        let mut brought = self.brought.into_iter().peekable();
        for span in &self.spans {
            let mut at = span.range.start;
            if span.by == By::Model {
                seen.said.clear();
            }
            while let Some(range) = brought.next_if(|range| range.end <= span.range.end) {
                seen.add(&self.text[at..range.start.max(at)], span.by);
                seen.add(&self.text[range.start.max(at)..range.end.max(at)], By::Elsewhere);
                at = range.end.max(at);
            }
            seen.add(&self.text[at..span.range.end], span.by);
        }
        seen
    }
}

/// The texts of a run, each with the mark after it.
fn pieces(run: &str) -> impl Iterator<Item = (&str, char)> {
    run.split_inclusive([SAID, PERHAPS, ALONE]).filter_map(|piece| {
        let end = piece.chars().next_back()?;
        Some((&piece[..piece.len() - end.len_utf8()], end))
    })
}

/// Texts as a reader sees them, and who wrote them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// All of them, one per line.
    pub text: String,
    /// What the person wrote since the model's last message.
    pub said: Vec<Range<usize>>,
    /// Content from elsewhere: from tools, documents.
    pub brought: Vec<Range<usize>>,
}

impl Seen {
    fn add(&mut self, run: &str, by: By) {
        let begun = self.text.len();
        for (piece, _) in pieces(run) {
            self.text.push_str(&with_tags(piece));
            self.text.push('\n');
        }
        let range = begun..self.text.len();
        let list = match by {
            By::Person => &mut self.said,
            By::Elsewhere => &mut self.brought,
            By::Application | By::Model => return,
        };
        match list.last_mut() {
            _ if range.is_empty() => {}
            // Adjacent texts of the person are one range.
            Some(last) if by == By::Person && last.end == range.start => last.end = range.end,
            _ => list.push(range),
        }
    }
}

impl<'t> Walk<'t> {
    fn take(&mut self, token: Token<'t>) -> Result<(), Unreadable> {
        let api = self.api;
        match token {
            Token::Object => {
                let spot = self.here();
                self.begin(spot, true);
            }
            Token::Array => {
                let spot = self.here();
                self.begin(spot, false);
            }
            Token::End => self.end(),
            Token::Name(name) => {
                let top = self.frames.len() == 1;
                if top {
                    if SEALED.contains(&&*name) {
                        return Err(Unreadable);
                    }
                    self.by = whose(&name);
                }
                if let Some(frame) = self.frames.last_mut() {
                    frame.next = spot(api, frame.spot.place, &name);
                    frame.results_next = matches!(&*name, "output" | "outputs" | "results");
                    if frame.next.named {
                        self.add(&name, Leaf::Alone);
                    }
                }
            }
            Token::Text(text) => {
                let begun = self.asked.text.len();
                self.text(text);
                self.is_over(begun);
            }
            Token::Number(digits) => {
                let begun = self.asked.text.len();
                let spot = self.here();
                match spot.place {
                    // Token numbers are a text that can't be read here.
                    ContentKind::Inputs if matches!(api, Api::Completions | Api::Embeddings) => return Err(Unreadable),
                    ContentKind::Own | ContentKind::Unknown => self.add(digits, Leaf::Alone),
                    ContentKind::Messages | ContentKind::Inputs | ContentKind::Form if spot.leaf == Leaf::Said => {
                        self.add(digits, Leaf::Alone)
                    }
                    _ => {}
                }
                self.is_over(begun);
            }
            Token::Word => {}
        }
        Ok(())
    }

    /// The kind of the value that begins here.
    fn here(&self) -> Spot {
        let Some(frame) = self.frames.last() else { return Spot { place: ContentKind::Top, leaf: Leaf::Alone, named: false } };
        if frame.object { frame.next } else { frame.spot }
    }

    fn begin(&mut self, spot: Spot, object: bool) {
        // A message is an object in the list, or the member's value itself.
        if object && self.is_message(spot) {
            self.close(By::Person, true);
        }
        let begun = self.asked.text.len();
        let next = spot;
        let kind = Cow::Borrowed("");
        self.frames.push(Frame { spot, object, begun, by: None, kind, held: None, results: None, next, results_next: false });
    }

    /// Whether the object that begins here is a message.
    fn is_message(&self, spot: Spot) -> bool {
        spot.place == ContentKind::Messages && matches!(self.frames.len(), 1 | 2)
    }

    fn end(&mut self) {
        let Some(mut frame) = self.frames.pop() else { return };
        if let Some(held) = frame.held.take() {
            // The type may come after the bytes. Audio parts have no type for this.
            let is_bytes = match &*frame.kind {
                "base64" | "image_generation_call" | "redacted_thinking" => is_word(&held) || is_encoded(&held),
                "" => is_encoded(&held),
                _ => false,
            };
            if !is_bytes {
                self.add(&held, Leaf::Said);
            }
        }
        if is_attachment(&frame.kind, self.asked.text.len() > frame.begun) {
            self.asked.attachments += 1;
        }
        let begun = frame.begun;
        let kind: &str = &frame.kind;
        if frame.object && frame.spot.place == ContentKind::Messages && self.is_message(frame.spot) {
            let by = speaker(kind, frame.by);
            if let Some(results) = frame.results.take().filter(|_| kind.ends_with("_call")) {
                self.bring(results);
            }
            self.close(by, true);
        } else if frame.object && kind.ends_with("tool_result") && frame.spot.place == ContentKind::Form {
            self.bring(begun..self.asked.text.len());
        }
        self.is_over(begun);
    }

    /// A value has ended whose texts began at `begun`.
    fn is_over(&mut self, begun: usize) {
        let end = self.asked.text.len();
        let top = self.frames.len() == 1;
        if let Some(frame) = self.frames.last_mut()
            && frame.object
            && std::mem::take(&mut frame.results_next)
        {
            let results = frame.results.get_or_insert(begun..end);
            results.end = end;
        }
        if top {
            let message = self.frames.last().is_some_and(|frame| frame.next.place == ContentKind::Messages);
            let by = if message { By::Person } else { self.by };
            self.close(by, message);
        }
    }

    /// Content from elsewhere is in this range; ranges within it become a part of it.
    fn bring(&mut self, range: Range<usize>) {
        while self.asked.brought.pop_if(|inner| inner.start >= range.start).is_some() {}
        if !range.is_empty() {
            self.asked.brought.push(range);
        }
    }

    /// All texts that are in no span yet become one span, or a part of the previous one.
    fn close(&mut self, by: By, message: bool) {
        let range = self.rest..self.asked.text.len();
        if range.is_empty() {
            return;
        }
        self.rest = range.end;
        match self.asked.spans.last_mut() {
            Some(last) if message && last.message && last.by == by => last.range.end = range.end,
            _ => self.asked.spans.push(Span { range, by, message }),
        }
    }

    fn text(&mut self, text: Cow<'t, str>) {
        let spot = self.here();
        let Some(frame) = self.frames.last_mut() else { return };
        let read_as = match spot.leaf {
            Leaf::Silent => return,
            Leaf::Role => {
                frame.by = role(&text);
                // Templates of open models accept any role.
                if frame.by.is_some() {
                    return;
                }
                Leaf::Alone
            }
            Leaf::Type if is_word(&text) => {
                frame.kind = text;
                return;
            }
            Leaf::SchemaType if matches!(&*text, "string" | "number" | "integer" | "boolean" | "object" | "array" | "null") => return,
            Leaf::Word if is_word(&text) => return,
            Leaf::Address if is_address(&text) => return,
            Leaf::Sealed if is_word(&text) || is_encoded(&text) => return,
            Leaf::Bytes if frame.held.is_none() => {
                frame.held = Some(text);
                return;
            }
            Leaf::Type | Leaf::SchemaType | Leaf::Alone => Leaf::Alone,
            Leaf::Perhaps => Leaf::Perhaps,
            Leaf::Word | Leaf::Address | Leaf::Sealed | Leaf::Bytes | Leaf::Said if spot.place == ContentKind::Inputs => Leaf::Alone,
            Leaf::Word | Leaf::Address | Leaf::Sealed | Leaf::Bytes | Leaf::Said => Leaf::Said,
        };
        self.add(&text, read_as);
    }

    fn add(&mut self, text: &str, leaf: Leaf) {
        if text.is_empty() {
            return;
        }
        self.asked.bytes += text.len() as u64;
        let to = &mut self.asked.text;
        if text.contains([SAID, PERHAPS, ALONE]) {
            to.extend(text.chars().filter(|c| !matches!(*c, SAID | PERHAPS | ALONE)));
        } else {
            to.push_str(text);
        }
        to.push(match leaf {
            Leaf::Said => SAID,
            Leaf::Perhaps => PERHAPS,
            _ => ALONE,
        });
    }
}

/// The author of a member of the body, unless its messages name one.
fn whose(name: &str) -> By {
    match name {
        "prompt" | "input" | "suffix" | "messages" => By::Person,
        "instructions" | "system" | "tools" | "functions" | "mcp_servers" | "response_format" | "text" | "prediction" | "output_config"
        | "output_format" | "context_management" | "web_search_options" => By::Application,
        // Documents, and unknown members.
        _ => By::Elsewhere,
    }
}

/// Whether a part is an image, a sound or a file; a document can also be a text.
fn is_attachment(kind: &str, has_text: bool) -> bool {
    match kind {
        "image_url"
        | "input_image"
        | "image"
        | "input_audio"
        | "audio"
        | "file"
        | "input_file"
        | "video_url"
        | "computer_screenshot"
        | "image_generation_call" => true,
        "document" => !has_text,
        _ => false,
    }
}

/// The author for a role.
fn role(name: &str) -> Option<By> {
    match name {
        "system" | "developer" => Some(By::Application),
        "user" => Some(By::Person),
        "assistant" => Some(By::Model),
        "tool" | "function" => Some(By::Elsewhere),
        _ => None,
    }
}

/// The author of a message or item.
fn speaker(kind: &str, role: Option<By>) -> By {
    match kind {
        kind if kind.ends_with("_output") => By::Elsewhere,
        kind if kind.ends_with("_call") => By::Model,
        "mcp_approval_request" | "reasoning" => By::Model,
        _ => role.unwrap_or(By::Person),
    }
}

#[cfg(test)]
mod tests;
