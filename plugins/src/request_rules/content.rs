//! What a body has: messages, tools, images. Each is found in a fixed number of passes over the bytes, without a tree.
//!
//! The body was read before ([`crate::request::read_fields`]): it is an object, and the names that are used here occur
//! once. So reading it again can't fail.

use std::borrow::Cow;

use crate::api::Api;
use crate::json::{Interest, Kind, Reader, Value};
use crate::names::REQUEST;
use crate::offered::{Offer, offered};
use crate::walk::{Token, Tokens, Unreadable};

/// The list of messages in this API's requests, if they have one.
pub(super) fn messages_field(api: Api) -> Option<&'static str> {
    match api {
        Api::Chat | Api::Messages => Some("messages"),
        Api::Responses => Some("input"),
        _ => None,
    }
}

/// How many elements a member has; a member that is no list is one.
pub(super) fn count(body: &[u8], field: &str) -> u64 {
    let mut count = 0;
    members(body, |name, value| {
        if name == field && value.kind != Kind::Null {
            count = if value.kind == Kind::Array { elements(body, &value, |_| {}) } else { 1 };
        }
    });
    count
}

/// Deepest nesting of tools in tools: no API has more.
const DEEPEST: usize = 4;

/// How many tools a body offers, and the member with most of them.
///
/// # Errors
/// [`Unreadable`] if it is not known how many there are within the conversation.
pub(super) fn tools(body: &[u8]) -> Result<(&'static str, u64), Unreadable> {
    let mut counts: Vec<(&'static str, u64)> = Vec::new();
    offered(body, |field, offer| {
        let count = match offer {
            Offer::List(list) => tools_in(body, &list, DEEPEST),
            Offer::One(tool) => 1 + tools_of(body, &tool, DEEPEST),
            Offer::WebSearch => 1,
        };
        match counts.iter_mut().find(|(before, _)| *before == field) {
            Some((_, sum)) => *sum += count,
            None => counts.push((field, count)),
        }
    })?;
    // The first one of those with most.
    let most = counts.iter().rev().max_by_key(|(_, count)| *count).map_or("tools", |(field, _)| field);
    Ok((most, counts.iter().map(|(_, count)| count).sum()))
}

/// The tools of a list. A namespace counts as a tool, and so does each tool in it.
fn tools_in(body: &[u8], list: &Value, deepest: usize) -> u64 {
    if list.kind != Kind::Array {
        return 0;
    }
    let mut inner = 0;
    let own = elements(body, list, |tool| inner += tools_of(body, &tool, deepest));
    own + inner
}

/// The tools in a tool.
fn tools_of(body: &[u8], tool: &Value, deepest: usize) -> u64 {
    let mut inner = 0;
    if tool.kind == Kind::Object && deepest > 0 {
        let _ = Reader::within(body, tool).object(|name, value| {
            if name == "tools" {
                inner += tools_in(body, &value, deepest - 1);
            }
        });
    }
    inner
}

/// The one of two members that has the larger number; the first one if none has.
pub(super) fn larger(body: &[u8], first: &'static str, second: &'static str) -> &'static str {
    let (mut one, mut other) = (0, 0);
    members(body, |name, value| {
        let number = value.as_u64(body).unwrap_or(0);
        if name == first {
            one = number;
        } else if name == second {
            other = number;
        }
    });
    if other > one { second } else { first }
}

/// Types of parts and items that are images, in all APIs.
const IMAGES: [&str; 5] = ["image_url", "input_image", "image", "computer_screenshot", "image_generation_call"];

/// Members that are images, whatever type they are in: some backends need none for an `image_url`, and a tool that makes images
/// can have a mask.
const NAMED: [&str; 2] = ["image_url", "input_image_mask"];

/// Words without which a body has no image.
static WORDS: Interest = Interest::new(&NAMED, &IMAGES);

/// Members that can have images.
const PROMPTS: [&str; 5] = ["messages", "input", "prompt", "system", "tools"];

/// The member with the first image, if there is one.
///
/// # Errors
/// A member that can be read in two ways.
pub(super) fn image(body: &[u8]) -> Result<Option<&'static str>, &'static str> {
    let mut reader = Reader::watching(body, &WORDS);
    let mut prompts = Vec::new();
    let _ = reader.object(|name, value| prompts.extend(PROMPTS.iter().find(|prompt| **prompt == name).map(|name| (*name, value))));
    if !reader.noticed() {
        return Ok(None);
    }
    for (field, value) in prompts {
        if has_image(value.bytes(body)).map_err(|_| field)? {
            return Ok(Some(field));
        }
    }
    Ok(None)
}

/// Whether a JSON text has an image. What only the caller understands, such as the arguments of a call, is not looked at.
fn has_image(text: &[u8]) -> Result<bool, Unreadable> {
    let mut tokens = Tokens::new(text)?;
    let mut name = Cow::Borrowed("");
    let mut own: Option<usize> = None;
    while let Some(token) = tokens.token()? {
        if let Some(depth) = own {
            own = (tokens.depth() > depth).then_some(depth);
            continue;
        }
        let is_image = match &token {
            Token::Text(text) => NAMED.contains(&&*name) || (name == "type" && IMAGES.contains(&&**text)),
            Token::Object => NAMED.contains(&&*name),
            _ => false,
        };
        if is_image {
            return Ok(true);
        }
        if matches!(token, Token::Object | Token::Array) && (REQUEST.apart)(name.as_bytes(), token == Token::Object) {
            own = Some(tokens.depth() - 1);
        }
        name = if let Token::Name(next) = token { next } else { Cow::Borrowed("") };
    }
    Ok(false)
}

fn members(body: &[u8], member: impl FnMut(&str, Value)) {
    let _ = Reader::new(body).object(member);
}

fn elements(body: &[u8], list: &Value, mut element: impl FnMut(Value)) -> u64 {
    let mut count = 0;
    let _ = Reader::within(body, list).array(|value| {
        count += 1;
        element(value);
    });
    count
}
