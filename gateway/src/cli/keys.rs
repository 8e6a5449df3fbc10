//! `spillway keys`: makes keys for a config; those of a running gateway are in [`issued_keys`](super::issued_keys) and
//! [`key_list`](super::key_list).

use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::Subcommand;
use spillway_plugins::auth::{Pepper, digest, key_text};

use super::load::load_with;
use crate::clock::Clock;
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
    /// List the keys that the running gateway knows, of its config and issued ones: whose they are, their state, and when last
    /// used.
    List(super::key_list::ListArguments),
}

pub(super) fn run(command: KeysCommand) -> ExitCode {
    let done = match command {
        KeysCommand::New { consumer, expires, not_before, config } => new(&consumer, expires.as_deref(), not_before.as_deref(), config),
        KeysCommand::Issue(arguments) => Ok(super::issued_keys::issue(&arguments)),
        KeysCommand::Revoke(arguments) => Ok(super::issued_keys::revoke(&arguments)),
        KeysCommand::Rotate(arguments) => Ok(super::issued_keys::rotate(&arguments)),
        KeysCommand::List(arguments) => Ok(super::key_list::list(&arguments)),
    };
    done.unwrap_or_else(|error| {
        errln!("spillway keys: {error}");
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
            let Ok(config) = load_with(&path, &["plugins.auth.pepper"]) else { return Ok(ExitCode::from(2)) };
            if !config.consumers.iter().any(|known| *known.name == *consumer) {
                let names: Vec<&str> = config.consumers.iter().map(|known| &*known.name).collect();
                return Err(format!("there is no consumer '{consumer}' in {} (known: {})", path.display(), names.join(", ")));
            }
            config.plugins.auth.pepper
        }
    };
    let NewKey { key, line } = make(pepper.as_ref(), from, until, now)?;
    errln!("The key of '{consumer}', shown only now and stored nowhere:");
    outln!("{key}");
    errln!("\nA line for 'keys' of [[consumers]] name = \"{consumer}\":");
    outln!("{line},");
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
