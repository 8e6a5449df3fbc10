//! `[plugins]`, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::RawLimits;
use crate::config::scalar::{DurationText, SecretText};

/// What requests pass through.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPlugins {
    /// Who is calling.
    pub auth: Option<RawAuth>,
    /// Prompts and answers on disk.
    pub prompt_log: Option<RawPromptLog>,
    /// Answers that needn't be asked for again.
    pub cache: Option<RawCache>,
}

/// Who is calling.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawAuth {
    /// Refuse callers without a known credential. Default true if there are consumers or `jwt`.
    pub required: Option<bool>,
    /// What keys are hashed with where they are stored as `hmac_sha256`.
    pub pepper: Option<SecretText>,
    /// Accept tokens of an OIDC issuer, such as Entra.
    pub jwt: Option<RawJwt>,
}

/// Tokens of an OIDC issuer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawJwt {
    /// The `iss` claim, and where discovery starts. For an Entra tenant both forms of its issuer are
    /// accepted, whichever is given; `common` or `organizations` as tenant needs `tenants`.
    pub issuer: String,
    /// Further accepted `iss` claims, whose tokens are signed with the same keys.
    #[serde(default)]
    pub issuers: Vec<String>,
    /// Where the issuer's metadata is. Default: `issuer` with `/.well-known/openid-configuration`.
    pub discovery: Option<String>,
    /// Accepted `aud` claims.
    pub audiences: Vec<String>,
    /// Accepted `tid` claims. Default: any that the issuer allows.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// Accepted signature algorithms: `RS256`, `RS384`, `RS512`, `PS256`, `PS384`, `PS512`, `ES256`, `ES384`. Default `["RS256"]`.
    pub algorithms: Option<Vec<String>>,
    /// How far the issuer's clock may be off. Default `5m`.
    pub skew: Option<DurationText>,
    /// The claim that names the consumer: `azp` (which is `appid` in old tokens) for applications, `oid` for persons. Default `azp`.
    pub consumer_claim: Option<String>,
    /// Callers whose claim is no consumer's.
    pub unlisted: Option<RawUnlisted>,
}

/// Callers with a good token whose claim is no consumer's: each becomes a consumer by itself.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawUnlisted {
    /// Let them in. Default true.
    pub accept: Option<bool>,
    /// Most of them; past it new ones get 403. Default 1000.
    pub max: Option<usize>,
    /// Models they may use. Default: all.
    pub models: Option<Vec<String>>,
    /// Pools they may use. Default: all.
    pub pools: Option<Vec<String>>,
    /// Locations they may be served from. Default: all.
    pub locations: Option<Vec<String>>,
    /// Kinds of API they may use. Default: all.
    pub apis: Option<Vec<String>>,
    /// Their tokens need one of these application roles.
    pub roles: Option<Vec<String>>,
    /// Their tokens need one of these scopes.
    pub scopes: Option<Vec<String>>,
    /// What each of them may use up.
    pub limits: Option<RawLimits>,
}

/// Prompts and answers on disk.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawPromptLog {
    /// Switches it on. Default false.
    pub enabled: Option<bool>,
    /// The file.
    pub path: Option<String>,
    /// What is removed before anything is written: `email`, `phone`, `iban`, `card`, `secret`.
    pub redact: Option<Vec<String>>,
}

/// Answers that needn't be asked for again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawCache {
    /// The same request again.
    pub exact: Option<RawExactCache>,
    /// A request that means the same.
    pub semantic: Option<RawSemanticCache>,
}

/// The same request again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawExactCache {
    /// How long an answer is good.
    pub ttl: Option<DurationText>,
}

/// A request that means the same.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawSemanticCache {
    /// The pool that embeds.
    pub embeddings: String,
    /// Least cosine similarity, 0 to 1.
    pub threshold: Option<f64>,
    /// How long an answer is good.
    pub ttl: Option<DurationText>,
}
