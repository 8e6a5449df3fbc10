//! Parameters of a request set, defaulted, capped or removed, and a system prompt put first, by splicing the
//! caller's bytes: what isn't touched stays as it was.

mod headers;
mod splice;
mod system;

use serde_json::Value as Json;

use crate::api::Api;
use crate::json::{Kind, Reader, Value};
pub use headers::{HeaderChanges, is_protected};
use splice::Splices;

/// Names under which an API may take its completion cap: a cap on one is a cap on all.
const COMPLETION_CAPS: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];

/// Members that the gateway itself acts on: they are not to be changed.
pub const PROTECTED: [&str; 7] = ["model", "stream", "stream_options", "messages", "input", "prompt", "system"];

/// What becomes of a request's body. Values are JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Transform {
    /// Members that get this value, whatever the caller says.
    pub set: Vec<(String, Json)>,
    /// Members that get this value where the caller says nothing.
    pub default: Vec<(String, Json)>,
    /// The most that a numeric member may say.
    pub cap: Vec<(String, f64)>,
    /// Members that are taken out.
    pub remove: Vec<String>,
    /// A system prompt that stands before everything else.
    pub system: Option<String>,
}

/// A member of the body's top level.
struct Member {
    name: String,
    value: Value,
}

impl Transform {
    /// Whether it changes nothing, whatever comes.
    pub fn is_empty(&self) -> bool {
        *self == Transform::default()
    }

    /// The body as it goes on, if it changes. `body` must be a valid JSON object; anything else stays as it is.
    pub fn apply(&self, api: Api, body: &[u8]) -> Option<Vec<u8>> {
        let mut members = Vec::new();
        Reader::new(body).object(|name, value| members.push(Member { name: name.to_owned(), value })).ok()?;
        let mut splices = Splices::new(body);
        for (name, value) in &self.set {
            set(&mut splices, &members, name, value);
        }
        for (name, value) in self.default.iter().filter(|(name, _)| !self.set.iter().any(|(other, _)| other == name)) {
            if !is_given(&members, name) {
                set(&mut splices, &members, name, value);
            }
        }
        for (name, most) in &self.cap {
            self.cap(&mut splices, body, &members, name, *most);
        }
        for name in &self.remove {
            members.iter().filter(|member| member.name == *name).for_each(|member| splices.remove(&member.value));
        }
        if let Some(text) = &self.system {
            system::put_first(&mut splices, api, body, &members, text);
        }
        splices.finish(members.is_empty())
    }

    fn cap(&self, splices: &mut Splices<'_>, body: &[u8], members: &[Member], name: &str, most: f64) {
        let one = [name];
        let names: &[&str] = if COMPLETION_CAPS.contains(&name) { &COMPLETION_CAPS } else { &one };
        for member in members.iter().filter(|member| names.contains(&member.name.as_str()) && member.value.kind == Kind::Number) {
            let given: Option<f64> = std::str::from_utf8(member.value.bytes(body)).ok().and_then(|text| text.parse().ok());
            if given.is_none_or(|given| given > most) && !self.set.iter().any(|(other, _)| *other == member.name) {
                splices.replace(&member.value, number(most));
            }
        }
    }
}

/// Whole numbers without a point: token counts with one are refused.
fn number(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 { format!("{value:.0}") } else { value.to_string() }
}

fn is_given(members: &[Member], name: &str) -> bool {
    members.iter().any(|member| member.name == name && member.value.kind != Kind::Null)
}

/// Every member of this name gets the value; one is put in if there is none.
fn set(splices: &mut Splices<'_>, members: &[Member], name: &str, value: &Json) {
    let mut found = members.iter().filter(|member| member.name == name).peekable();
    if found.peek().is_none() {
        return splices.insert_member(name, &value.to_string());
    }
    found.for_each(|member| splices.replace(&member.value, value.to_string()));
}

#[cfg(test)]
mod tests;
