//! The config as the findings see it: pools with the members that take traffic, and who may use them.

use std::collections::BTreeSet;
use std::time::Duration;

use spillway_plugins::limits::{Class, Rules};

use crate::config::{BackendConfig, Config, ConsumerLimits, DeploymentPrice, MemberConfig, PoolConfig, Rights};
use crate::rehearse::finding::{Finding, Severity};
use crate::rehearse::place::Lines;

/// A valid config with the lines of its file.
#[derive(Debug, Clone, Copy)]
pub struct View<'c> {
    /// The config.
    pub config: &'c Config,
    /// The lines of its keys.
    pub lines: &'c Lines,
}

/// A member that takes traffic: a backend that is no mock, with a weight.
#[derive(Debug, Clone)]
pub struct MemberView<'c> {
    /// Its key: `pools[0].members[2]`.
    pub key: String,
    /// Its settings.
    pub config: &'c MemberConfig,
    /// Its backend.
    pub backend: &'c BackendConfig,
}

/// A pool.
#[derive(Debug, Clone)]
pub struct PoolView<'c> {
    /// Its key: `pools[0]`.
    pub key: String,
    /// Its settings.
    pub config: &'c PoolConfig,
    /// The members that take traffic, in the order of the file.
    pub members: Vec<MemberView<'c>>,
}

/// Somebody who may call: a consumer, or each of those that are not listed.
#[derive(Debug, Clone)]
pub struct CallerView<'c> {
    /// Its key: `consumers[0]`.
    pub key: String,
    /// How it is called in texts: `consumer 'crm-bot'`.
    pub name: String,
    /// What it may use.
    pub rights: &'c Rights,
    /// Its limits.
    pub limits: &'c ConsumerLimits,
    /// How urgent its requests are.
    pub class: Class,
    /// How long they may take.
    pub deadline: Option<Duration>,
    /// Index of its group.
    pub group: Option<usize>,
}

impl<'c> View<'c> {
    /// All pools.
    pub fn pools(&self) -> Vec<PoolView<'c>> {
        let Config { pools, backends, .. } = self.config;
        let members = |key: &str, pool: &'c PoolConfig| {
            let all = pool.members.iter().enumerate().filter_map(|(at, member)| {
                let backend = backends.get(member.backend)?;
                Some(MemberView { key: format!("{key}.members[{at}]"), config: member, backend })
            });
            all.filter(|member| member.config.weight > 0 && !member.is_mock()).collect()
        };
        pools
            .iter()
            .enumerate()
            .map(|(at, pool)| {
                let key = format!("pools[{at}]");
                PoolView { members: members(&key, pool), key, config: pool }
            })
            .collect()
    }

    /// All who may call with a credential.
    pub fn callers(&self) -> Vec<CallerView<'c>> {
        let listed = self.config.consumers.iter().enumerate().map(|(at, consumer)| CallerView {
            key: format!("consumers[{at}]"),
            name: format!("consumer '{}'", consumer.name),
            rights: &consumer.rights,
            limits: &consumer.limits,
            class: consumer.class,
            deadline: consumer.deadline,
            group: consumer.group,
        });
        let unlisted = self.config.plugins.auth.tokens.as_ref().and_then(|tokens| tokens.unlisted.as_ref());
        let unlisted = unlisted.map(|unlisted| CallerView {
            key: "plugins.auth.jwt.unlisted".to_owned(),
            name: "each application that is not listed".to_owned(),
            rights: &unlisted.rights,
            limits: &unlisted.limits,
            class: Class::default(),
            deadline: None,
            group: unlisted.group,
        });
        listed.chain(unlisted).collect()
    }

    /// The number of backends that are no mocks.
    pub fn real_backends(&self) -> usize {
        self.config.backends.iter().filter(|backend| backend.endpoint.is_some()).count()
    }

    /// Whether this deployment is provisioned, and how that is known; `None` if it is paid by use.
    pub fn provisioned(&self, backend: &BackendConfig, model: &str) -> Option<&'static str> {
        let deployment = backend.deployment(model);
        let by_name = || [&*backend.name, deployment].iter().any(|name| words(name).any(|word| word.eq_ignore_ascii_case("ptu")));
        if backend.ptu.contains_key(deployment) {
            Some("it has 'ptu'")
        } else if matches!(backend.prices.get(deployment), Some(DeploymentPrice::Hourly(_))) {
            Some("it is paid by the hour")
        } else {
            by_name().then_some("by its name")
        }
    }

    /// Whether a member is provisioned for all models of its pool.
    pub fn is_provisioned(&self, pool: &PoolView<'_>, member: &MemberView<'_>) -> bool {
        pool.config.models.iter().all(|model| self.provisioned(member.backend, model).is_some())
    }

    /// A finding about a key.
    pub fn finding(
        &self,
        code: &'static str,
        severity: Severity,
        key: &str,
        text: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Finding {
        Finding { code, severity, place: self.lines.place(key), text: text.into(), remedy: remedy.into() }
    }

    /// The first of these keys that is in the file, else the last one.
    pub fn written<'k>(&self, keys: &'k [String]) -> &'k str {
        keys.iter().find(|key| self.lines.has(key)).or(keys.last()).map_or("", String::as_str)
    }
}

impl MemberView<'_> {
    fn is_mock(&self) -> bool {
        self.backend.endpoint.is_none()
    }
}

impl<'c> PoolView<'c> {
    /// The names of different backends among members.
    pub fn backends<'v>(members: impl IntoIterator<Item = &'v MemberView<'c>>) -> BTreeSet<&'c str>
    where
        'c: 'v,
    {
        members.into_iter().map(|member| &*member.backend.name).collect()
    }

    /// How many different backends take its traffic.
    pub fn choices(&self) -> usize {
        PoolView::backends(&self.members).len()
    }

    /// The last resort's place in the list of members, if there is one.
    pub fn last_resort(&self, config: &Config) -> Option<usize> {
        self.config
            .members
            .iter()
            .position(|member| member.weight > 0 && config.backends.get(member.backend).is_some_and(|backend| backend.endpoint.is_none()))
    }
}

impl CallerView<'_> {
    /// Whether it may use a pool for at least one model.
    pub fn may_use(&self, pool: &PoolConfig) -> bool {
        pool.models.iter().any(|model| self.may_use_model(pool, model))
    }

    /// Whether it may use a model of a pool.
    pub fn may_use_model(&self, pool: &PoolConfig, model: &str) -> bool {
        let Rights { models, pools, .. } = self.rights;
        models.as_ref().is_none_or(|models| models.iter().any(|known| known == model))
            && pools.as_ref().is_none_or(|pools| pools.iter().any(|known| **known == *pool.name))
    }

    /// Whether it may be served from a backend's location.
    pub fn may_be_at(&self, backend: &BackendConfig) -> bool {
        let here = backend.location.as_ref();
        self.rights.locations.as_ref().is_none_or(|fence| here.is_some_and(|here| fence.contains(here)))
    }
}

/// Whether these limits refuse anything.
pub(super) fn refuses(rules: &Rules) -> bool {
    !rules.is_empty() && !rules.shadow
}

/// The words of a name: `ptu-sweden` has two.
fn words(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| !c.is_ascii_alphanumeric())
}

/// Names in quotes, with commas.
pub(super) fn list<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    names.into_iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", ")
}

/// A duration as it would be written in the config.
pub(super) fn span(time: Duration) -> String {
    const UNITS: [(u128, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let millis = time.as_millis();
    let whole = UNITS.iter().find(|(size, _)| millis >= *size && millis.is_multiple_of(*size));
    whole.map_or_else(|| format!("{millis}ms"), |(size, unit)| format!("{}{unit}", millis / size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_as_they_are_written() {
        for (millis, text) in [(0, "0ms"), (1500, "1500ms"), (40_000, "40s"), (120_000, "2m"), (90_000, "90s"), (3_600_000, "1h")] {
            assert_eq!(span(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn a_name_has_words() {
        assert!(words("gpt4o-ptu").any(|word| word == "ptu") && !words("computing").any(|word| word == "ptu"));
    }
}
