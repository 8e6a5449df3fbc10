//! An upgrade within one process, for rehearsals: another gateway gets the sockets and the state of this one, as another
//! process would.

use std::os::unix::net::UnixStream as StdStream;

use super::handover::predecessor::{HandoverError, hand_over_to};
use super::handover::successor::Successor;
use super::inherited_sockets::Sockets;
use super::launch::{Launch, launch};
use super::reload::Source;
use super::running::{Ending, Running};
use super::start_error::StartError;
use crate::config::Config;

/// Why another gateway didn't take over.
#[derive(Debug, thiserror::Error)]
pub enum InPlaceError {
    /// It didn't start.
    #[error("{0}")]
    Start(#[from] StartError),
    /// It didn't get the state.
    #[error("{0}")]
    Handover(#[from] HandoverError),
    /// The system has no more sockets.
    #[error("{0}")]
    System(#[from] std::io::Error),
}

impl Running {
    /// Starts another gateway with this config and hands over to it. This one finishes its requests in the background.
    ///
    /// # Errors
    /// [`InPlaceError`]
    pub async fn upgrade_in_place(self, config: Config) -> Result<Running, InPlaceError> {
        let (ours, theirs) = StdStream::pair()?;
        let sockets = self.sockets.iter().map(|socket| socket.try_clone()).collect::<Result<Vec<_>, _>>()?;
        let sockets = Sockets::of(sockets.into_iter())?;
        let clock = self.gateway.clock.clone();
        let next = launch(Launch { config, source: Source::none(), clock, sockets, successor: Some(Successor::over(theirs)) });
        let gateway = self.gateway.clone();
        let (next, taken) = tokio::join!(next, hand_over_to(ours, &gateway));
        let (next, taken) = (next?, taken?);
        tokio::spawn(self.end(Ending::HandedOver(Box::new(taken)), std::future::pending()));
        Ok(next)
    }
}
