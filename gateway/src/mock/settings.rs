//! The mock's own config, strict like the gateway's.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use super::buckets::Limits;
use super::fault::MockFault;
use super::ptu_settings::PtuSetting;
use crate::config::scalar::DurationText;

/// What `spillway mock -c FILE` reads. Everything has a default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Address to listen on. Default `127.0.0.1:9101`.
    pub listen: Option<String>,
    /// Its name in answers and logs. Default `mock`.
    pub name: Option<String>,
    /// The region in `x-ms-region`. Default `Sweden Central`.
    pub region: Option<String>,
    /// Accepted keys; without any, all callers are accepted.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Obey `x-mock-fault` and `x-mock-latency` headers. Default false.
    pub test_mode: Option<bool>,
    /// The text to answer with.
    pub reply: Option<String>,
    /// Seed for latencies and faults. Default: different each time.
    pub seed: Option<u64>,
    /// Deployments; without any, all names are accepted, with the settings of `default`.
    #[serde(default)]
    pub deployments: Vec<Deployment>,
    /// Settings of deployments that aren't listed.
    #[serde(default)]
    pub default: Deployment,
}

/// One deployment.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    /// Its name.
    #[serde(default)]
    pub name: String,
    /// The model's name in answers. Default: the deployment's.
    pub model: Option<String>,
    /// Pay-as-you-go tokens per minute.
    pub tpm: Option<u64>,
    /// Pay-as-you-go requests per minute.
    pub rpm: Option<u64>,
    /// A PTU: its tokens per minute, or a table of its settings.
    pub ptu: Option<PtuSetting>,
    /// The quota that it shares with the other deployments of this name, which must have the same `tpm` and `rpm`: these
    /// count for all of them together.
    pub quota_pool: Option<String>,
    /// The deployment that serves in its place while its provisioned throughput is full: Azure's own spillover.
    pub spillover: Option<String>,
    /// Share of requests in the service tier `flex` for which there is capacity, 0 to 1; others get `flex_unavailable`.
    /// Default 1.
    pub flex_available: Option<f64>,
    /// Time to the first token.
    pub first_token: Option<DurationText>,
    /// Time per further token.
    pub per_token: Option<DurationText>,
    /// How much times vary, as a share: 0.3 for 30 %. Drawn from a log-normal distribution.
    pub jitter: Option<f64>,
    /// Share of requests that fail, 0 to 1, and how (`"status=500"`, `"cut=3"` …).
    pub fault_rate: Option<f64>,
    /// The fault. Default `status=500`.
    pub fault: Option<String>,
}

impl Deployment {
    /// The name of its counters, which it may share with others.
    pub fn counters(&self, name: &str) -> String {
        match &self.quota_pool {
            Some(pool) => format!("quota pool {pool}"),
            None => name.to_owned(),
        }
    }

    /// Its limits.
    pub fn limits(&self) -> Limits {
        Limits { tokens_per_minute: self.tpm, requests_per_minute: self.rpm, ptu: self.ptu.as_ref().map(PtuSetting::ptu) }
    }

    /// A random time around `base`, with the configured jitter.
    pub fn stray(&self, base: Option<DurationText>, rng: &mut fastrand::Rng) -> Duration {
        let base = base.map_or(Duration::ZERO, |base| base.0);
        let Some(jitter) = self.jitter.filter(|jitter| *jitter > 0.0) else { return base };
        // Box-Muller: a normal deviate from two uniform ones.
        let normal = (-2.0 * (1.0 - rng.f64()).ln()).sqrt() * (std::f64::consts::TAU * rng.f64()).cos();
        base.mul_f64((normal * jitter).exp().clamp(0.1, 20.0))
    }
}

impl Settings {
    /// Reads and checks a text.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let settings: Settings = toml::from_str(text).map_err(|error| error.to_string())?;
        for deployment in settings.deployments.iter().chain([&settings.default]) {
            if let Some(fault) = &deployment.fault {
                fault.parse::<MockFault>().map_err(|error| error.to_string())?;
            }
            if let Some(ptu) = &deployment.ptu {
                ptu.check().map_err(|error| format!("deployment '{}': {error}", deployment.name))?;
            }
            if let Some(pool) = &deployment.quota_pool {
                let others = settings.deployments.iter().filter(|other| other.quota_pool.as_ref() == Some(pool));
                if others.into_iter().any(|other| (other.tpm, other.rpm) != (deployment.tpm, deployment.rpm)) {
                    return Err(format!("quota_pool '{pool}': its deployments must have the same tpm and rpm"));
                }
                if deployment.ptu.is_some() {
                    return Err(format!(
                        "quota_pool '{pool}': deployment '{}' is provisioned, so it has no quota to share",
                        deployment.name
                    ));
                }
            }
            if deployment.fault_rate.is_some_and(|rate| !(0.0..=1.0).contains(&rate)) {
                return Err(format!("deployment '{}': fault_rate must be from 0 to 1", deployment.name));
            }
        }
        for deployment in settings.deployments.iter().chain([&settings.default]) {
            if deployment.flex_available.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
                return Err(format!("deployment '{}': flex_available must be from 0 to 1", deployment.name));
            }
            let Some(other) = &deployment.spillover else { continue };
            if deployment.ptu.is_none() {
                return Err(format!("deployment '{}': only a deployment with 'ptu' spills over", deployment.name));
            }
            if *other == deployment.name || settings.deployment(other).is_none() {
                return Err(format!("deployment '{}': spillover '{other}' is not another deployment", deployment.name));
            }
        }
        settings.address()?;
        Ok(settings)
    }

    /// The address to listen on.
    ///
    /// # Errors
    /// If it is not an address.
    pub fn address(&self) -> Result<SocketAddr, String> {
        let text = self.listen.as_deref().unwrap_or("127.0.0.1:9101");
        text.parse().map_err(|_| format!("listen: '{text}' is not an address with a port"))
    }

    /// The deployment of this name.
    pub fn deployment(&self, name: &str) -> Option<&Deployment> {
        self.deployments.iter().find(|one| one.name == name).or_else(|| self.deployments.is_empty().then_some(&self.default))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strict_and_with_defaults() {
        let settings = Settings::parse("name = \"ptu\"\n[default]\nptu = 1000\nfirst_token = \"20ms\"").unwrap();
        assert_eq!(settings.deployment("anything").unwrap().ptu, Some(PtuSetting::TokensPerMinute(1000)));
        assert!(Settings::parse("nmae = \"x\"").unwrap_err().contains("nmae"));
        assert!(Settings::parse("[default]\nfault = \"explode\"").is_err());
        let shared = |tpm: u64| {
            Settings::parse(&format!(
                "[[deployments]]\nname = \"a\"\nquota_pool = \"q\"\ntpm = 10\n[[deployments]]\nname = \"b\"\nquota_pool = \"q\"\ntpm = {tpm}"
            ))
        };
        let counters = |name: &str| shared(10).unwrap().deployment(name).unwrap().counters(name);
        assert_eq!(counters("a"), counters("b"));
        assert!(shared(11).unwrap_err().contains("same tpm"));
        assert!(Settings::parse("[default]\nquota_pool = \"q\"\nptu = 1000").unwrap_err().contains("provisioned"));
        for (text, what) in [
            ("[default]\nflex_available = 2.0", "from 0 to 1"),
            ("[[deployments]]\nname = \"a\"\nspillover = \"a\"", "only a deployment with 'ptu'"),
            ("[[deployments]]\nname = \"a\"\nptu = 1\nspillover = \"a\"", "not another deployment"),
            ("[[deployments]]\nname = \"a\"\nptu = 1\nspillover = \"b\"", "not another deployment"),
        ] {
            assert!(Settings::parse(text).unwrap_err().contains(what), "{text}");
        }
        let listed = Settings::parse("[[deployments]]\nname = \"a\"").unwrap();
        assert!(listed.deployment("a").is_some() && listed.deployment("b").is_none());
    }

    #[test]
    fn jitter_strays_around_the_base() {
        let deployment = Deployment { jitter: Some(0.3), ..Deployment::default() };
        let mut rng = fastrand::Rng::with_seed(1);
        let mut times: Vec<f64> =
            (0..1000).map(|_| deployment.stray(Some(DurationText(Duration::from_millis(100))), &mut rng).as_secs_f64()).collect();
        times.sort_by(f64::total_cmp);
        assert!((0.09..0.11).contains(&times[500]) && times[50] < 0.08 && times[950] > 0.13);
    }
}
