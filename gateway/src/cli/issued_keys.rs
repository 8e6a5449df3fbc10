//! `spillway keys issue`, `revoke` and `rotate`: keys of a running gateway, through its admin listener.

use std::process::ExitCode;

use clap::Args;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::admin::{self, Connection};

#[derive(Debug, Args)]
pub(super) struct IssueArguments {
    /// The consumer that gets the key.
    #[arg(long, value_name = "NAME")]
    consumer: String,
    /// What people call the key, such as the application or the machine that uses it.
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// When the key expires: a duration such as 90d, or a date such as 2027-01-31. Default: never.
    #[arg(long, value_name = "WHEN")]
    expires: Option<String>,
    /// When the key becomes valid. Default: now.
    #[arg(long, value_name = "WHEN")]
    not_before: Option<String>,
    /// The models that the key may be used for, separated by commas. Default: all of the consumer.
    #[arg(long, value_name = "MODELS", value_delimiter = ',')]
    models: Option<Vec<String>>,
    #[command(flatten)]
    connection: Connection,
    /// Print the gateway's answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RevokeArguments {
    /// The key's id, as `keys list` shows it.
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    connection: Connection,
    /// Print the gateway's answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub(super) struct RotateArguments {
    /// The old key's id, as `keys list` shows it.
    #[arg(value_name = "ID")]
    id: String,
    /// How long the old key is still valid. Default: 24h.
    #[arg(long, value_name = "DURATION")]
    grace: Option<String>,
    #[command(flatten)]
    connection: Connection,
    /// Print the gateway's answer as JSON.
    #[arg(long)]
    json: bool,
}

/// The key of an answer, as text for people.
fn key(answer: &Value) -> String {
    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
    errln!("The key {} of '{}', shown only now and stored nowhere:", text("id"), text("consumer"));
    text("key")
}

/// The path of a key, and of what is done to it.
fn path(id: &str, rest: &str) -> String {
    format!("/api/keys/{}{rest}", utf8_percent_encode(id, &KEEP))
}

/// An id has only letters, digits and hyphens. All else is encoded, and then unknown.
const KEEP: percent_encoding::AsciiSet = NON_ALPHANUMERIC.remove(b'-');

pub(super) fn issue(arguments: &IssueArguments) -> ExitCode {
    let IssueArguments { consumer, label, expires, not_before, models, connection, json } = arguments;
    let mut body = Map::from_iter([("consumer".to_owned(), json!(consumer))]);
    for (name, given) in [("label", label), ("expires", expires), ("not_before", not_before)] {
        body.extend(given.as_ref().map(|text| (name.to_owned(), json!(text))));
    }
    body.extend(models.as_ref().map(|models| ("models".to_owned(), json!(models))));
    let format = |answer: &Value| if *json { answer.to_string() } else { key(answer) };
    admin::send(connection, Method::POST, "/api/keys", &Value::Object(body), format)
}

pub(super) fn revoke(arguments: &RevokeArguments) -> ExitCode {
    let RevokeArguments { id, connection, json } = arguments;
    let format = |answer: &Value| if *json { answer.to_string() } else { format!("{id} is revoked") };
    admin::ask(connection, Method::DELETE, &path(id, ""), format)
}

pub(super) fn rotate(arguments: &RotateArguments) -> ExitCode {
    let RotateArguments { id, grace, connection, json } = arguments;
    let body = grace.as_ref().map_or_else(|| json!({}), |grace| json!({ "grace": grace }));
    let format = |answer: &Value| if *json { answer.to_string() } else { key(answer) };
    admin::send(connection, Method::POST, &path(id, "/rotate"), &body, format)
}
