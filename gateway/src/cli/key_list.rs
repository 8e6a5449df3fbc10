//! `spillway keys list`: the keys that the running gateway knows, those of its config and those that it has issued.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::{Value, json};
use spillway_plugins::auth::Validity;

use super::admin::{self, Connection};
use super::load::load_with;
use crate::clock::Clock;
use crate::config::{Config, identifier};
use crate::issued_keys::state as key_state;

#[derive(Debug, Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    connection: Connection,
    /// Print the gateway's answer as JSON.
    #[arg(long)]
    json: bool,
}

/// What stands for nothing.
const NONE: &str = "-";

/// Without an answer of the gateway, the keys of the config are listed all the same; what only the gateway knows is lacking.
pub(super) fn list(arguments: &ListArguments) -> ExitCode {
    let ListArguments { connection, json } = arguments;
    let answer = match admin::get(connection, "/api/keys") {
        Ok(answer) => answer,
        Err(code) => return code,
    };
    let now = Clock::new().wall();
    match answer {
        Ok(answer) if *json => outln!("{answer}"),
        Ok(answer) => print(answer["keys"].as_array().into_iter().flatten().map(|key| row(key, now, "not since the start"))),
        Err(error) => {
            if !json {
                let Ok(config) = load_with(&connection.config, &[]) else { return ExitCode::from(2) };
                print(of_config(&config, now.timestamp()).iter().map(|key| row(key, now, "?")));
                errln!(
                    "\nOnly the keys of the config are listed: the gateway knows when keys were last used, and which ones it has issued."
                );
            }
            errln!("spillway: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// The keys of a config, in the form of `GET /api/keys`.
fn of_config(config: &Config, now: i64) -> Vec<Value> {
    let keys = config.consumers.iter().flat_map(|consumer| consumer.keys.iter().map(move |key| (consumer, key)));
    keys.map(|(consumer, key)| {
        let Validity { not_before, expires } = key.validity;
        json!({
            "consumer": &*consumer.name, "id": identifier(&key.stored), "hint": key.hint, "created": key.created,
            "not_before": not_before, "expires": expires, "state": key_state(key.validity, false, true, now),
        })
    })
    .collect()
}

type Row = [String; 8];

const HEADS: [&str; 8] = ["consumer", "key", "id", "label", "owner", "age", "state", "last use"];

/// A key of `GET /api/keys`; `unused` is said of one without a last use.
fn row(key: &Value, now: DateTime<Utc>, unused: &str) -> Row {
    let text = |name: &str| key[name].as_str().unwrap_or(NONE).to_owned();
    let age = key["created"].as_i64().map_or_else(|| NONE.to_owned(), |at| days(now.timestamp() - at));
    let last_use = key["last_use"].as_i64().map_or_else(|| unused.to_owned(), |at| ago(at, now));
    [text("consumer"), text("hint"), text("id"), text("label"), text("owner"), age, state(key), last_use]
}

/// The API's word for a key's state, and the day that belongs to it.
fn state(key: &Value) -> String {
    let word = key["state"].as_str().unwrap_or(NONE);
    let (before, at) = match word {
        "revoked" | "expired" => (" ", &key[if word == "revoked" { "revoked" } else { "expires" }]),
        "not yet" => (", from ", &key["not_before"]),
        "valid" => (" until ", &key["expires"]),
        _ => ("", &Value::Null),
    };
    at.as_i64().map_or_else(|| word.to_owned(), |at| format!("{word}{before}{}", day(at)))
}

/// Prints rows below their heads; each column is as wide as its longest text.
fn print(rows: impl Iterator<Item = Row>) {
    let rows: Vec<Row> = [HEADS.map(str::to_owned)].into_iter().chain(rows).collect();
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max().unwrap_or(0);
    let widths: [usize; 8] = std::array::from_fn(width);
    for row in &rows {
        let cells: Vec<String> = row.iter().zip(widths).map(|(text, width)| format!("{text:<width$}")).collect();
        outln!("{}", cells.join("  ").trim_end());
    }
}

fn day(at: i64) -> String {
    DateTime::from_timestamp(at, 0).map_or_else(String::new, |at| at.format("%Y-%m-%d").to_string())
}

fn days(seconds: i64) -> String {
    match seconds / 86_400 {
        ..=0 => "today".to_owned(),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

fn ago(at: i64, now: DateTime<Utc>) -> String {
    match now.timestamp() - at {
        ..=59 => "just now".to_owned(),
        seconds @ 60..3600 => format!("{} min ago", seconds / 60),
        seconds @ 3600..86_400 => format!("{} h ago", seconds / 3600),
        seconds => format!("{} ago", days(seconds)),
    }
}
