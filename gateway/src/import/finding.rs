//! Findings: what the source contains, and what it became.

use std::fmt;

/// How well something could be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Something is left to do by hand.
    Manual,
    /// Spillway has no such feature, or the value could not be read.
    Unsupported,
    /// It works similarly, but not in every case.
    Approximate,
    /// It has the same meaning.
    Exact,
}

impl Class {
    /// From most attention needed to none.
    pub const ALL: [Class; 4] = [Class::Manual, Class::Unsupported, Class::Approximate, Class::Exact];
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Manual => "manual",
            Class::Unsupported => "unsupported",
            Class::Approximate => "approximate",
            Class::Exact => "exact",
        })
    }
}

/// A finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How well it was imported.
    pub class: Class,
    /// Its position in the source.
    pub place: String,
    /// What it became; empty if nothing.
    pub became: String,
    /// Why it is not exact, or what to do; may be empty.
    pub why: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.class, self.place)?;
        if !self.became.is_empty() {
            write!(f, " -> {}", self.became)?;
        }
        if !self.why.is_empty() {
            write!(f, ": {}", self.why)?;
        }
        Ok(())
    }
}

/// Collects findings.
#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Findings {
    pub(super) fn exact(&mut self, place: impl Into<String>, became: impl Into<String>) {
        self.add(Class::Exact, place.into(), became.into(), String::new());
    }

    pub(super) fn approximate(&mut self, place: impl Into<String>, became: impl Into<String>, why: impl Into<String>) {
        self.add(Class::Approximate, place.into(), became.into(), why.into());
    }

    pub(super) fn manual(&mut self, place: impl Into<String>, became: impl Into<String>, todo: impl Into<String>) {
        self.add(Class::Manual, place.into(), became.into(), todo.into());
    }

    pub(super) fn unsupported(&mut self, place: impl Into<String>, why: impl Into<String>) {
        self.add(Class::Unsupported, place.into(), String::new(), why.into());
    }

    /// The same finding is added once.
    fn add(&mut self, class: Class, place: String, became: String, why: String) {
        let finding = Finding { class, place, became, why };
        if !self.0.contains(&finding) {
            self.0.push(finding);
        }
    }

    pub(super) fn into_list(self) -> Vec<Finding> {
        self.0
    }
}
