//! Resolves references to secrets.

use std::ffi::OsString;
use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};

use super::scalar::SecretText;

/// A secret. It is never shown by `Debug`. It can be compared, so that a reload notices a changed secret.
#[derive(Debug, Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// The secret itself. Its user must not log it or send it elsewhere.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl From<String> for Secret {
    fn from(secret: String) -> Self {
        Secret(SecretString::from(secret))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose() == other.expose()
    }
}

impl Eq for Secret {}

type Environment = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// Where secrets are looked up. Tests provide their own environment.
pub struct Secrets {
    /// `None` for stand-ins.
    env: Option<Box<Environment>>,
    /// The keys whose secrets are read, others have stand-ins; `None` for all.
    only: Option<&'static [&'static str]>,
}

/// Stands for every secret that isn't read: a valid key, and a valid URL of Redis.
const STAND_IN: &str = "redis://stand-in.invalid";

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

impl Default for Secrets {
    fn default() -> Self {
        Secrets::with_env(|name| std::env::var_os(name))
    }
}

impl Secrets {
    /// Looks environment variables up through `env`.
    pub fn with_env(env: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        Secrets { env: Some(Box::new(env)), only: None }
    }

    /// No secret is read: the same text stands for each. For a config that is only rehearsed, on a machine that need not
    /// have any of its secrets and files.
    pub fn stand_ins() -> Self {
        Secrets { env: None, only: None }
    }

    /// Only the secrets of these keys are read; a stand-in is there for each other one. For a command that uses a part of a
    /// config, on behalf of somebody who may not have the gateway's secrets.
    pub fn only(self, keys: &'static [&'static str]) -> Self {
        Secrets { only: Some(keys), ..self }
    }

    /// These secrets, as far as those of `key` are concerned.
    pub(super) fn resolve_of(&self, key: &str, reference: &SecretText, literals: bool) -> Result<Secret, String> {
        match self.only {
            Some(keys) if !keys.contains(&key) => Secrets::stand_ins().resolve(reference, literals),
            _ => self.resolve(reference, literals),
        }
    }

    /// Whether there are stand-ins: then what this machine lacks is no problem.
    pub(super) fn are_stand_ins(&self) -> bool {
        self.env.is_none() || self.only.is_some()
    }

    fn variable(&self, name: &str) -> Option<OsString> {
        self.env.as_ref().and_then(|env| env(name))
    }

    /// The secret that `reference` names, without a trailing line end.
    ///
    /// # Errors
    /// Names the variable or file that can't be read, never its content.
    pub fn resolve(&self, reference: &SecretText, literals: bool) -> Result<Secret, String> {
        let value = match reference {
            SecretText::Env(_) | SecretText::File(_) | SecretText::Credential(_) if self.env.is_none() => STAND_IN.to_owned(),
            SecretText::Literal(text) if literals => text.clone(),
            SecretText::Literal(_) => {
                return Err(r#"a secret must not be written in this file: use { env = "NAME" }, { file = "/path" } or { credential = "name" }, or set server.allow_literal_secrets"#.to_owned());
            }
            SecretText::Env(name) => {
                let value = self.variable(name).ok_or_else(|| format!("the environment variable {name} is not set"))?;
                value.into_string().map_err(|_| format!("the environment variable {name} is not valid UTF-8"))?
            }
            SecretText::File(path) => read(PathBuf::from(path))?,
            SecretText::Credential(name) => {
                if name.contains('/') || name.starts_with('.') {
                    return Err(format!("'{name}' is not a credential name"));
                }
                let dir = self.variable("CREDENTIALS_DIRECTORY").ok_or_else(|| {
                    format!("credential {name}: CREDENTIALS_DIRECTORY is not set; is there a LoadCredential= line in the unit?")
                })?;
                read(PathBuf::from(dir).join(name))?
            }
        };
        let value = value.trim_end_matches(['\r', '\n']);
        if value.is_empty() {
            return Err("the secret is empty".to_owned());
        }
        if !value.bytes().all(|byte| (0x20..0x7f).contains(&byte)) {
            return Err("the secret has characters that are not valid in a header".to_owned());
        }
        Ok(Secret::from(value.to_owned()))
    }
}

fn read(path: PathBuf) -> Result<String, String> {
    std::fs::read_to_string(&path).map_err(|error| format!("can't read {}: {error}", path.display()))
}
