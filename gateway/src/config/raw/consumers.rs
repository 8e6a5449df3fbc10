//! `[[consumers]]`, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::api_kind::RawApiKind;
use super::guarantee::RawGuarantee;
use super::limits::{RawClass, RawLimits};
use super::portal::RawIssuedKeys;
use super::service_tier::RawServiceTier;
use crate::config::plugins::cache::RawConsumerCache;
use crate::config::plugins::prompt_log::RawConsumerLog;
use crate::config::scalar::{DurationText, TimeText};
use crate::config::transform::RawTransform;

/// An application or a person that calls.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawConsumer {
    /// Its name in metrics, logs and the ledger.
    pub name: String,
    /// Its API keys; several can be valid at the same time.
    #[serde(default)]
    pub keys: Vec<RawKey>,
    /// Its client certificates, if the listeners have a `client_ca`.
    #[serde(default)]
    pub certificates: Vec<RawCertificateName>,
    /// Values of `plugins.auth.jwt.consumer_claim` that belong to it, such as its application ids. Default: its name.
    pub claims: Option<Vec<String>>,
    /// Models it may use. Default: all.
    pub models: Option<Vec<String>>,
    /// Pools it may use. Default: all.
    pub pools: Option<Vec<String>>,
    /// Locations it may be served from. Default: all.
    pub locations: Option<Vec<String>>,
    /// Kinds of API it may use. Default: all.
    pub apis: Option<Vec<RawApiKind>>,
    /// Service tiers it may ask for, besides `default`: `flex`, `priority`. Default: all. Priority costs about twice as
    /// much: list the tiers of consumers that should not choose it.
    pub service_tiers: Option<Vec<RawServiceTier>>,
    /// Its tokens need one of these application roles. Default: none is needed.
    pub roles: Option<Vec<String>>,
    /// Its tokens need one of these scopes. Default: none is needed.
    pub scopes: Option<Vec<String>>,
    /// Headers of its requests that are sent to backends although they are normally removed, because they choose a
    /// deployment, a price or a filter: `x-ms-*` (such as `x-ms-service-tier`), `x-policy-id`, `azureml-*` and the
    /// like. Default: none.
    #[serde(default)]
    pub headers: Vec<String>,
    /// How urgent its requests are when there is not enough capacity. Default `standard`.
    pub class: Option<RawClass>,
    /// When its callers need their answers, counted from a request's arrival, unless the request says so itself
    /// (`x-spillway-deadline`). A request waits for cheap capacity only as long as it can still be answered in time. It
    /// doesn't end the request: the pool's `timeouts.total` does. Default: the pool's `timeouts.total`.
    pub deadline: Option<DurationText>,
    /// Who may see its usage, and make and revoke keys for it, on the page `/me`: ids of groups, application roles,
    /// subjects (of Entra: object ids), and names with an `@`, such as user principal names. Default: the owners of its
    /// group.
    #[serde(default)]
    pub owners: Vec<String>,
    /// Which keys its owners may make.
    pub issued_keys: Option<RawIssuedKeys>,
    /// The group whose limits it shares.
    pub group: Option<String>,
    /// The part of its group's limits that others can't use up: `"20%"` of each of them, or a table with an amount for
    /// some. Default: none.
    pub guaranteed: Option<RawGuarantee>,
    /// Whether it may use more than what is guaranteed to it, as far as others leave it. Default true.
    pub borrow: Option<bool>,
    /// Its limits.
    pub limits: Option<RawLimits>,
    /// How it uses the cache, if there is one.
    pub cache: Option<RawConsumerCache>,
    /// What the prompt log, if there is one, records of its prompts and answers.
    pub prompt_log: Option<RawConsumerLog>,
    /// The guard, if there is one, checks its requests and their answers. Default true.
    pub guard: Option<bool>,
    /// Changes to its requests and their answers.
    pub transform: Option<RawTransform>,
}

/// An API key, by its hash; `spillway keys new` makes one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawKey {
    /// SHA-256 of the key, in hexadecimal.
    pub sha256: Option<String>,
    /// Instead: HMAC-SHA-256 of the key with `plugins.auth.pepper`, in hexadecimal.
    pub hmac_sha256: Option<String>,
    /// The part of it that may be shown: its beginning and its end.
    pub hint: Option<String>,
    /// When it was made.
    pub created: Option<TimeText>,
    /// Valid from this time on. Default: at once.
    pub not_before: Option<TimeText>,
    /// Valid until this time. Default: for ever.
    pub expires: Option<TimeText>,
}

/// A name in a client certificate.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCertificateName {
    /// A DNS name, URI or mail address of its subject alternative name.
    pub san: Option<String>,
    /// Instead: its subject, such as `CN=crm-bot,O=Contoso`; `openssl x509 -noout -subject -nameopt rfc2253,-esc_msb,utf8 -in FILE` prints it.
    pub subject: Option<String>,
}
