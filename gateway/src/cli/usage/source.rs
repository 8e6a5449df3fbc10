//! Where a report's sums come from: this node's ledger, or what all nodes have shipped.

use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::Failure;
use crate::cli::config_file::CONFIG;
use crate::cli::load::{REDIS, load_with};
use crate::config::{Config, ShipTo};
use crate::ledger::all_nodes::{self, Sources};
use crate::ledger::report_database::ReportDatabase;
use crate::ledger::ship::open_place;

/// Which sums.
#[derive(Debug, Args)]
pub(super) struct SourceArguments {
    /// The config file, which says where the ledger is.
    #[arg(short, long, value_name = "FILE", default_value = CONFIG)]
    pub(super) config: PathBuf,
    /// Of all nodes: the sums that they have shipped (`[ledger.ship]`), in whole hours.
    #[arg(long)]
    pub(super) all_nodes: bool,
    /// Where they have shipped them: a folder, which needs no config, or redis. Default: `ledger.ship.to` of the config.
    #[arg(long, value_name = "PLACE", requires = "all_nodes")]
    pub(super) from: Option<String>,
}

/// A source that is open.
pub(super) struct Source {
    /// The config; `None` if none is needed, and none is there.
    pub(super) config: Option<Config>,
    place: Place,
}

enum Place {
    /// The ledger in this folder.
    Ledger(PathBuf),
    /// What all nodes have shipped.
    Shipped(ShipTo),
}

impl SourceArguments {
    /// Finds the source. An error without a text was printed already.
    pub(super) fn open(&self) -> Result<Source, Failure> {
        let from = self.from.as_deref().map(|from| if from == "redis" { ShipTo::Redis } else { ShipTo::Folder(from.into()) });
        if matches!(from, Some(ShipTo::Folder(_))) && !self.config.exists() && self.config == Path::new(CONFIG) {
            return from.map(|to| Source { config: None, place: Place::Shipped(to) }).ok_or(Failure(String::new()));
        }
        let mut config = load_with(&self.config, &[]).map_err(|_| Failure(String::new()))?;
        let ledger = config.ledger.as_ref();
        let place = if self.all_nodes {
            let configured = ledger.and_then(|rules| rules.ship.as_ref()).map(|ship| ship.to.clone());
            let to = from.or(configured).ok_or_else(|| {
                Failure(format!("{} doesn't say where nodes ship their sums: set ledger.ship.to, or give --from", self.config.display()))
            })?;
            Place::Shipped(to)
        } else {
            let folder = ledger.map(|rules| rules.folder.clone());
            Place::Ledger(
                folder.ok_or_else(|| Failure(format!("{} has no ledger: it doesn't set server.state_dir", self.config.display())))?,
            )
        };
        if matches!(place, Place::Shipped(ShipTo::Redis)) {
            config = load_with(&self.config, REDIS).map_err(|_| Failure(String::new()))?;
        }
        Ok(Source { config: Some(config), place })
    }
}

impl Source {
    /// The sums of this time range, in milliseconds since 1970; of all nodes with what is known about them.
    pub(super) fn read(&self, since: i64, until: i64, now: i64) -> Result<(ReportDatabase, Option<Sources>), Failure> {
        match &self.place {
            Place::Ledger(folder) => Ok((ReportDatabase::of_node(folder)?, None)),
            Place::Shipped(to) => {
                let redis = self.config.as_ref().and_then(|config| config.redis.as_ref());
                let all = all_nodes::read(&mut *open_place(to, redis)?, since, until, now)?;
                Ok((all.database, Some(all.sources)))
            }
        }
    }
}
