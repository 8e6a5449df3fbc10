//! What a reader looks out for on its way: words of interest, and names that two readers could understand differently.

use std::ops::Range;

use crate::names::{Ambiguity, Others, Scope};

/// Words to look out for while reading, at any depth.
#[derive(Debug)]
pub struct Interest {
    /// As keys.
    pub keys: &'static [&'static str],
    /// As texts.
    pub texts: &'static [&'static str],
}

/// What is written into a text as encoded bytes: images, audio, files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Encoded {
    /// How many.
    pub count: u64,
    /// Bytes of the text that they take.
    pub bytes: usize,
}

/// Which names of an object are checked by the rule of [`crate::names`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// All of them.
    All,
    /// Only those of the objects inside.
    Below,
    /// None.
    Nothing,
}

/// What is known of a text's names.
#[derive(Debug)]
pub(super) struct Naming {
    pub(super) scope: &'static Scope,
    pub(super) held: Held,
    pub(super) others: Others,
    pub(super) doubt: Option<Ambiguity>,
    pub(super) models: Vec<Range<usize>>,
}
