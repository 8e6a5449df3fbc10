//! Reads an event of any API.

use serde_json::Value;

use super::side::{Difference, Found, Side};
use super::{chat, messages, responses};
use crate::api::Api;

/// Reads an event, and removes what was sent already.
pub(super) fn walk(api: Api, name: &[u8], event: &mut Value, side: &mut impl Side) -> Result<Found, Difference> {
    let Value::Object(event) = event else { return Err(Difference::Unreadable) };
    match api {
        Api::Responses => responses::walk(name, event, side),
        Api::Messages => messages::walk(name, event, side),
        _ => chat::walk(event, side),
    }
}
