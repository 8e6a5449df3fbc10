//! What a kind of backend says of itself.

use std::fmt::Debug;

use spillway_plugins::api::Api;

use super::key_header::{KeyHeader, KeyInHeader};
use super::refused::Refused;
use super::signer::Signer;
use super::url::{Operation, Url};

/// What a body says of its model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ModelInBody {
    /// The deployment's name. It is added if the caller named the model only in the URL.
    Required,
    /// The deployment's name, if the caller's body has a model. The URL has the name, too.
    Optional,
    /// Nothing: the model is taken out of the body. Only the URL has the name.
    Forbidden,
}

/// A kind of backend: everything in which it differs from other kinds. The defaults are those of OpenAI's API.
pub trait Provider: Debug + Send + Sync {
    /// Its name in traces, as the semantic conventions spell it.
    fn semconv_name(&self) -> &'static str;

    /// What the names of its models begin with in the price table; `None` if it has no prices.
    fn price_prefixes(&self) -> Option<&'static [&'static str]>;

    /// Whether it serves `api` at all.
    fn serves(&self, api: Api) -> bool;

    /// Writes where an operation of a model is.
    fn operation(&self, operation: &Operation<'_>, url: &mut Url) {
        url.add_operation("/v1/", operation);
    }

    /// Writes where something below the API's root is: what is stored, or the list of models.
    fn resource(&self, path: &str, url: &mut Url) {
        url.add_path(&["/v1/", path]);
    }

    /// What the bodies of `api` say of the model.
    fn model_in_body(&self, _api: Api) -> ModelInBody {
        ModelInBody::Required
    }

    /// Whether a deployment can have a name with a slash.
    fn has_slashes_in_deployments(&self) -> bool {
        true
    }

    /// The header in which it takes a key.
    fn key_header(&self) -> KeyHeader {
        KeyHeader::BEARER
    }

    /// What proves with `key` who the gateway is. The default shows the key in [`Provider::key_header`]; a kind whose
    /// requests are signed has a [`Signer`] of its own.
    fn signer(&self, key: &str) -> Box<dyn Signer> {
        Box::new(KeyInHeader::new(key, self.key_header()))
    }

    /// Fields that a request for the list of models needs.
    fn fields_of_list(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// What helps after it refused the gateway, in words that continue a sentence; empty if that is unknown.
    fn remedy(&self, refused: &Refused<'_>) -> &'static str {
        refused.remedy_for_key()
    }

    /// What the gateway answers in its place; `None` for a kind that is asked over the network.
    fn own_answer(&self) -> Option<&str> {
        None
    }
}
