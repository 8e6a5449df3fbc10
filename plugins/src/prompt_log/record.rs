//! Prompt and answer of one request, as they are written down.

use std::borrow::Cow;

use serde::Serialize;

use super::redact::Redactor;
use crate::api::Api;
use crate::{answer, prompt};

/// Prompt and answer, redacted and cut.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Content {
    /// What was asked, message by message; absent if it can't be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<Vec<Message>>,
    /// Names of the tools that were offered.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<String>,
    /// What was answered, choice by choice.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub completion: Vec<Message>,
}

/// A message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: Cow<'static, str>,
    /// Its text.
    pub text: String,
    /// Images, sounds and files in it.
    #[serde(skip_serializing_if = "is_zero")]
    pub attachments: usize,
    /// The calls that it makes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub calls: Vec<Call>,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finish: Option<String>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Call {
    /// The tool.
    pub name: String,
    /// With what, as the model wrote it.
    pub arguments: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// Makes texts fit to be kept.
struct Editor<'e> {
    redactor: Option<&'e Redactor>,
    longest: usize,
}

impl Editor<'_> {
    /// Redacted as a whole first: what is to go must not hide behind the cut.
    fn edit(&self, text: &str) -> String {
        let text = self.redactor.map_or(Cow::Borrowed(text), |redactor| Cow::Owned(redactor.redact(&unescaped(text)).into_owned()));
        if text.len() <= self.longest {
            return text.into_owned();
        }
        let mut end = self.longest;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}…[{} bytes cut]", &text[..end], text.len() - end)
    }

    /// A text that was broken off: what stands at its end may be the half of something that would have had to go.
    fn edit_unfinished(&self, text: &str) -> String {
        if self.redactor.is_none() {
            return self.edit(text);
        }
        let sure = sure(text);
        if sure == text.len() { self.edit(text) } else { self.edit(&text[..sure]) + "…[broken off]" }
    }
}

/// How far a text that was broken off can be written: up to what may be the beginning of a number, an address or a key,
/// near its end.
fn sure(text: &str) -> usize {
    let begin = text.char_indices().rev().nth(UNSURE - 1).map_or(0, |(at, _)| at);
    // Words that began before count as a whole.
    let begin = text[..begin].rfind(char::is_whitespace).map_or(0, |at| at + 1);
    let odd = |word: &str| word.len() >= LONG || word.contains(|c: char| c.is_ascii_digit() || matches!(c, '@' | '_' | '=' | '+'));
    let words = text[begin..].split_whitespace().filter(|word| odd(word));
    // Where a word stands, its address tells.
    words.map(|word| word.as_ptr().addr() - text.as_ptr().addr()).next().unwrap_or(text.len())
}

/// Characters at the end of a text that was broken off which are looked at.
const UNSURE: usize = 40;
/// Words that may be keys.
const LONG: usize = 16;

/// Without the escapes of a JSON text within the text: what is escaped must not hide.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains("\\u00") && !text.contains("\\/") {
        return Cow::Borrowed(text);
    }
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let code = rest.strip_prefix("\\u").and_then(|rest| rest.get(..4)).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let (shown, length) = match code {
            // Printable ASCII, but for what would break the JSON around it.
            Some(byte @ (b' '..=b'!' | b'#'..=b'[' | b']'..=b'~')) => (char::from(byte), 6),
            _ if rest.starts_with("\\/") => ('/', 2),
            _ => ('\\', 1),
        };
        plain.push(shown);
        rest = &rest[length..];
        // A backslash that is escaped escapes nothing.
        if length == 1 && rest.starts_with('\\') {
            plain.push('\\');
            rest = &rest[1..];
        }
    }
    plain.push_str(rest);
    Cow::Owned(plain)
}

/// Reads prompt and answer of a request; texts are redacted, and cut to `longest` bytes each.
pub fn content(api: Api, body: Option<&[u8]>, answer: Option<(&[u8], bool)>, redactor: Option<&Redactor>, longest: usize) -> Content {
    let editor = Editor { redactor, longest };
    let read = body.and_then(|body| prompt::read(api, body));
    let tools = read.iter().flat_map(|prompt| &prompt.tools).map(|name| editor.edit(name)).collect();
    let asked = |message: &prompt::Message| Message {
        role: message.role.name().into(),
        text: editor.edit(&message.text),
        attachments: message.attachments,
        calls: message.calls.iter().map(|call| Call { name: editor.edit(&call.name), arguments: editor.edit(&call.arguments) }).collect(),
        finish: None,
    };
    let prompt = read.as_ref().map(|prompt| prompt.messages.iter().map(asked).collect());
    let answered = |message: &answer::Message| {
        let edit = |text: &str| if message.finish.is_some() { editor.edit(text) } else { editor.edit_unfinished(text) };
        Message {
            role: editor.edit(&message.role).into(),
            text: edit(&message.text),
            attachments: 0,
            calls: message.calls.iter().map(|call| Call { name: editor.edit(&call.name), arguments: edit(&call.arguments) }).collect(),
            finish: message.finish.as_deref().map(|finish| editor.edit(finish)),
        }
    };
    let completion = answer.map(|(bytes, streamed)| answer::text(api, bytes, streamed)).unwrap_or_default();
    Content { prompt, tools, completion: completion.iter().map(answered).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt_log::redact::Class;

    fn edited(text: &str, unfinished: bool) -> String {
        let redactor = Redactor::new(&Class::NAMES.map(|(_, class)| class), &[]).unwrap();
        let editor = Editor { redactor: Some(&redactor), longest: 1000 };
        if unfinished { editor.edit_unfinished(text) } else { editor.edit(text) }
    }

    #[test]
    fn escapes_hide_nothing() {
        assert_eq!(edited(r#"{"tel":"\u002B49 30 90182017"}"#, false), r#"{"tel":"[phone]"}"#);
        assert_eq!(edited(r#"{"to":"a\u0040b.example"}"#, false), r#"{"to":"[email]"}"#);
        // What is no escape of something hidden stays as it was.
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
        assert_eq!(edited("", true), "");
    }
}
