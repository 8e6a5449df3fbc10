//! `spillway keys`: makes keys, and shows those that a config has.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use serde_json::Value;
use spillway_plugins::auth::{Pepper, Validity, digest, key_text};

use crate::clock::Clock;
use crate::config::scalar::{DurationText, TimeText};
use crate::config::{Config, identifier};
use crate::http_client;
use crate::issued_keys::random_key;

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
    /// List the keys of a config: consumer, age, and when last used.
    List {
        /// The config file.
        #[arg(short, long, value_name = "FILE")]
        config: PathBuf,
    },
}

pub(super) fn run(command: KeysCommand) -> ExitCode {
    let done = match command {
        KeysCommand::New { consumer, expires, not_before, config } => new(&consumer, expires.as_deref(), not_before.as_deref(), config),
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
    let later = || Some(now + text.parse::<DurationText>().ok()?.0);
    text.parse::<TimeText>()
        .map(|at| at.0)
        .ok()
        .or_else(later)
        .ok_or_else(|| format!("'{text}' is neither a duration such as 90d nor a date such as 2027-01-31"))
}

fn list(path: &std::path::Path) -> Result<ExitCode, String> {
    let Ok(config) = super::load(path) else { return Ok(ExitCode::from(2)) };
    let now = Clock::new().wall();
    let used = last_uses(&config);
    println!("{:<24} {:<16} {:<10} {:<22} last use", "consumer", "key", "age", "state");
    for (consumer, key) in config.consumers.iter().flat_map(|consumer| consumer.keys.iter().map(move |key| (consumer, key))) {
        let last = match &used {
            Ok(used) => used
                .iter()
                .find(|(id, _)| *id == identifier(&key.stored))
                .and_then(|(_, at)| *at)
                .map_or_else(|| "not since the start".to_owned(), |at| ago(at, now)),
            Err(_) => "?".to_owned(),
        };
        let hint = key.hint.clone().unwrap_or_else(|| identifier(&key.stored));
        let age = key.created.map_or_else(|| "?".to_owned(), |at| days(now.timestamp() - at));
        println!("{:<24} {hint:<16} {age:<10} {:<22} {last}", consumer.name, state(key.validity, now.timestamp()));
    }
    if let Err(error) = used {
        eprintln!("\nThe running gateway, which knows when keys were last used, gave no answer: {error}");
    }
    Ok(ExitCode::SUCCESS)
}

fn state(validity: Validity, now: i64) -> String {
    let day = |at: i64| DateTime::from_timestamp(at, 0).map_or_else(String::new, |at| at.format("%Y-%m-%d").to_string());
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

/// When keys were last used, from the running gateway's admin listener.
fn last_uses(config: &Config) -> Result<Vec<(String, Option<i64>)>, String> {
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
        let keys = value["keys"].as_array().ok_or_else(|| format!("{} answered {status}", config.server.admin))?;
        Ok(keys.iter().filter_map(|key| Some((key["id"].as_str()?.to_owned(), key["last_use"].as_i64()))).collect())
    })
}
