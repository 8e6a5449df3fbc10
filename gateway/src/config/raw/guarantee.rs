//! A part of a group's limits that is guaranteed to something in it, as it is written.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::limits::{RawLimits, RawMoneyBudget, RawRequestQuota, RawTokenQuota};
use super::one_or_many::OneOrMany;

/// What is guaranteed.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub enum RawGuarantee {
    /// A part of each limit, such as `"20%"`.
    Percent(String),
    /// An amount of some limits.
    Amounts(#[schemars(with = "RawGuaranteed")] Box<RawLimits>),
}

// Not `RawLimits` flattened: serde would no longer say where a wrong value stands, nor which keys there are.
/// What is guaranteed of some limits. The others have no guarantee.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawGuaranteed {
    /// Requests in any 60 seconds.
    requests_per_minute: Option<u64>,
    /// Tokens in any 60 seconds.
    tokens_per_minute: Option<u64>,
    /// Requests at the same time.
    concurrent_requests: Option<u64>,
    /// Requests per period, which must be one of the parent's.
    request_quota: Option<OneOrMany<RawRequestQuota>>,
    /// Tokens per period, which must be one of the parent's.
    token_quota: Option<OneOrMany<RawTokenQuota>>,
    /// Money per period, which must be one of the parent's.
    budget: Option<OneOrMany<RawMoneyBudget>>,
}

impl From<RawGuaranteed> for RawLimits {
    fn from(raw: RawGuaranteed) -> Self {
        let RawGuaranteed { requests_per_minute, tokens_per_minute, concurrent_requests, request_quota, token_quota, budget } = raw;
        RawLimits {
            requests_per_minute,
            tokens_per_minute,
            concurrent_requests,
            request_quota,
            token_quota,
            budget,
            ..RawLimits::default()
        }
    }
}

impl<'de> Deserialize<'de> for RawGuarantee {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Given;
        impl<'de> Visitor<'de> for Given {
            type Value = RawGuarantee;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a percentage such as \"20%\", or a table with amounts")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<RawGuarantee, E> {
                Ok(RawGuarantee::Percent(text.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawGuarantee, A::Error> {
                RawGuaranteed::deserialize(MapAccessDeserializer::new(map)).map(|amounts| RawGuarantee::Amounts(Box::new(amounts.into())))
            }
        }
        deserializer.deserialize_any(Given)
    }
}
