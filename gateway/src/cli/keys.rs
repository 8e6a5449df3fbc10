//! `spillway keys`: makes keys, and shows those that a config has.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde_json::Value;
use spillway_plugins::auth::{Pepper, Validity, digest, key_text};

use crate::clock::Clock;
use crate::config::{Config, identifier};
use crate::http_client;
use crate::issued_keys::{self, random_key};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// Make a key: prints the key once, and the line for the config.
    New {
        /// The consumer that gets it.
        #[arg(long, value_name = "NAME")]
        consumer: String,
        /// When the key expires: a duration such as 90d, or a date such as 2027-01-31.
        #[arg(long, value_name = "WHEN")]
        expires: Option<String>,
        /// When the key becomes valid.
        #[arg(long, value_name = "WHEN")]
        not_before: Option<String>,
        /// The config file: its consumers are looked up, and its pepper is used.
        #[arg(short, long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Issue a key at the running gateway: prints the key, once. It works at once, and without a change of the config.
    Issue(super::issued_keys::IssueArguments),
    /// Revoke a key that was issued at the running gateway.
    Revoke(super::issued_keys::RevokeArguments),
    /// Issue a key in the place of another one, which stays valid for a while.
    Rotate(super::issued_keys::RotateArguments),
    /// List the keys of a config, and those that its running gateway has issued: consumer, age, and when last used.
    List {
        /// The config file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
}

pub(super) fn run(command: KeysCommand) -> ExitCode {
    let done = match command {
        KeysCommand::New { consumer, expires, not_before, config } => new(&consumer, expires.as_deref(), not_before.as_deref(), config),
        KeysCommand::Issue(arguments) => Ok(super::issued_keys::issue(&arguments)),
        KeysCommand::Revoke(arguments) => Ok(super::issued_keys::revoke(&arguments)),
        KeysCommand::Rotate(arguments) => Ok(super::issued_keys::rotate(&arguments)),
        KeysCommand::List { config } => list(&config),
    };
    done.unwrap_or_else(|error| {
        eprintln!("spillway keys: {error}");
        ExitCode::from(2)
    })
}

fn new(consumer: &str, expires: Option<&str>, not_before: Option<&str>, config: Option<PathBuf>) -> Result<ExitCode, String> {
    let now = Clock::new().wall();
    let (from, until) = (not_before.map(|text| when(text, now)).transpose()?, expires.map(|text| when(text, now)).transpose()?);
    if let (Some(until), from) = (until, from.unwrap_or(now))
        && until <= from
    {
        return Err("the key would never be valid: --expires is not after --not-before".to_owned());
    }
    let pepper = match config {
        None => None,
        Some(path) => {
            let Ok(config) = super::load(&path) else { return Ok(ExitCode::from(2)) };
            if !config.consumers.iter().any(|known| *known.name == *consumer) {
                let names: Vec<&str> = config.consumers.iter().map(|known| &*known.name).collect();
                return Err(format!("there is no consumer '{consumer}' in {} (known: {})", path.display(), names.join(", ")));
            }
            config.plugins.auth.pepper
        }
    };
    let NewKey { key, line } = make(pepper.as_ref(), from, until, now)?;
    eprintln!("The key of '{consumer}', shown only now and stored nowhere:");
    println!("{key}");
    eprintln!("\nA line for 'keys' of [[consumers]] name = \"{consumer}\":");
    println!("{line},");
    Ok(ExitCode::SUCCESS)
}

/// A key, and the entry for `keys` of its consumer.
pub(super) struct NewKey {
    pub(super) key: String,
    pub(super) line: String,
}

/// Makes a key.
///
/// # Errors
/// If the system has no random numbers.
pub(super) fn make(
    pepper: Option<&Pepper>,
    from: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Result<NewKey, String> {
    let key = random_key().map_err(|error| error.to_string())?;
    let (name, digest) = match pepper {
        Some(pepper) => ("hmac_sha256", pepper.digest(key.as_bytes())),
        None => ("sha256", digest(key.as_bytes())),
    };
    let mut line = format!("{{ {name} = \"{digest}\", hint = \"{}\", created = \"{}\"", key_text::hint(&key), now.format("%Y-%m-%d"));
    for (name, at) in [("not_before", from), ("expires", until)] {
        if let Some(at) = at {
            line += &format!(", {name} = \"{}\"", at.format("%Y-%m-%dT%H:%M:%SZ"));
        }
    }
    line += " }";
    Ok(NewKey { key, line })
}

/// A time as the config writes it, or a duration from now.
fn when(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    issued_keys::when(text, now).ok_or_else(|| format!("'{text}' is neither a duration such as 90d nor a date such as 2027-01-31"))
}

fn list(path: &std::path::Path) -> Result<ExitCode, String> {
    let Ok(config) = super::load(path) else { return Ok(ExitCode::from(2)) };
    let now = Clock::new().wall();
    let known = known_keys(&config);
    println!("{:<24} {:<16} {:<21} {:<10} {:<22} last use", "consumer", "key", "id", "age", "state");
    let last_use = |at: Option<i64>| at.map_or_else(|| "not since the start".to_owned(), |at| ago(at, now));
    for (consumer, key) in config.consumers.iter().flat_map(|consumer| consumer.keys.iter().map(move |key| (consumer, key))) {
        let id = identifier(&key.stored);
        let last = match &known {
            Ok(known) => last_use(known.iter().find(|known| known["id"] == *id).and_then(|known| known["last_use"].as_i64())),
            Err(_) => "?".to_owned(),
        };
        let hint = key.hint.clone().unwrap_or_else(|| id.clone());
        let age = key.created.map_or_else(|| "?".to_owned(), |at| days(now.timestamp() - at));
        println!("{:<24} {hint:<16} {id:<21} {age:<10} {:<22} {last}", consumer.name, state(key.validity, now.timestamp()));
    }
    for key in known.iter().flatten().filter(|key| key["source"] == "issued") {
        let text = |name: &str| key[name].as_str().unwrap_or("?");
        let validity = Validity { not_before: key["not_before"].as_i64(), expires: key["expires"].as_i64() };
        let state = match (key["revoked"].as_i64(), text("state")) {
            (Some(at), _) => format!("revoked {}", day(at)),
            (None, "no consumer") => "consumer not in config".to_owned(),
            _ => state(validity, now.timestamp()),
        };
        let age = key["created"].as_i64().map_or_else(|| "?".to_owned(), |at| days(now.timestamp() - at));
        let last = last_use(key["last_use"].as_i64());
        println!("{:<24} {:<16} {:<21} {age:<10} {state:<22} {last}", text("consumer"), text("hint"), text("id"));
    }
    if let Err(error) = known {
        eprintln!("\nThe running gateway, which knows when keys were last used and which keys it has issued, gave no answer: {error}");
    }
    Ok(ExitCode::SUCCESS)
}

fn day(at: i64) -> String {
    DateTime::from_timestamp(at, 0).map_or_else(String::new, |at| at.format("%Y-%m-%d").to_string())
}

fn state(validity: Validity, now: i64) -> String {
    match validity {
        Validity { not_before: Some(from), .. } if now < from => format!("from {}", day(from)),
        Validity { expires: Some(until), .. } if until <= now => format!("expired {}", day(until)),
        Validity { expires: Some(until), .. } => format!("until {}", day(until)),
        Validity { .. } => "good".to_owned(),
    }
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

/// The keys that the running gateway knows, from its admin listener.
fn known_keys(config: &Config) -> Result<Vec<Value>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let client = http_client::local().map_err(|error| error.to_string())?;
        let mut request = client.get(format!("http://{}/api/keys", config.server.admin)).timeout(Duration::from_secs(2));
        if let Some(token) = &config.server.admin_token {
            request = request.bearer_auth(token.expose());
        }
        let answer = request.send().await.map_err(|_| format!("there is no gateway at {}", config.server.admin))?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| error.without_url().to_string())?;
        let value: Value = serde_json::from_str(&text).map_err(|_| format!("{} answered {status}", config.server.admin))?;
        value["keys"].as_array().cloned().ok_or_else(|| format!("{} answered {status}", config.server.admin))
    })
}
