//! What a request wants from which model.

use std::sync::Arc;

use spillway_plugins::api::{Api, Part};
use spillway_plugins::request::RequestFields;
use spillway_plugins::service_tier::ServiceTier;

use crate::runtime::{Model, Pool};

/// A request for a model, once the body is read. Written by `intake`.
#[derive(Debug)]
pub struct ModelRequest {
    /// The operation.
    pub api: Api,
    /// The part of the operation, if the request is not for the answer itself.
    pub part: Option<Part>,
    /// The model's route and counters.
    pub model: Arc<Model>,
    /// The model's pool.
    pub pool: Arc<Pool>,
    /// What the body says.
    pub fields: RequestFields,
    /// Requests with the same key should go to the same member.
    pub affinity_key: u64,
    /// For a request about what is stored: the path below the API's root.
    pub object: Option<String>,
    /// Members that can't serve it because the objects that it refers to are stored at other backends.
    pub elsewhere: Option<Vec<usize>>,
    /// Whether its answer names objects that the backend stores.
    pub stores: bool,
    /// It contains encrypted content and refers to no stored object. If one backend can't decrypt it, others may be
    /// tried.
    pub sealed: bool,
}

impl ModelRequest {
    /// Members that can't serve it at all.
    pub fn excluded(&self) -> &[usize] {
        self.elsewhere.as_deref().unwrap_or_else(|| self.model.excluded(self.api))
    }

    /// The service tier in which it is sent to a member, if any is asked for: the member's, or the caller's.
    pub fn service_tier_at(&self, member: usize) -> Option<ServiceTier> {
        self.own_tier_of(member).or(self.fields.speed).or(self.fields.service_tier)
    }

    /// The service tier that a member's requests are sent in, whatever their callers ask for. Only chats and responses
    /// have tiers.
    pub fn own_tier_of(&self, member: usize) -> Option<ServiceTier> {
        let has_tiers = matches!(self.api, Api::Chat | Api::Responses) && !self.is_free() && self.object.is_none();
        self.model.members[member].service_tier.filter(|_| has_tiers)
    }

    /// Whether it costs nothing.
    pub fn is_free(&self) -> bool {
        self.part.is_some_and(Part::is_free)
    }

    /// Whether the model reasons for a while before its answer begins.
    pub fn thinks(&self) -> bool {
        self.fields.reasoning.unwrap_or(self.model.reasons)
    }

    /// Whether it must go to the backend that stores the object.
    pub fn is_pinned(&self) -> bool {
        self.elsewhere.is_some()
    }
}
