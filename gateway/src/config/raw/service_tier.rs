//! Service tiers, as they are written.

use schemars::JsonSchema;
use serde::Deserialize;
use spillway_plugins::service_tier::ServiceTier;

/// A service tier that a request can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RawServiceTier {
    /// The usual one.
    Default,
    /// Cheaper, slower, and only while there is capacity.
    Flex,
    /// Faster and more expensive.
    Priority,
}

impl From<RawServiceTier> for ServiceTier {
    fn from(tier: RawServiceTier) -> Self {
        match tier {
            RawServiceTier::Default => ServiceTier::Default,
            RawServiceTier::Flex => ServiceTier::Flex,
            RawServiceTier::Priority => ServiceTier::Priority,
        }
    }
}
