//! Sets, defaults, caps or removes parameters of a request, and puts a system prompt first, by splicing the caller's
//! bytes: the rest stays unchanged.

mod headers;
mod member;
mod splice;
mod system;

use serde_json::Value as Json;

use crate::api::Api;
use crate::json::{Kind, Reader, Value};
pub use headers::{HeaderChanges, is_protected};
use member::Member;
use splice::Splices;

/// The names of the completion cap in the APIs: a rule for one applies to all.
const COMPLETION_CAPS: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];

/// Members that the gateway itself uses, or that contain the prompt: they must not be changed.
pub const PROTECTED: [&str; 8] = ["model", "stream", "stream_options", "messages", "input", "prompt", "system", "instructions"];

/// Changes to a request's body. Values are JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transform {
    /// Members that get this value, whatever the caller sends.
    pub set: Vec<(String, Json)>,
    /// Members that get this value if the caller sends none.
    pub default: Vec<(String, Json)>,
    /// The maximum of a numeric member.
    pub cap: Vec<(String, f64)>,
    /// Members that are removed.
    pub remove: Vec<String>,
    /// A system prompt that is put before everything else.
    pub system: Option<String>,
}

impl Transform {
    /// Whether it never changes anything.
    pub fn is_empty(&self) -> bool {
        let Transform { set, default, cap, remove, system } = self;
        set.is_empty() && default.is_empty() && cap.is_empty() && remove.is_empty() && system.is_none()
    }

    /// The changed body, if it changes. Only APIs that answer with texts have such parameters; `body` must be a valid
    /// JSON object. Other requests stay unchanged.
    pub fn apply(&self, api: Api, body: &[u8]) -> Option<Vec<u8>> {
        if !api.writes_texts() {
            return None;
        }
        let (mut members, mut total, mut after) = (Vec::new(), 0, 0);
        let read = |name: &str, value: Value| {
            let end = value.range.end;
            // Only members that may change: a body can have a member for every six of its bytes.
            if self.looks_at(name) {
                members.push(Member { name: name.to_owned(), value, index: total, after });
            }
            (total, after) = (total + 1, end);
        };
        Reader::new(body).object(read).ok()?;
        let mut splices = Splices::new(body);
        for (name, value) in &self.set {
            set(&mut splices, api, &members, name, value);
        }
        let is_set = |name: &str| self.set.iter().any(|(other, _)| alike(other, name));
        for (name, value) in self.default.iter().filter(|(name, _)| !is_set(name) && !is_given(&members, name)) {
            set(&mut splices, api, &members, name, value);
        }
        for (name, most) in self.cap.iter().filter(|(name, _)| !is_set(name)) {
            self.cap(&mut splices, api, body, &members, name, *most);
        }
        splices.remove(members.iter().filter(|member| self.remove.contains(&member.name)), total);
        if let Some(text) = &self.system {
            system::put_first(&mut splices, api, body, &members, text);
        }
        splices.finish()
    }

    /// Whether a member with this name may change.
    fn looks_at(&self, name: &str) -> bool {
        let valued = self.set.iter().chain(&self.default).map(|(other, _)| other).chain(self.cap.iter().map(|(other, _)| other));
        let prompt = self.system.is_some() && ["messages", "instructions", "system"].contains(&name);
        prompt || valued.chain(&self.remove).any(|other| alike(other, name))
    }

    /// A larger value, or one that is not a number, becomes the cap. A completion cap is added if there is none:
    /// without one a model may generate as much as it can.
    fn cap(&self, splices: &mut Splices<'_>, api: Api, body: &[u8], members: &[Member], name: &str, most: f64) {
        let given = members.iter().filter(|member| alike(&member.name, name) && member.value.kind != Kind::Null);
        for member in given {
            let number = std::str::from_utf8(member.value.bytes(body)).ok().and_then(|text| text.parse::<f64>().ok());
            if member.value.kind != Kind::Number || number.is_none_or(|given| given > most) {
                splices.replace(&member.value, self::number(most));
            }
        }
        let defaulted = self.default.iter().any(|(other, _)| alike(other, name));
        if COMPLETION_CAPS.contains(&name) && !is_given(members, name) && !defaulted {
            set(splices, api, members, name, &Json::from(most as u64));
        }
    }
}

/// Whether two members have the same meaning.
fn alike(one: &str, other: &str) -> bool {
    one == other || (COMPLETION_CAPS.contains(&one) && COMPLETION_CAPS.contains(&other))
}

/// The name of a member in an API.
fn name_in(api: Api, name: &str) -> &str {
    match api {
        Api::Responses if COMPLETION_CAPS.contains(&name) => "max_output_tokens",
        Api::Completions | Api::Messages if COMPLETION_CAPS.contains(&name) => "max_tokens",
        Api::Chat if name == "max_output_tokens" => "max_completion_tokens",
        _ => name,
    }
}

/// Whole numbers without a decimal point: APIs refuse token counts with one.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.0}") } else { value.to_string() }
}

fn is_given(members: &[Member], name: &str) -> bool {
    members.iter().any(|member| alike(&member.name, name) && member.value.kind != Kind::Null)
}

/// Every member with this meaning gets the value; if there is none, it is added.
fn set(splices: &mut Splices<'_>, api: Api, members: &[Member], name: &str, value: &Json) {
    let mut found = members.iter().filter(|member| alike(&member.name, name)).peekable();
    if found.peek().is_none() {
        return splices.insert_member(name_in(api, name), &value.to_string());
    }
    found.for_each(|member| splices.replace(&member.value, value.to_string()));
}

#[cfg(test)]
mod tests;
