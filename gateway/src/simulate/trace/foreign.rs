//! Traffic from another gateway's log, row by row: what is common to all of them.

use std::collections::{HashMap, HashSet};
use std::io::Read;

use spillway_plugins::tokens::Usage;

use super::foreign_row::Row;
use super::records::Records;
use super::{Trace, TraceError, Unused, apim, litellm};
use crate::config::Config;
use crate::simulate::request::{Names, Request};

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// LiteLLM's spend logs.
    LiteLlm,
    /// Logs of Azure API Management.
    Apim,
}

/// Sums of the usage of a model, so that requests of unknown usage can be taken to be like the others.
#[derive(Debug, Default, Clone, Copy)]
struct Mean {
    input: u64,
    output: u64,
    count: u64,
}

/// Another gateway's log.
#[derive(Debug)]
pub struct ForeignTrace<R: Read> {
    records: Records<R>,
    source: Source,
    /// Models of the config, in small letters.
    models: HashSet<String>,
    join: apim::Join,
    /// By the number of the model.
    means: HashMap<u32, Mean>,
    is_over: bool,
    unused: Unused,
}

impl<R: Read> ForeignTrace<R> {
    /// Reads this log; `config` says by which names models are known.
    ///
    /// # Errors
    /// [`TraceError`]
    pub fn new(from: R, source: Source, config: &Config) -> Result<Self, TraceError> {
        let models = config.pools.iter().flat_map(|pool| &pool.models).map(|model| model.to_lowercase()).collect();
        Ok(ForeignTrace {
            records: Records::new(from)?,
            source,
            models,
            join: apim::Join::default(),
            means: HashMap::new(),
            is_over: false,
            unused: Unused::default(),
        })
    }

    fn row(&mut self) -> Result<Option<Row>, TraceError> {
        loop {
            if let Some(row) = self.join.ready(self.is_over) {
                return Ok(Some(row));
            }
            if self.is_over {
                self.unused.unmatched = self.join.unmatched;
                return Ok(None);
            }
            let Some((line, record)) = self.records.next()? else {
                self.is_over = true;
                continue;
            };
            let row = record.and_then(|record| match self.source {
                Source::LiteLlm => litellm::row(&record).map(Some),
                Source::Apim => self.join.take(&record),
            });
            match row {
                Ok(Some(row)) => return Ok(Some(row)),
                Ok(None) => {}
                Err(what) => {
                    self.unused.broken += 1;
                    self.unused.first_broken.get_or_insert_with(|| format!("line {line}: {what}"));
                }
            }
        }
    }
}

impl<R: Read> Trace for ForeignTrace<R> {
    fn next(&mut self, names: &mut Names) -> Result<Option<Request>, TraceError> {
        let Some(row) = self.row()? else { return Ok(None) };
        let known = row.models.iter().find(|model| self.models.contains(&model.to_lowercase()));
        // Names in the config may differ in case.
        let model = names.number(known.or(row.models.first()).map_or("", String::as_str));
        let usage = match row.usage {
            Some(usage) => {
                let mean = self.means.entry(model).or_default();
                let (input, output) = (mean.input.saturating_add(usage.input), mean.output.saturating_add(usage.output));
                *mean = Mean { input, output, count: mean.count + 1 };
                usage
            }
            None => {
                self.unused.assumed += u64::from(!row.is_cached);
                let mean = self.means.get(&model).copied().unwrap_or_default();
                let count = mean.count.max(1);
                Usage { input: mean.input / count, output: mean.output / count, ..Usage::default() }
            }
        };
        Ok(Some(row.request(model, usage, names)))
    }

    fn unused(&self) -> Unused {
        self.unused.clone()
    }
}
