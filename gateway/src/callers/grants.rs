//! The grants of a token.

/// The grants of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    /// Its roles.
    pub roles: Vec<String>,
    /// Its scopes.
    pub scopes: Vec<String>,
}
