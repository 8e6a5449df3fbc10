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
        let text = self.redactor.map_or(Cow::Borrowed(text), |redactor| redactor.redact(text));
        if text.len() <= self.longest {
            return text.into_owned();
        }
        let mut end = self.longest;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        format!("{}…[{} bytes cut]", &text[..end], text.len() - end)
    }
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
    let answered = |message: &answer::Message| Message {
        role: editor.edit(&message.role).into(),
        text: editor.edit(&message.text),
        attachments: 0,
        calls: message.calls.iter().map(|call| Call { name: editor.edit(&call.name), arguments: editor.edit(&call.arguments) }).collect(),
        finish: message.finish.as_deref().map(|finish| editor.edit(finish)),
    };
    let completion = answer.map(|(bytes, streamed)| answer::text(api, bytes, streamed)).unwrap_or_default();
    Content { prompt, tools, completion: completion.iter().map(answered).collect() }
}
