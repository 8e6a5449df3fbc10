//! What this machine lacks of what a config names, and a gateway does without for a while: `spillway check` warns of it.
//!
//! None of it is checked when a config is loaded: a share that isn't mounted must stop no start, no reload and no report.

use std::path::Path;

use nix::unistd::{AccessFlags, access};

use super::error::Problem;
use super::places::Places;
use super::{Config, ShipTo};

/// What is lacking; `text` is the config's, for the positions.
pub fn lacking_here(config: &Config, text: &str) -> Vec<Problem> {
    let ship = config.ledger.as_ref().and_then(|ledger| ledger.ship.as_ref());
    let message = match ship.map(|ship| &ship.to) {
        Some(ShipTo::Folder(folder)) => why_not_shared(folder),
        Some(ShipTo::Redis) | None => None,
    };
    let key = "ledger.ship.to";
    message.map(|message| Problem { position: Places::of(text).find(key), key: key.to_owned(), message }).into_iter().collect()
}

/// Why nothing can be shipped to this folder. The gateway doesn't create it: the folder below a mount that is missing would be
/// created on this machine's own disk, and the sums would be missing in every report.
fn why_not_shared(folder: &Path) -> Option<String> {
    const THEN: &str = "until then sums stay in the ledger, and reports over all nodes lack them";
    let shown = folder.display();
    if !folder.is_dir() {
        return Some(format!(
            "the folder '{shown}' does not exist: mount the place that all nodes share, or create the folder there; {THEN}"
        ));
    }
    let denied = access(folder, AccessFlags::W_OK | AccessFlags::X_OK).err()?;
    Some(format!("you can't write to the folder '{shown}' ({}): the gateway's user must be able to; {THEN}", denied.desc()))
}
