//! How a backend refused the gateway.

/// A backend's answer of 401 or 403.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// Its status.
    pub status: u16,
    /// Its body.
    pub body: &'a str,
    /// Whether the gateway showed a token of an identity.
    pub token: bool,
}

impl Refused<'_> {
    /// What helps if the key was wrong.
    pub fn remedy_for_key(&self) -> &'static str {
        if !self.token && self.status == 401 { "; the key is wrong, or of another resource" } else { "" }
    }
}
