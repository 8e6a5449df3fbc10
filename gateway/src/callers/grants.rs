//! What a token grants.

/// What a token grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    /// Its roles.
    pub roles: Vec<String>,
    /// Its scopes.
    pub scopes: Vec<String>,
}
