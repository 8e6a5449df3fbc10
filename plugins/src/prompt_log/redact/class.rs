//! Classes of sensitive texts.

/// A class that can be redacted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// E-mail addresses.
    Email,
    /// Telephone numbers.
    Phone,
    /// International bank account numbers.
    Iban,
    /// Payment card numbers.
    Card,
    /// Keys, tokens and passwords.
    Secret,
}

impl Class {
    /// The name of each class, in the config and in the redacted text.
    pub const NAMES: [(&str, Class); 5] =
        [("email", Class::Email), ("phone", Class::Phone), ("iban", Class::Iban), ("card", Class::Card), ("secret", Class::Secret)];

    /// Its index in [`Class::NAMES`].
    pub(super) fn index(self) -> usize {
        match self {
            Class::Email => 0,
            Class::Phone => 1,
            Class::Iban => 2,
            Class::Card => 3,
            Class::Secret => 4,
        }
    }
}
