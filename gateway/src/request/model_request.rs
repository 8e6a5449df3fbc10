//! What a request asks of which model.

use std::sync::Arc;

use spillway_plugins::api::{Api, Part};
use spillway_plugins::request::RequestFields;

use crate::runtime::{Model, Pool};

/// What is asked, once the body is read. Written by `intake`.
#[derive(Debug)]
pub struct ModelRequest {
    /// The operation.
    pub api: Api,
    /// What of it, if it is not the answer itself.
    pub part: Option<Part>,
    /// The model's route and counters.
    pub model: Arc<Model>,
    /// The model's pool.
    pub pool: Arc<Pool>,
    /// What the body says.
    pub fields: RequestFields,
    /// Equal for requests that should meet the same member.
    pub affinity_key: u64,
    /// For a request about what is stored: the path below the API's root.
    pub object: Option<String>,
    /// Members that can't serve it because what it refers to is stored elsewhere.
    pub elsewhere: Option<Vec<usize>>,
    /// Whether its answer names what is stored from now on.
    pub stores: bool,
    /// It brings something sealed, and refers to nothing stored: where that can't be read, others may be asked.
    pub sealed: bool,
}

impl ModelRequest {
    /// Members that can't serve it at all.
    pub fn excluded(&self) -> &[usize] {
        self.elsewhere.as_deref().unwrap_or_else(|| self.model.excluded(self.api))
    }

    /// Whether it costs nothing.
    pub fn is_free(&self) -> bool {
        self.part.is_some_and(Part::is_free)
    }

    /// Whether its answer is thought about for a while before it begins.
    pub fn thinks(&self) -> bool {
        self.fields.reasoning.unwrap_or(self.model.reasons)
    }

    /// Whether it must go where something is stored.
    pub fn is_pinned(&self) -> bool {
        self.elsewhere.is_some()
    }
}
