//! Collects problems while the parts are read, and has the checks that several parts share.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use rustls_pki_types::CertificateDer;

use super::error::{Problem, did_you_mean};
use super::pem;
use super::places::Places;
use super::scalar::{DurationText, SecretText, SizeText};
use super::secret::{Secret, Secrets};
use crate::safe_url::is_safe;

/// Collects problems while the parts are read.
pub(super) struct Checker<'c> {
    pub(super) places: Places<'c>,
    pub(super) secrets: &'c Secrets,
    pub(super) literals: bool,
    pub(super) broken: BTreeSet<String>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Checker<'_> {
    pub(super) fn at(&self, key: &str, message: impl Into<String>) -> Problem {
        Problem { position: self.places.find(key), key: self.places.as_written(key), message: message.into() }
    }

    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>) {
        let problem = self.at(key, message);
        self.problems.push(problem);
    }

    pub(super) fn warn(&mut self, key: &str, message: impl Into<String>) {
        let problem = self.at(key, message);
        self.warnings.push(problem);
    }

    /// Something that this machine lacks. It is no problem of a config that is only rehearsed here.
    pub(super) fn problem_here(&mut self, key: &str, message: impl Into<String>) {
        if !self.secrets.are_stand_ins() {
            self.problem(key, message);
        }
    }

    /// Checks that a file can be read.
    pub(super) fn readable(&mut self, key: &str, path: &str) {
        if let Err(error) = std::fs::File::open(path) {
            self.problem_here(key, format!("can't read {path}: {error}"));
        }
    }

    /// Checks that a path can be that of a file. The file need not be there: the gateway makes it.
    pub(super) fn file_path(&mut self, key: &str, path: &str) {
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => self.problem_here(key, format!("'{path}' is a folder: name a file")),
            Err(error) if error.kind() == ErrorKind::NotADirectory => {
                self.problem_here(key, format!("'{path}' is below a file: name a file in a folder"));
            }
            Ok(_) | Err(_) => {}
        }
    }

    /// Reads a PEM file, which must have certificates.
    pub(super) fn certificates(&mut self, key: &str, path: &str) -> Vec<CertificateDer<'static>> {
        let path = std::path::Path::new(path);
        let found = pem::certificates(path).unwrap_or_else(|error| {
            self.problem_here(key, error.to_string());
            Vec::new()
        });
        if let Some(at) = found.iter().position(|certificate| !pem::is_ca(certificate)) {
            self.problem(key, format!("{}: certificate {} can't be used as a CA", path.display(), at + 1));
        }
        found
    }

    /// Reads an address with a port.
    pub(super) fn address(&mut self, key: &str, text: &str) -> Option<SocketAddr> {
        let address = text.parse().ok();
        if address.is_none() {
            self.problem(key, format!(r#"'{text}' is not an address with a port, such as "127.0.0.1:8080" or "[::]:443""#));
        }
        address
    }

    /// Checks that a URL is http or https.
    pub(super) fn http(&mut self, key: &str, text: &str) {
        let uri: Option<http::Uri> = text.parse().ok();
        let known = uri
            .as_ref()
            .is_some_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some_and(|host| !host.is_empty()));
        if !known {
            self.problem(key, format!("'{text}' is not an http:// or https:// URL"));
        }
    }

    /// Checks that a URL is https; http is allowed only on this machine, and only if `allowed_here`.
    pub(super) fn https(&mut self, key: &str, text: &str, allowed_here: bool) {
        if !is_safe(text, allowed_here) {
            self.problem(key, format!("'{text}' is not an https:// URL"));
        }
    }

    /// Resolves a secret.
    pub(super) fn secret(&mut self, key: &str, reference: &SecretText) -> Option<Secret> {
        self.secrets.resolve_of(key, reference, self.literals).map_err(|message| self.problem(key, message)).ok()
    }

    /// A number of bytes, which must not be zero.
    pub(super) fn size(&mut self, given: Option<SizeText>, default: usize, key: &str) -> usize {
        let size = given.map_or(default, |size| size.0);
        if size == 0 {
            self.problem(key, "must be more than 0");
        }
        size
    }

    /// A time span, which must not be zero.
    pub(super) fn span(&mut self, given: Option<DurationText>, default_seconds: u64, key: &str) -> Duration {
        let span = given.map_or(Duration::from_secs(default_seconds), |span| span.0);
        if span.is_zero() {
            self.problem(key, "must be longer than 0");
        }
        span
    }

    /// A share of requests, in the member `sample` of a table.
    pub(super) fn sample(&mut self, given: Option<f64>, table: &str) -> Option<f64> {
        if given.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            self.problem(&format!("{table}.sample"), "must be from 0 to 1");
        }
        given
    }

    /// Checks that names are not empty, and differ.
    pub(super) fn names<'n>(&mut self, list: &str, names: impl Iterator<Item = &'n str>) {
        let mut seen = BTreeMap::new();
        for (index, name) in names.enumerate() {
            let key = format!("{list}[{index}].name");
            if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
                self.problem(&key, "a name must not be empty or have spaces");
            }
            if let Some(first) = seen.insert(name, index) {
                self.problem(&key, format!("'{name}' is the name of {list}[{first}] already; names must differ"));
            }
        }
    }

    /// Reports a reference to an unknown name, unless the item with that name was cut out because of an error.
    pub(super) fn unknown<'n>(&mut self, key: &str, what: &str, name: &str, known: impl IntoIterator<Item = &'n str>) {
        if !self.broken.contains(name) {
            self.problem(key, format!("unknown {what} '{name}'{}", did_you_mean(name, known)));
        }
    }

    /// Reports a word that is none of the few that are possible.
    pub(super) fn unknown_value<'n>(&mut self, key: &str, what: &str, name: &str, known: impl IntoIterator<Item = &'n str> + Clone) {
        let all: Vec<&str> = known.clone().into_iter().collect();
        self.problem(key, format!("unknown {what} '{name}'{} (known: {})", did_you_mean(name, known), all.join(", ")));
    }
}
