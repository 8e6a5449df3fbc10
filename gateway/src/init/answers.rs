//! What is given by flags, and all answers together.

use super::error::InitError;
use super::resource::{self, Resource};

/// What the flags say.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The resource that is used first.
    pub resource: Option<String>,
    /// Its deployment.
    pub deployment: Option<String>,
    /// The model that applications ask for.
    pub model: Option<String>,
    /// The PTUs of the deployment.
    pub ptu: Option<u32>,
    /// Resources for the overflow, in their order, with their deployments.
    pub overflow: Vec<String>,
    /// The machine's managed identity is used.
    pub managed_identity: bool,
    /// The names of the resources whose keys are given in files.
    pub keys: Vec<String>,
    /// The first application.
    pub consumer: Option<String>,
    /// No questions: defaults are taken.
    pub yes: bool,
}

/// How the gateway authenticates to the resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Login {
    /// With the machine's managed identity.
    ManagedIdentity,
    /// With a key for each resource.
    Keys,
}

/// The key of a resource.
#[derive(Clone)]
pub struct NamedKey {
    /// The resource's name in the config.
    pub name: String,
    /// The key. It is not shown by `Debug`.
    pub key: String,
}

impl std::fmt::Debug for NamedKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NamedKey({})", self.name)
    }
}

/// A backend of the config.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Its name in the config, in metrics and in logs.
    pub name: String,
    /// Its root URL.
    pub url: String,
    /// Whether it is an imitation on this machine.
    pub local: bool,
    /// Its deployment.
    pub deployment: String,
}

/// Everything that the files need.
#[derive(Debug, Clone)]
pub struct Answers {
    /// The backends: the first one is used first, the others take its overflow in their order.
    pub upstreams: Vec<Upstream>,
    /// The model that applications ask for.
    pub model: String,
    /// The PTUs of the first backend's deployment.
    pub ptu: Option<u32>,
    /// How the gateway authenticates to the backends.
    pub login: Login,
    /// Keys that were typed. Those in files are not here.
    pub keys: Vec<NamedKey>,
    /// The first application.
    pub consumer: String,
}

/// Names the backends: by their resource, else by what they are for. Names differ.
pub(super) fn named(resources: &[(Resource, String)], provisioned: bool) -> Vec<Upstream> {
    let mut all: Vec<Upstream> = Vec::new();
    for (at, (resource, deployment)) in resources.iter().enumerate() {
        let role = match (at, provisioned) {
            (0, true) => "ptu",
            (0, false) => "main",
            _ => "overflow",
        };
        let stem = resource.label.as_deref().unwrap_or(role);
        let is_taken = |name: &str| all.iter().any(|known| known.name == name);
        let numbered = (2..).map(|number| format!("{stem}-{number}"));
        let name = std::iter::once(stem.to_owned()).chain(numbered).find(|name| !is_taken(name)).unwrap_or_default();
        all.push(Upstream { name, url: resource.url.clone(), local: resource.local, deployment: deployment.clone() });
    }
    all
}

/// A key as it is typed or read from a file.
///
/// # Errors
/// If it can't be sent in a header. The key itself is not repeated.
pub fn key(text: &str) -> Result<String, InitError> {
    let key = text.trim();
    if key.is_empty() || !key.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        return Err(InitError::Bad {
            flag: "--key-file",
            problem: "this is not a key: it is empty, or has spaces or other characters".to_owned(),
        });
    }
    Ok(key.to_owned())
}

pub(super) fn resource(flag: &'static str, text: &str) -> Result<Resource, InitError> {
    resource::read(text.trim()).map_err(|problem| InitError::Bad { flag, problem })
}

pub(super) fn name(flag: &'static str, text: &str, what: &str) -> Result<String, InitError> {
    resource::name(text.trim(), what).map_err(|problem| InitError::Bad { flag, problem })
}
