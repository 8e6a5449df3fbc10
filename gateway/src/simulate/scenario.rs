//! A config to try.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::set::{SetError, set};
use crate::balance::target::TargetId;
use crate::config::error::ConfigError;
use crate::config::{Config, Secrets};

/// A config, and its name in reports.
#[derive(Debug)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// The config.
    pub config: Config,
    /// How many PTUs each deployment has, where the config says so.
    pub units: BTreeMap<TargetId, u32>,
}

impl Scenario {
    /// Lets PTU deployments whose capacity is to be learned take everything. Returns a note for each.
    pub fn take_everything_unknown(&mut self) -> Vec<String> {
        let mut notes = Vec::new();
        for backend in &mut self.config.backends {
            let name = backend.name.clone();
            for (deployment, ptu) in backend.ptu.iter_mut().filter(|(_, ptu)| ptu.per_second.is_none()) {
                ptu.per_second = Some(UNLIMITED);
                notes.push(format!(
                    "{name}/{deployment}: its capacity is not in the config: it takes every request that the log doesn't say it refused"
                ));
            }
        }
        notes
    }
}

/// More input tokens per second than any deployment takes.
const UNLIMITED: f64 = 1e12;

/// A config can't be tried.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file can't be read.
    #[error("can't read {}: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is not valid.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// It can't be changed.
    #[error("{0}")]
    Set(#[from] SetError),
    /// It can't be written as text again.
    #[error("can't change the config: {0}")]
    Text(#[from] toml::ser::Error),
    /// `--ptu` doesn't know which deployment is meant.
    #[error("--ptu needs a deployment with `ptu`; {0}")]
    WhichPtu(String),
}

/// A config file, and changes to it.
#[derive(Debug, Clone)]
pub struct Draft {
    path: PathBuf,
    text: String,
    document: Table,
    is_changed: bool,
}

impl Draft {
    /// Reads a file, and makes the changes.
    ///
    /// # Errors
    /// [`ScenarioError`]
    pub fn read(path: &Path, changes: &[String]) -> Result<Self, ScenarioError> {
        let text = std::fs::read_to_string(path).map_err(|source| ScenarioError::Unreadable { path: path.to_owned(), source })?;
        Draft::new(path, text, changes)
    }

    /// The same of a text.
    ///
    /// # Errors
    /// [`ScenarioError`]
    pub fn new(path: &Path, text: String, changes: &[String]) -> Result<Self, ScenarioError> {
        // All errors of the file itself, with their lines. Nobody is called: no secret is needed.
        Config::parse(&text, path, &Secrets::stand_ins())?;
        let mut document: Table = toml::from_str(&text).unwrap_or_default();
        for change in changes {
            set(&mut document, change)?;
        }
        Ok(Draft { path: path.to_owned(), text, document, is_changed: !changes.is_empty() })
    }

    /// The same with so many PTUs in one deployment: the only one, or `BACKEND/DEPLOYMENT`. Its price per hour changes in
    /// proportion. If the config doesn't say how many PTUs its price is for, the price is not known.
    ///
    /// # Errors
    /// [`ScenarioError::WhichPtu`]
    pub fn with_units(&self, of: Option<&str>, units: u32) -> Result<Self, ScenarioError> {
        let mut draft = self.clone();
        draft.is_changed = true;
        let (backend, deployment) = self.one_ptu(of)?;
        let lists = draft.document.get_mut("backends").and_then(Value::as_array_mut);
        let entry = lists.and_then(|list| list.iter_mut().find(|entry| text(entry, "name") == Some(&backend)));
        let Some(entry) = entry.and_then(Value::as_table_mut) else { return Err(ScenarioError::WhichPtu(backend)) };
        let mut before = None;
        if let Some(ptu) = entry.get_mut("ptu").and_then(|all| all.get_mut(&deployment)).and_then(Value::as_table_mut) {
            before = ptu.get("units").and_then(Value::as_integer);
            ptu.remove("tokens_per_minute");
            ptu.insert("units".to_owned(), Value::from(i64::from(units)));
        }
        if let Some(price) = entry.get_mut("prices").and_then(|all| all.get_mut(&deployment)).and_then(Value::as_table_mut)
            && let Some(per_hour) = price.get("usd_per_hour").and_then(number)
        {
            match before.filter(|before| *before > 0) {
                Some(before) => price.insert("usd_per_hour".to_owned(), Value::from(per_hour * f64::from(units) / before as f64)),
                None => entry.get_mut("prices").and_then(Value::as_table_mut).and_then(|all| all.remove(&deployment)),
            };
        }
        Ok(draft)
    }

    /// The deployment that is meant, with its backend.
    fn one_ptu(&self, of: Option<&str>) -> Result<(String, String), ScenarioError> {
        let all: Vec<(String, String)> = self.ptus().map(|(backend, deployment, _)| (backend.to_owned(), deployment.to_owned())).collect();
        let known = all.iter().map(|(backend, deployment)| format!("{backend}/{deployment}")).collect::<Vec<_>>().join(", ");
        let is_it = |(backend, deployment): &&(String, String)| of.is_none_or(|of| of == format!("{backend}/{deployment}"));
        let found: Vec<_> = all.iter().filter(is_it).collect();
        match found[..] {
            [one] => Ok(one.clone()),
            [] if all.is_empty() => Err(ScenarioError::WhichPtu("no backend has one".to_owned())),
            _ => Err(ScenarioError::WhichPtu(format!("name one with --ptu-of BACKEND/DEPLOYMENT: {known}"))),
        }
    }

    /// Backend, deployment and settings of all PTU deployments.
    fn ptus(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        let backends = self.document.get("backends").and_then(Value::as_array).into_iter().flatten();
        backends.flat_map(|backend| {
            let ptus = backend.get("ptu").and_then(Value::as_table).into_iter().flatten();
            let name = text(backend, "name").unwrap_or_default();
            ptus.map(move |(deployment, settings)| (name, deployment.as_str(), settings))
        })
    }

    /// The config, checked.
    ///
    /// # Errors
    /// [`ScenarioError::Config`]
    pub fn scenario(&self, name: &str) -> Result<Scenario, ScenarioError> {
        let text = if self.is_changed { toml::to_string(&self.document)? } else { self.text.clone() };
        let config = Config::parse(&text, &self.path, &Secrets::stand_ins()).map_err(|error| match error {
            // Their lines are those of a text that nobody has seen.
            ConfigError::Invalid { path, mut problems } if self.is_changed => {
                problems.iter_mut().for_each(|problem| problem.position = None);
                ConfigError::Invalid { path, problems }
            }
            other => other,
        })?;
        let units = self.ptus().filter_map(|(backend, deployment, settings)| {
            let units = u32::try_from(settings.get("units")?.as_integer()?).ok()?;
            Some((TargetId { backend: backend.into(), deployment: deployment.into() }, units))
        });
        Ok(Scenario { name: name.to_owned(), units: units.collect(), config })
    }
}

fn text<'v>(value: &'v Value, key: &str) -> Option<&'v str> {
    value.get(key).and_then(Value::as_str)
}

fn number(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|whole| whole as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DeploymentPrice;

    const CONFIG: &str = "[server]\nlisten = [\"127.0.0.1:0\"]\n[[backends]]\nname = \"ptu\"\nkind = \"openai\"\nurl = \"http://127.0.0.1:1\"\n\
        ptu = { m = { units = 100, model = \"gpt-4o\" } }\nprices = { m = { usd_per_hour = 100 } }\n\
        auth = { type = \"api-key\", key = { env = \"SURELY_NOT_SET_HERE\" } }\n\
        [[pools]]\nname = \"chat\"\nmodels = [\"m\"]\nmembers = [{ backend = \"ptu\" }]\n";

    fn draft(changes: &[&str]) -> Result<Draft, ScenarioError> {
        let changes: Vec<String> = changes.iter().map(|change| (*change).to_owned()).collect();
        Draft::new(Path::new("c.toml"), CONFIG.to_owned(), &changes)
    }

    fn price(scenario: &Scenario) -> Option<f64> {
        match scenario.config.prices.of(&scenario.config.backends[0], "m") {
            Some(DeploymentPrice::Hourly(Some(money))) => Some(money.usd()),
            _ => None,
        }
    }

    #[test]
    fn more_units_cost_more() {
        let scenario = draft(&[]).unwrap().with_units(None, 250).unwrap().scenario("250 PTU").unwrap();
        assert_eq!(price(&scenario), Some(250.0));
        let per_second = scenario.config.backends[0].ptu["m"].per_second.unwrap();
        assert!((per_second - 250.0 * 2_500.0 / 60.0).abs() < 1e-6);
        assert_eq!(scenario.units.values().copied().collect::<Vec<_>>(), [250]);
        let unknown = CONFIG.replace("units = 100", "tokens_per_minute = 1000");
        let scenario = Draft::new(Path::new("c.toml"), unknown, &[]).unwrap().with_units(Some("ptu/m"), 50).unwrap().scenario("x").unwrap();
        assert_eq!(price(&scenario), None, "nobody knows how many PTUs the price was for");
    }

    #[test]
    fn a_config_is_tried_without_its_secrets_and_files() {
        let keys = [
            (
                "[server]\n",
                "[server]\ntls = { cert = \"/nowhere/tls.crt\", key = \"/nowhere/tls.key\" }\nadmin_token = { file = \"/nowhere/token\" }\n",
            ),
            ("{ env = \"SURELY_NOT_SET_HERE\" }", "{ credential = \"nowhere\" }"),
        ];
        let text = keys.into_iter().fold(CONFIG.to_owned(), |text, (from, to)| text.replacen(from, to, 1));
        let draft =
            Draft::new(Path::new("c.toml"), text, &["backends.ptu.ptu.m.units=50".to_owned()]).unwrap_or_else(|error| panic!("{error}"));
        draft.scenario("x").unwrap_or_else(|error| panic!("{error}"));
    }

    #[test]
    fn a_change_must_leave_a_valid_config() {
        let error = draft(&["backends.ptu.ptu.m.units=0"]).unwrap().scenario("x").unwrap_err();
        assert!(error.to_string().contains("backends[0].ptu.m.units"), "{error}");
        assert!(draft(&[]).unwrap().with_units(Some("ptu/x"), 5).unwrap_err().to_string().contains("ptu/m"));
        assert!(matches!(draft(&["nonsense"]), Err(ScenarioError::Set(_))));
    }
}
