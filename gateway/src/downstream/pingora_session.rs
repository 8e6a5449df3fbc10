//! A session of Pingora's that a stage uses.

use std::ops::{Deref, DerefMut};

use pingora::proxy::Session;
use spillway_plugins::auth::certificate::CertificateNames;

/// A session of Pingora's.
pub enum PingoraSession<'s> {
    /// One that Pingora holds.
    Held(&'s mut Session),
    /// One that a test holds.
    #[cfg(test)]
    Owned(Box<Session>),
}

impl<'s> From<&'s mut Session> for PingoraSession<'s> {
    fn from(session: &'s mut Session) -> Self {
        PingoraSession::Held(session)
    }
}

impl Deref for PingoraSession<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        match self {
            PingoraSession::Held(session) => session,
            #[cfg(test)]
            PingoraSession::Owned(session) => session,
        }
    }
}

impl DerefMut for PingoraSession<'_> {
    fn deref_mut(&mut self) -> &mut Session {
        match self {
            PingoraSession::Held(session) => session,
            #[cfg(test)]
            PingoraSession::Owned(session) => session,
        }
    }
}

/// The names in the client certificate of a session's connection.
pub(crate) fn certificate_names(session: &Session) -> Option<&CertificateNames> {
    session.digest()?.proxy_digest.as_ref()?.user_data.as_ref()?.downcast_ref()
}
