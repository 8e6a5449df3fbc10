//! `[[groups]]`, as it is written.

use schemars::JsonSchema;
use serde::Deserialize;

use super::guarantee::RawGuarantee;
use super::limits::RawLimits;

/// Consumers, or other groups, that share limits.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawGroup {
    /// Its name.
    pub name: String,
    /// The group that it is in, whose limits apply to it, too. Default: none.
    pub parent: Option<String>,
    /// The part of its parent's limits that others can't use up: `"20%"` of each of them, or a table with an amount for
    /// some. Default: none.
    pub guaranteed: Option<RawGuarantee>,
    /// Whether it may use more than what is guaranteed to it, as far as others leave it. Default true.
    pub borrow: Option<bool>,
    /// The limits of all its consumers together.
    pub limits: Option<RawLimits>,
    /// The owners of all its consumers, in addition to their own; see `consumers.owners`. Default: none.
    #[serde(default)]
    pub owners: Vec<String>,
}
