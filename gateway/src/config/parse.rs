//! From the text of a file to a config that is known to be right.

use std::path::Path;

use super::error::ConfigError;
use super::secret::Secrets;
use super::{Config, load, raw, validate};

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`] with all errors.
    pub fn load(path: &Path, secrets: &Secrets) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })?;
        Config::parse(&text, path, secrets)
    }

    /// Reads and checks a text; `path` is named in errors.
    ///
    /// # Errors
    /// [`ConfigError::Invalid`] with all errors.
    pub fn parse(text: &str, path: &Path, secrets: &Secrets) -> Result<Config, ConfigError> {
        let loaded = load::load(text);
        validate::validate(loaded, secrets).map_err(|problems| ConfigError::Invalid { path: path.to_owned(), problems })
    }

    /// The JSON Schema of the file.
    pub fn schema() -> schemars::Schema {
        schemars::schema_for!(raw::RawConfig)
    }
}
