//! The deployments of a backend that pools use, and what the config names them by.

use std::collections::BTreeMap;

use spillway_plugins::api::Api;

use crate::config::Config;

/// A deployment.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Deployment<'c> {
    /// Its name at the backend.
    pub(super) name: &'c str,
    /// The model that it serves.
    model: &'c str,
    /// The key of the config that names it.
    pub(super) key: String,
}

/// The deployments of a backend that pools use, each once.
pub(super) fn of(config: &Config, backend: usize) -> Vec<Deployment<'_>> {
    let mut found = BTreeMap::new();
    let rules = &config.backends[backend];
    for (pool, models) in config.pools.iter().enumerate().filter(|(_, pool)| pool.members.iter().any(|member| member.backend == backend)) {
        for (at, model) in models.models.iter().enumerate() {
            let (name, key) = match rules.deployments.get_key_value(model) {
                Some((model, name)) => (name, format!("backends[{backend}].deployments.{model}")),
                None => (model, format!("pools[{pool}].models[{at}]")),
            };
            found.entry(name.as_str()).or_insert(Deployment { name, model, key });
        }
    }
    found.into_values().collect()
}

impl Deployment<'_> {
    /// An API that it has, if it has one: another one of its deployment answers that it is the wrong one, not that nothing is there.
    pub(super) fn api(&self) -> Api {
        let is_anthropic = [self.name, self.model].iter().any(|name| name.to_ascii_lowercase().contains("claude"));
        if is_anthropic { Api::Messages } else { Api::Chat }
    }
}

/// What there is to say of those that are not in the backend's own list of models.
pub(super) fn unlisted<'d>(all: &'d [Deployment<'_>], listed: &'d [String]) -> impl Iterator<Item = String> + 'd {
    let missing = all.iter().filter(|deployment| !listed.is_empty() && !listed.iter().any(|id| id == deployment.name));
    missing.map(|deployment| format!("note: its list of models has no '{}', which {} names", deployment.name, deployment.key))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::Secrets;

    #[test]
    fn each_deployment_is_there_once_with_the_key_that_names_it() {
        let text = r#"
[server]
listen = ["127.0.0.1:0"]
[[backends]]
name = "a"
kind = "azure-openai"
url = "http://localhost:9"
deployments = { "gpt-4o" = "x", "claude-sonnet-4" = "s" }
[[pools]]
name = "p"
models = ["gpt-4o", "gpt-5.1"]
members = [{ backend = "a" }]
[[pools]]
name = "q"
models = ["claude-sonnet-4"]
members = [{ backend = "a" }]
"#;
        let config = Config::parse(text, Path::new("t.toml"), &Secrets::default()).unwrap();
        let all = of(&config, 0);
        let shown: Vec<_> = all.iter().map(|one| (one.name, one.key.as_str(), one.api())).collect();
        let expected = [
            ("gpt-5.1", "pools[0].models[1]", Api::Chat),
            ("s", "backends[0].deployments.claude-sonnet-4", Api::Messages),
            ("x", "backends[0].deployments.gpt-4o", Api::Chat),
        ];
        assert_eq!(shown, expected);
        let listed = ["x".to_owned(), "gpt-5.1".to_owned()];
        let notes: Vec<_> = unlisted(&all, &listed).collect();
        assert_eq!(notes, ["note: its list of models has no 's', which backends[0].deployments.claude-sonnet-4 names"]);
        assert_eq!(unlisted(&all, &[]).count(), 0, "no list");
    }
}
