//! Removes sensitive texts: addresses, numbers that identify a person or an account, and secrets.
//!
//! Prompts and answers are redacted before they are written to a log. Each [`Class`] has a finder that starts from a
//! byte which is rare in prose (`@`, a digit, `=`, `:`) and reads a bounded distance around it, so ordinary text costs
//! little and hostile text costs at most its length. Uncertain cases are removed: a lost word in a log is cheaper than
//! a stored password.
//!
//! The finders expect a text as people see it, so a text that is written in another way ([`shown`]) is read twice.

mod bytes;
mod card;
mod class;
mod email;
mod iban;
mod merge;
mod phone;
mod secret;
mod shown;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use bytes::next_number;
pub use class::Class;
use merge::Hit;
use regex::{Regex, RegexBuilder};

/// Memory for one of the operator's patterns, compiled, and while it searches.
const MAX_COMPILED: usize = 1 << 20;

/// A replacement can make a match of the text next to it. For this many rounds only the matches are removed, after that
/// the whole of their lines, so that a long chain of matches needs no more rounds than a short one.
const ROUNDS: usize = 4;
const MOST_ROUNDS: usize = 8;

/// The longest word that is known to be nothing sensitive if it only has small letters.
const WORD: usize = 24;

/// Why one of the operator's patterns can't be used.
#[derive(Debug, thiserror::Error)]
pub enum RedactError {
    /// The name can't be used between brackets.
    #[error("'{name}' is not a valid name for a pattern: use letters, digits, '_' and '-'")]
    Name {
        /// The name.
        name: String,
    },
    /// The pattern matches the empty string, so it would match everywhere.
    #[error("the pattern '{name}' matches the empty string")]
    Empty {
        /// The pattern's name.
        name: String,
    },
    /// It isn't a regular expression, or it is too large.
    #[error("the pattern '{name}' can't be used: {why}")]
    Pattern {
        /// The pattern's name.
        name: String,
        /// The error in it.
        #[source]
        why: Box<regex::Error>,
    },
    /// The beginnings of known tokens can't be searched for.
    #[error("the forms of secrets can't be used: {0}")]
    Shapes(#[from] aho_corasick::BuildError),
}

/// Removes the configured classes and patterns from texts.
#[derive(Debug)]
pub struct Redactor {
    on: [bool; Class::NAMES.len()],
    shapes: secret::Shapes,
    own: Vec<Regex>,
    /// The replacements: one for each class, then one for each own pattern.
    placeholders: Vec<String>,
}

impl PartialEq for Redactor {
    fn eq(&self, other: &Self) -> bool {
        let own = |redactor: &Redactor| redactor.own.iter().map(|regex| regex.as_str().to_owned()).collect::<Vec<_>>();
        self.on == other.on && self.placeholders == other.placeholders && own(self) == own(other)
    }
}

impl Redactor {
    /// Removes `classes` and the matches of the operator's `own` patterns, each a name and a regular expression.
    pub fn new(classes: &[Class], own: &[(String, String)]) -> Result<Redactor, RedactError> {
        let mut on = [false; Class::NAMES.len()];
        for class in classes {
            on[class.index()] = true;
        }
        let mut placeholders: Vec<String> = Class::NAMES.iter().map(|(name, _)| format!("[{name}]")).collect();
        placeholders.extend(own.iter().map(|(name, _)| format!("[{name}]")));
        let own = own.iter().map(|(name, pattern)| compile(name, pattern)).collect::<Result<_, _>>()?;
        Ok(Redactor { on, shapes: secret::Shapes::new()?, own, placeholders })
    }

    /// Whether it has patterns of the operator's, which may take far longer than the rest.
    pub fn has_own(&self) -> bool {
        !self.own.is_empty()
    }

    /// The text with each match replaced by its name in brackets; borrowed if there is none.
    ///
    /// If matches overlap, all of them are removed under the name of the longest one. The result doesn't change if it
    /// is redacted again, unless an own pattern matches brackets.
    pub fn redact<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let Some(mut done) = self.pass(text, false) else { return Cow::Borrowed(text) };
        for round in 1..MOST_ROUNDS {
            match self.pass(&done, round >= ROUNDS) {
                Some(next) => done = next,
                None => break,
            }
        }
        Cow::Owned(done)
    }

    fn pass(&self, text: &str, whole_lines: bool) -> Option<String> {
        let mut hits = self.hits(text);
        if let Some(shown) = shown::shown(text) {
            // The letter of an escape is no part of a word: without it JSON is no longer JSON.
            hits.iter_mut().for_each(|hit| hit.range = shown.whole(hit.range.clone()));
            hits.extend(self.hits(&shown.text).into_iter().map(|hit| Hit { range: shown.original(hit.range), ..hit }));
            hits.retain(|hit| !hit.range.is_empty());
        }
        if hits.is_empty() { None } else { merge::replace(text, hits, &self.placeholders, whole_lines) }
    }

    fn hits(&self, text: &str) -> Vec<Hit> {
        let mut hits = Vec::new();
        let bytes = text.as_bytes();
        // A short word in small letters, such as a role: every finder looks for something else.
        if self.own.is_empty() && bytes.len() <= WORD && bytes.iter().all(u8::is_ascii_lowercase) {
            return hits;
        }
        if self.has(Class::Email) {
            let mut hit = |range| hits.push(Hit { range, label: Class::Email.index() });
            email::find(text, &mut hit);
            email::find_encoded(text, &mut hit);
        }
        if self.has(Class::Secret) {
            self.shapes.find(text, &mut |range| hits.push(Hit { range, label: Class::Secret.index() }));
        }
        self.numbers(bytes, &mut hits);
        for (index, own) in self.own.iter().enumerate() {
            // A match can be empty even if the empty string doesn't match: `\b`.
            let found = own.find_iter(text).filter(|found| !found.is_empty());
            hits.extend(found.map(|found| Hit { range: found.range(), label: Class::NAMES.len() + index }));
        }
        hits
    }

    fn has(&self, class: Class) -> bool {
        self.on[class.index()]
    }

    /// What begins with digits. The text is searched for them once for all classes.
    fn numbers(&self, bytes: &[u8], hits: &mut Vec<Hit>) {
        const CLASSES: [Class; 3] = [Class::Phone, Class::Iban, Class::Card];
        if !CLASSES.iter().any(|class| self.has(*class)) {
            return;
        }
        // Where the last match of each class ends.
        let mut ends = [0; CLASSES.len()];
        let mut at = 0;
        while let Some(number) = next_number(bytes, at) {
            at = number.end;
            for (class, end) in CLASSES.into_iter().zip(&mut ends) {
                if !self.has(class) || number.start < *end {
                    continue;
                }
                let found = match class {
                    Class::Phone => phone::at(bytes, &number, *end),
                    Class::Iban => iban::at(bytes, &number),
                    _ => card::at(bytes, &number),
                };
                if let Some(range) = found {
                    *end = range.end;
                    hits.push(Hit { range, label: class.index() });
                }
            }
        }
    }
}

fn compile(name: &str, pattern: &str) -> Result<Regex, RedactError> {
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)) {
        return Err(RedactError::Name { name: name.to_owned() });
    }
    let built = RegexBuilder::new(pattern).size_limit(MAX_COMPILED).dfa_size_limit(MAX_COMPILED).build();
    let built = built.map_err(|why| RedactError::Pattern { name: name.to_owned(), why: Box::new(why) })?;
    if built.is_match("") {
        return Err(RedactError::Empty { name: name.to_owned() });
    }
    Ok(built)
}
