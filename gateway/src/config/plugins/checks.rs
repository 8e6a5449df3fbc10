//! The configuration of plugins that check requests: lists of tables, whose keys are in the plugins' own folders.

use spillway_plugins::checks::{ConfigReport, RequestCheck};

use crate::config::checker::Checker;

/// The names that the tables may refer to.
pub(super) struct Names<'r> {
    /// Models of pools.
    pub(super) models: &'r [&'r str],
    /// Consumers.
    pub(super) consumers: Vec<&'r str>,
}

/// Checks the tables of a plugin at `key`.
pub(super) fn verified<C: RequestCheck + Clone>(tables: &[C], key: &str, names: &Names<'_>, check: &mut Checker<'_>) -> Vec<C> {
    for (at, table) in tables.iter().enumerate() {
        table.verify(&mut Report { table: format!("{key}[{at}]"), names, check });
    }
    tables.to_vec()
}

/// The tables as they are used.
pub(super) fn boxed<C: RequestCheck + Clone + 'static>(tables: &[C]) -> Vec<Box<dyn RequestCheck>> {
    tables.iter().map(|table| Box::new(table.clone()) as Box<dyn RequestCheck>).collect()
}

/// Takes what is wrong with one table.
struct Report<'r, 'c, 't> {
    table: String,
    names: &'r Names<'r>,
    check: &'c mut Checker<'t>,
}

impl Report<'_, '_, '_> {
    fn key(&self, key: &str) -> String {
        if key.is_empty() { self.table.clone() } else { format!("{}.{key}", self.table) }
    }
}

impl ConfigReport for Report<'_, '_, '_> {
    fn problem(&mut self, key: &str, message: &str) {
        self.check.problem(&self.key(key), message);
    }

    fn expect_model(&mut self, key: &str, name: &str) {
        if !self.names.models.contains(&name) {
            self.check.unknown(&self.key(key), "model (in no pool)", name, self.names.models.iter().copied());
        }
    }

    fn expect_consumer(&mut self, key: &str, name: &str) {
        if !self.names.consumers.contains(&name) {
            self.check.unknown(&self.key(key), "consumer", name, self.names.consumers.iter().copied());
        }
    }
}
