//! Prompt and answer of one request, as they are recorded.

use std::borrow::Cow;

use super::compact::mend;
use super::redact::Redactor;
use crate::api::Api;
use crate::json::Tree;
use crate::{answer, prompt};

/// Prompt and answer, redacted and cut. Texts that stay as they are aren't copied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize))]
pub struct Content<'t> {
    /// The prompt, message by message; absent if it can't be parsed.
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub prompt: Option<Vec<Message<'t>>>,
    /// A part of the prompt was not read.
    #[cfg_attr(test, serde(skip_serializing_if = "std::ops::Not::not"))]
    pub prompt_cut: bool,
    /// Names of the tools in the request.
    #[cfg_attr(test, serde(skip_serializing_if = "Vec::is_empty"))]
    pub tools: Vec<Cow<'t, str>>,
    /// The answer, choice by choice.
    #[cfg_attr(test, serde(skip_serializing_if = "Vec::is_empty"))]
    pub completion: Vec<Message<'t>>,
    /// A part of the answer was not read, or is missing.
    #[cfg_attr(test, serde(skip_serializing_if = "std::ops::Not::not"))]
    pub completion_cut: bool,
}

/// A request's body, or its beginning.
#[derive(Debug, Clone, Copy)]
pub struct Request<'b> {
    /// Its bytes.
    pub bytes: &'b [u8],
    /// Whether the rest is missing.
    pub cut: bool,
}

/// An answer, or its beginning.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'b> {
    /// Its bytes.
    pub bytes: &'b [u8],
    /// Whether they are events.
    pub streamed: bool,
    /// Whether the rest is missing.
    pub cut: bool,
}

/// A message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize))]
pub struct Message<'t> {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: Cow<'t, str>,
    /// Its text.
    pub text: Cow<'t, str>,
    /// The number of images, sounds and files in it.
    #[cfg_attr(test, serde(skip_serializing_if = "is_zero"))]
    pub attachments: usize,
    /// Its tool calls.
    #[cfg_attr(test, serde(skip_serializing_if = "Vec::is_empty"))]
    pub calls: Vec<Call<'t>>,
    /// The finish reason.
    #[cfg_attr(test, serde(skip_serializing_if = "Option::is_none"))]
    pub finish: Option<Cow<'t, str>>,
}

/// A tool call.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize))]
pub struct Call<'t> {
    /// The tool.
    pub name: Cow<'t, str>,
    /// The arguments, as the model wrote them.
    pub arguments: Cow<'t, str>,
}

#[cfg(test)]
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Redacts and cuts texts.
struct Editor<'e> {
    redactor: Option<&'e Redactor>,
    longest: usize,
}

impl Editor<'_> {
    /// Redacted first, as a whole: a sensitive text must not be hidden by the cut.
    fn edit<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        let text = self.redactor.and_then(|redactor| redacted(redactor, &text)).map_or(text, Cow::Owned);
        if text.len() <= self.longest {
            return text;
        }
        let mut end = self.longest;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        Cow::Owned(format!("{}…[{} bytes cut]", &text[..end], text.len() - end))
    }

    /// A text that was broken off: its end may be a part of something sensitive.
    fn edit_unfinished<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        let sure = if self.redactor.is_none() { text.len() } else { sure(&text) };
        if sure == text.len() {
            self.edit(text)
        } else {
            Cow::Owned(self.edit(Cow::Borrowed(&text[..sure])).into_owned() + "…[broken off]")
        }
    }

    /// A text whose rest is not known; the result says so.
    fn edit_cut<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        let mut text = self.edit_unfinished(text);
        if !text.ends_with("[broken off]") && !text.ends_with(" bytes cut]") {
            text.to_mut().push_str("…[broken off]");
        }
        text
    }

    fn answered<'t>(&self, message: answer::Message<'t>, cut: bool) -> Message<'t> {
        let answer::Message { role, text, calls, finish } = message;
        let edit = |text: Cow<'t, str>| match () {
            () if cut => self.edit_cut(text),
            () if finish.is_some() => self.edit(text),
            () => self.edit_unfinished(text),
        };
        Message {
            role: self.edit(role),
            text: edit(text),
            attachments: 0,
            calls: calls.into_iter().map(|call| Call { name: self.edit(call.name), arguments: edit(call.arguments) }).collect(),
            finish: finish.map(|finish| self.edit(finish)),
        }
    }
}

/// A text without its sensitive parts; `None` if it stays as it is.
fn redacted(redactor: &Redactor, text: &str) -> Option<String> {
    match redactor.redact(text) {
        Cow::Borrowed(_) => None,
        Cow::Owned(redacted) => Some(redacted),
    }
}

/// The length of a text that was broken off that can be recorded: up to a possible beginning of a number, an address or
/// a key near its end.
fn sure(text: &str) -> usize {
    let begin = text.char_indices().rev().nth(UNSURE - 1).map_or(0, |(at, _)| at);
    // Words that began before that count as a whole.
    let begin = text[..begin].rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let odd = |word: &str| {
        word.len() >= LONG || word.contains(|c: char| c.is_numeric() || matches!(c, '@' | '_' | '=' | '+' | '＠' | '＿' | '＝' | '＋'))
    };
    let words = text[begin..].split_whitespace().filter(|word| odd(word));
    // The position of a word follows from its address.
    words.map(|word| word.as_ptr().addr() - text.as_ptr().addr()).next().unwrap_or(text.len())
}

/// Characters at the end of a broken-off text that are examined.
const UNSURE: usize = 40;
/// Words that may be keys.
const LONG: usize = 16;

/// Reads prompt and answer of a request, for `with`; texts are redacted, and cut to `longest` bytes each. Of an incomplete text the
/// received part is read; at its end there could be a part of something sensitive.
pub fn content<T>(
    api: Api,
    body: Option<Request<'_>>,
    answer: Option<Answer<'_>>,
    redactor: Option<&Redactor>,
    longest: usize,
    with: impl FnOnce(&Content<'_>) -> T,
) -> T {
    let editor = Editor { redactor, longest };
    let asked = body.and_then(Asked::of);
    let body_tree = asked.as_ref().and_then(|asked| Tree::parse(&asked.text));
    let prompt = body_tree.as_ref().and_then(|tree| prompt::read(api, tree));
    let plain = answer.and_then(|answer| answer::assembled(api, answer.bytes, answer.streamed));
    let whole = plain.as_deref().and_then(Tree::parse);
    // One that isn't whole, although it came to its end.
    let mended = answer.filter(|answer| whole.is_none() && !answer.streamed).and_then(|answer| mend(answer.bytes));
    let part = mended.as_ref().and_then(|mended| Tree::parse(&mended.text));
    let completion = whole.as_ref().or(part.as_ref()).and_then(|tree| answer::text(api, tree)).unwrap_or_default();
    let completion_cut = answer.is_some_and(|answer| answer.cut) || mended.is_some();
    let mut content = Content { prompt_cut: body.is_some_and(|body| body.cut), completion_cut, ..Content::default() };
    if let (Some(prompt), Some(asked)) = (prompt, &asked) {
        let edited = Edited { editor: &editor, unfinished: asked.unfinished.as_deref().filter(|cut| !cut.is_empty()) };
        content.prompt = Some(prompt.messages.into_iter().map(|message| edited.message(message)).collect());
        content.tools = prompt.tools.into_iter().map(|name| editor.edit(name)).collect();
    }
    content.completion = completion.into_iter().map(|message| editor.answered(message, completion_cut)).collect();
    with(&content)
}

/// A request's body as valid JSON.
struct Asked<'b> {
    text: Cow<'b, [u8]>,
    /// The string that was cut, as far as it was received.
    unfinished: Option<String>,
}

impl<'b> Asked<'b> {
    /// `None` if what is left of it can't be read.
    fn of(body: Request<'b>) -> Option<Self> {
        if !body.cut {
            return Some(Asked { text: Cow::Borrowed(body.bytes), unfinished: None });
        }
        mend(body.bytes).map(|mended| Asked { text: Cow::Owned(mended.text), unfinished: mended.unfinished })
    }
}

/// The messages of a prompt that may be incomplete.
struct Edited<'e> {
    editor: &'e Editor<'e>,
    /// The string that was cut, if something of it was received.
    unfinished: Option<&'e str>,
}

impl Edited<'_> {
    fn message<'t>(&self, message: prompt::Message<'t>) -> Message<'t> {
        let call = |call: prompt::Call<'t>| Call { name: self.text(call.name), arguments: self.arguments(call.arguments) };
        Message {
            role: message.role.name().into(),
            text: self.text(message.text),
            attachments: message.attachments,
            calls: message.calls.into_iter().map(call).collect(),
            finish: None,
        }
    }

    /// A text that ends with the unfinished string is the one that was cut.
    fn text<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        if self.unfinished.is_some_and(|cut| text.ends_with(cut)) { self.editor.edit_cut(text) } else { self.editor.edit(text) }
    }

    /// Arguments may be JSON that was closed after the cut.
    fn arguments<'t>(&self, text: Cow<'t, str>) -> Cow<'t, str> {
        let open = text.trim_end_matches(['}', ']']).strip_suffix('"').filter(|_| text.ends_with(['}', ']']));
        let Some((open, cut)) = open.zip(self.unfinished) else { return self.text(text) };
        let written = serde_json::Value::from(cut).to_string();
        if open.ends_with(written.trim_matches('"')) {
            return Cow::Owned(self.editor.edit_cut(Cow::Borrowed(open)).into_owned());
        }
        self.editor.edit(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt_log::redact::Class;

    fn edited(text: &str, unfinished: bool) -> String {
        let redactor = Redactor::new(&Class::NAMES.map(|(_, class)| class), &[]).unwrap();
        let editor = Editor { redactor: Some(&redactor), longest: 1000 };
        let text = Cow::Borrowed(text);
        if unfinished { editor.edit_unfinished(text) } else { editor.edit(text) }.into_owned()
    }

    #[test]
    fn escapes_hide_nothing() {
        assert_eq!(edited(r#"{"tel":"\u002B49 30 90182017"}"#, false), r#"{"tel":"[phone]"}"#);
        assert_eq!(edited(r#"{"to":"a\u0040b.example"}"#, false), r#"{"to":"[email]"}"#);
        for (text, expected) in [
            (r#"{"tel":"+49\u00a0170\u00a01234567"}"#, r#"{"tel":"[phone]"}"#),
            (r#"{"to":"a\njane@b.example"}"#, r#"{"to":"a\n[email]"}"#),
            (r#"{"to":"jos\u00e9@b.example\n"}"#, r#"{"to":"[email]\n"}"#),
            (r#"{"a":"{\"to\":\"x\\njane\\u0040b.example\"}"}"#, r#"{"a":"{\"to\":\"x\\n[email]\"}"}"#),
            (r#"{"a":"\u0041nna","to":"a@b.example"}"#, r#"{"a":"\u0041nna","to":"[email]"}"#),
        ] {
            assert_eq!(edited(text, false), expected);
            assert!(serde_json::from_str::<serde_json::Value>(expected).is_ok());
        }
        // Escapes of other characters, and invalid ones, stay unchanged.
        for text in [r#"{"a":"\u00e9\n\\u0040 \u0022x\""}"#, r"C:\users\u0", "\\u00zz", "a\\"] {
            assert_eq!(edited(text, false), text);
        }
    }

    #[test]
    fn what_is_broken_off_ends_before_what_may_be_half_a_number() {
        let text = "the account that you asked for, the one in Berlin, is DE89 3704 0044 0532";
        let kept = edited(text, true);
        assert!(!kept.contains("DE89") && kept.ends_with("…[broken off]"), "{kept}");
        assert_eq!(edited("half an", true), "half an");
        assert_eq!(edited("write to john.doe@", true), "write to …[broken off]");
        assert_eq!(edited("ä the key is ghp_CANARY", true), "ä the key is …[broken off]");
        assert_eq!(edited("write to john.doe＠exa", true), "write to …[broken off]");
        assert_eq!(edited("it is ４１１１ １１１１", true), "it is …[broken off]");
        assert_eq!(edited("", true), "");
    }

    /// What `with` finds in the record of a body.
    fn logged<T>(body: &str, cut: bool, with: impl FnOnce(&Content<'_>) -> T) -> T {
        let redactor = Redactor::new(&Class::NAMES.map(|(_, class)| class), &[]).unwrap();
        content(Api::Chat, Some(Request { bytes: body.as_bytes(), cut }), None, Some(&redactor), 1000, with)
    }

    fn texts(content: &Content<'_>) -> Vec<String> {
        content.prompt.iter().flatten().map(|message| message.text.to_string()).collect()
    }

    fn arguments(content: &Content<'_>) -> Vec<String> {
        content.prompt.iter().flatten().map(|message| message.calls[0].arguments.to_string()).collect()
    }

    #[test]
    fn of_a_prompt_that_is_cut_what_came_is_written() {
        let body = r#"{"messages":[{"role":"system","content":"be kind 4711"},{"role":"user","content":"the card is 4111 1111 1111"#;
        logged(body, true, |record| {
            assert_eq!(texts(record), ["be kind 4711", "the card is …[broken off]"]);
            assert!(record.prompt_cut && serde_json::to_string(&record).unwrap().contains("\"prompt_cut\":true"));
        });
        logged(&format!("{body} 1111\"}}]}}"), false, |whole| {
            assert_eq!(texts(whole)[1], "the card is [card]");
            assert!(!whole.prompt_cut);
        });
    }

    #[test]
    fn of_arguments_that_are_cut_no_half_number_stays() {
        let call = |arguments: &str| format!(r#"{{"role":"assistant","tool_calls":[{{"function":{{"name":"f","arguments":{arguments}"#);
        let body = format!(r#"{{"messages":[{}}}}}]}},{}"#, call(r#"{"x":"1 2 3"}"#), call(r#"{"list":[{"card":"4111 1111 1111"#));
        let calls = logged(&body, true, arguments);
        assert_eq!(calls[0], r#"{"x":"1 2 3"}"#);
        assert!(!calls[1].contains("1111") && calls[1].ends_with("…[broken off]"), "{}", calls[1]);
        // As a text of its own, too.
        let body = format!(r#"{{"messages":[{}"#, call(r#""{\"card\":\"4111 1111 1111"#));
        let calls = logged(&body, true, arguments);
        assert!(!calls[0].contains("1111"), "{calls:?}");
    }

    #[test]
    fn of_a_plain_answer_that_is_cut_what_came_is_written() {
        let redactor = Redactor::new(&Class::NAMES.map(|(_, class)| class), &[]).unwrap();
        let answer =
            br#"{"id":"x","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"pay to DE89 3704 0044"#;
        for cut in [true, false] {
            let answer = Some(Answer { bytes: answer, streamed: false, cut });
            content(Api::Chat, None, answer, Some(&redactor), 1000, |record| {
                assert_eq!(record.completion[0].text, "pay to …[broken off]", "a broken one, too");
                assert!(record.completion_cut);
            });
        }
    }
}
