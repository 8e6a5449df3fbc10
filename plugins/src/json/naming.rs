//! What a reader looks out for on its way: words of interest, and names that two readers could understand differently.

use std::ops::Range;

use crate::names::{Ambiguity, Others, Scope};

/// Words to look out for while reading, at any depth.
#[derive(Debug)]
pub struct Interest {
    /// As keys.
    pub(super) keys: Words,
    /// As texts.
    pub(super) texts: Words,
}

impl Interest {
    /// Words as keys, and words as texts.
    pub const fn new(keys: &'static [&'static str], texts: &'static [&'static str]) -> Self {
        Interest { keys: Words::new(keys), texts: Words::new(texts) }
    }
}

/// Some words, and which lengths they have: most strings have none of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    words: &'static [&'static str],
    /// A bit for each length.
    lengths: u64,
}

impl Words {
    const fn new(words: &'static [&'static str]) -> Self {
        let (mut lengths, mut at) = (0, 0);
        while at < words.len() {
            assert!(words[at].len() < 64, "a word is too long for a bit");
            lengths |= 1 << words[at].len();
            at += 1;
        }
        Words { words, lengths }
    }

    /// Whether this text is one of them.
    pub(super) fn contain(&self, text: &[u8]) -> bool {
        text.len() < 64 && self.lengths >> text.len() & 1 == 1 && self.words.iter().any(|word| word.as_bytes() == text)
    }

    /// The longest a text can be, with quotes and as escapes of six bytes, that is one of them.
    pub(super) fn longest_escaped(&self) -> usize {
        (u64::BITS - self.lengths.leading_zeros()) as usize * 6
    }
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
