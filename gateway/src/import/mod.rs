//! Makes a Spillway config from the config of another gateway.
//!
//! Nothing is dropped silently: everything becomes part of the config, a [`Finding`], or both. Secrets are never
//! copied; the config refers to environment variables instead.

mod aca_lb;
mod address;
mod arm;
mod draft;
mod error;
mod finding;
mod litellm;
mod names;
mod policy;
mod write;

#[cfg(test)]
mod tests;

pub use error::ImportError;
pub use finding::{Class, Finding};

use arm::DEPLOYED;
use finding::Findings;

/// What is imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Backends and pools of Azure API Management (ARM JSON), with policies (XML) where given.
    Apim,
    /// Only policies of Azure API Management.
    ApimPolicy,
    /// The environment of Azure-Samples/openai-aca-lb.
    AcaLb,
    /// The config of a LiteLLM proxy.
    LiteLlm,
}

impl Source {
    /// The names on the command line.
    pub const NAMES: [(&'static str, Source); 4] =
        [("apim", Source::Apim), ("apim-policy", Source::ApimPolicy), ("aca-lb", Source::AcaLb), ("litellm", Source::LiteLlm)];
}

/// A config, and the findings about it.
#[derive(Debug, Clone)]
pub struct Imported {
    /// The config, with the findings as comments.
    pub toml: String,
    /// The findings, in the order of the sources.
    pub findings: Vec<Finding>,
}

/// Imports files of one kind; each has a name, for messages, and a text.
///
/// # Errors
/// Names the file, the position and what to do; also if the files contain nothing that could serve a request.
pub fn import(source: Source, inputs: &[(&str, &str)]) -> Result<Imported, ImportError> {
    if inputs.is_empty() {
        return Err(ImportError::NoInput(match source {
            Source::Apim => "give the backends as JSON, and policies as XML if there are any",
            Source::ApimPolicy => "give at least one policy as XML",
            Source::AcaLb => "give the environment as a file of NAME=value lines, or as JSON",
            Source::LiteLlm => "give the proxy's config.yaml",
        }));
    }
    let mut findings = Findings::default();
    let draft = match source {
        Source::Apim => arm::import(inputs, false, &mut findings)?,
        Source::ApimPolicy => arm::import(inputs, true, &mut findings)?,
        Source::AcaLb => aca_lb::import(inputs, &mut findings)?,
        Source::LiteLlm => litellm::import(inputs, &mut findings)?,
    };
    let names: Vec<&str> = inputs.iter().map(|(name, _)| *name).collect();
    if draft.pools.is_empty() {
        return Err(ImportError::NothingFound {
            place: names.join(", "),
            problem: "nothing was found that could serve a request".to_owned(),
            remedy: match source {
                Source::Apim | Source::ApimPolicy => format!("give the backends as they are deployed: {DEPLOYED}"),
                Source::AcaLb => "set BACKEND_1_URL and BACKEND_1_PRIORITY".to_owned(),
                Source::LiteLlm => "the file needs a 'model_list' with models of azure/, openai/ or anthropic/".to_owned(),
            },
            findings: findings.into_list(),
        });
    }
    findings.manual(
        "callers",
        "no [[consumers]]: without them, all callers that reach 'listen' are served",
        "make a key for each application with 'spillway keys new', or set [plugins.auth.jwt], before 'listen' is opened to others",
    );
    let findings = findings.into_list();
    Ok(Imported { toml: write::config(&draft, &names, &findings), findings })
}
