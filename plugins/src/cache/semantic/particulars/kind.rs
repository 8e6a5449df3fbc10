//! Kinds of particulars.

/// The kind of a particular.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// `1000`, `5 kg`
    Number = 1,
    /// A weekday, a month, `today`, `last`, `first`.
    Time = 2,
    /// A negation or a direction.
    Sense = 3,
    /// A name, an identifier, a quotation.
    Name = 4,
    /// A word, and the word that it belongs to: `without>sugar`.
    Bound = 5,
}
