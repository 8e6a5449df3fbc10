//! What a run adds when it shadows a log: consumers' limits, what backends really answered, and the comparison.
//!
//! | file | idea |
//! |---|---|
//! | [`limits`] | admits a request, by the code that the gateway runs |
//! | [`evidence`] | what a backend would have answered, by the log |
//! | [`places`] | which deployment of the config a log means |
//! | [`decision`] | what was decided for a request, and what the log says of it |
//! | [`compared`] | sums over all decisions |
//! | [`report`] | as text |

pub mod compared;
pub(super) mod decision;
pub(super) mod evidence;
pub(super) mod limits;
pub(super) mod places;
pub mod report;

use evidence::Evidence;
use limits::Limits;

use super::world::World;
use compared::Compared;

/// What a run adds when it shadows a log.
#[derive(Debug)]
pub(super) struct Shadow {
    pub(super) limits: Limits,
    pub(super) evidence: Evidence,
    pub(super) compared: Compared,
}

impl Shadow {
    pub(super) fn new(world: &World) -> Self {
        Shadow { limits: Limits::new(world.config()), evidence: Evidence::new(world), compared: Compared::new(world) }
    }
}
