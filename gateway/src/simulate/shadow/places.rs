//! Which deployment of the config a log means. Logs of this gateway name backend and deployment; others name a URL, or a backend
//! by the name that an import gave it.

use std::collections::HashMap;

use crate::config::Config;
use crate::simulate::request::Names;
use crate::simulate::world::World;

/// The deployments of a config, under the names that logs have for them.
#[derive(Debug)]
pub(in crate::simulate) struct Places {
    /// By backend and deployment, in small letters.
    by_name: HashMap<(String, String), usize>,
    /// By host, with the port if it is not that of HTTPS, and deployment.
    by_host: HashMap<(String, String), usize>,
    /// By backend or host alone, if it has only one deployment.
    alone: HashMap<String, Option<usize>>,
    /// The deployment of each number in the traffic, as far as it was looked for.
    seen: Vec<Option<Option<usize>>>,
}

impl Places {
    pub(super) fn new(world: &World) -> Self {
        let mut places = Places { by_name: HashMap::new(), by_host: HashMap::new(), alone: HashMap::new(), seen: Vec::new() };
        for (index, deployment) in world.deployments.iter().enumerate() {
            let (backend, name) = (deployment.id.backend.to_lowercase(), deployment.id.deployment.to_lowercase());
            places.note_alone(&backend, index);
            if let Some(host) = host_of_backend(world.config(), &deployment.id.backend) {
                places.note_alone(&host, index);
                places.by_host.entry((host, name.clone())).or_insert(index);
            }
            places.by_name.insert((backend, name), index);
        }
        places
    }

    fn note_alone(&mut self, name: &str, index: usize) {
        self.alone.entry(name.to_owned()).and_modify(|one| *one = None).or_insert(Some(index));
    }

    /// The index of the deployment whose name has this number.
    pub(super) fn index_of(&mut self, number: u32, names: &Names) -> Option<usize> {
        let at = number as usize;
        if let Some(Some(known)) = self.seen.get(at) {
            return *known;
        }
        if self.seen.len() <= at {
            self.seen.resize(at + 1, None);
        }
        let found = self.find(&names.name(number));
        self.seen[at] = Some(found);
        found
    }

    /// The index of the deployment that is meant by this name.
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        let (backend, deployment) = name.split_once('\n').unwrap_or((name, ""));
        let (backend, deployment) = (backend.to_lowercase(), deployment.to_lowercase());
        let host = host_of_url(&backend).unwrap_or_default();
        let from_path = deployment_of_url(&backend).unwrap_or_default().to_owned();
        let deployments = [from_path, deployment];
        let exact = deployments.iter().filter(|name| !name.is_empty()).find_map(|deployment| {
            let by_name = self.by_name.get(&(backend.clone(), deployment.clone()));
            let by_host = |host: &String| self.by_host.get(&(host.clone(), deployment.clone()));
            // A log may name a host without a scheme.
            by_name.or_else(|| by_host(&host)).or_else(|| by_host(&backend)).copied()
        });
        exact.or_else(|| self.alone.get(&backend).copied().flatten()).or_else(|| self.alone.get(&host).copied().flatten())
    }
}

/// The host of a backend, as [`host_of_url`] has it.
fn host_of_backend(config: &Config, name: &str) -> Option<String> {
    let backend = config.backends.iter().find(|backend| *backend.name == *name)?;
    let endpoint = backend.endpoint.as_ref()?;
    let scheme = if endpoint.tls { "https" } else { "http" };
    host_of_url(&format!("{scheme}://{}:{}", endpoint.host, endpoint.port).to_lowercase())
}

/// The host of a URL, with its port unless that is the scheme's own.
fn host_of_url(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?']).next()?.rsplit('@').next()?;
    let own = if scheme == "https" { ":443" } else { ":80" };
    Some(authority.strip_suffix(own).unwrap_or(authority).to_owned())
}

/// The deployment that Azure's dated paths name.
fn deployment_of_url(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("/deployments/")?;
    rest.split(['/', '?']).next().filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_deployments_of_urls() {
        assert_eq!(host_of_url("https://x.openai.azure.com:443/openai/v1"), Some("x.openai.azure.com".to_owned()));
        assert_eq!(host_of_url("http://127.0.0.1:8080"), Some("127.0.0.1:8080".to_owned()));
        assert_eq!(host_of_url("backend-1"), None);
        assert_eq!(deployment_of_url("https://x/openai/deployments/gpt-4o/chat/completions?api-version=1"), Some("gpt-4o"));
        assert_eq!(deployment_of_url("https://x/openai/v1/responses"), None);
    }
}
