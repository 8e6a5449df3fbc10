//! A fault to rehearse: what goes wrong, and where.

use std::fmt;

use serde::Serialize;

use super::place::Place;
use crate::balance::target::TargetId;

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Nothing: what the others are compared with.
    None,
    /// Its deployments answer 429 with a Retry-After.
    Throttled,
    /// Its deployments answer 429 without a Retry-After.
    ThrottledSilently,
    /// A deployment answers 429, and all others that share its quota in truth do so, too.
    SharedQuota,
    /// Its deployments answer 500.
    Failing,
    /// Connections are refused.
    Refused,
    /// All backends of a tier are out of reach.
    TierOut,
    /// All backends of a location are out of reach.
    LocationOut,
    /// Its name can't be resolved when the gateway starts.
    DnsGone,
    /// It doesn't speak TLS.
    TlsBroken,
    /// Its key is revoked: 401.
    KeyRevoked,
    /// The token that the gateway holds for it has expired: 401 until there is another one.
    TokenExpired,
    /// The gateway's identity has no role there: 403.
    RoleMissing,
    /// The first output comes late.
    SlowFirstToken,
    /// It takes the request and never answers.
    Silence,
    /// A stream breaks off in the middle.
    Cut,
    /// A stream stops in the middle, and its connection stays open.
    Stall,
    /// An event of the stream is not JSON.
    Malformed,
    /// An answer of several megabytes.
    Oversized,
    /// The content filter refuses the prompt: 400.
    ContentFilter,
    /// The prompt is too long for the model: 400.
    ContextTooLong,
    /// Redis answers nothing.
    RedisSlow,
    /// Redis can't be reached.
    RedisGone,
    /// The ledger's disk is full.
    LedgerFull,
    /// The issuer of the gateway's own tokens can't be reached.
    TokenIssuerGone,
    /// The issuer of callers' tokens can't be reached.
    CallerIssuerGone,
    /// One consumer sends far more than the others.
    Flood,
    /// The config is reloaded while requests are in flight.
    Reload,
    /// Another process takes over while requests are in flight.
    Upgrade,
}

impl FaultKind {
    /// Every kind, in the order of reports.
    pub const ALL: [FaultKind; 29] = [
        FaultKind::None,
        FaultKind::Throttled,
        FaultKind::ThrottledSilently,
        FaultKind::SharedQuota,
        FaultKind::Failing,
        FaultKind::Refused,
        FaultKind::TierOut,
        FaultKind::LocationOut,
        FaultKind::DnsGone,
        FaultKind::TlsBroken,
        FaultKind::KeyRevoked,
        FaultKind::TokenExpired,
        FaultKind::RoleMissing,
        FaultKind::SlowFirstToken,
        FaultKind::Silence,
        FaultKind::Cut,
        FaultKind::Stall,
        FaultKind::Malformed,
        FaultKind::Oversized,
        FaultKind::ContentFilter,
        FaultKind::ContextTooLong,
        FaultKind::RedisSlow,
        FaultKind::RedisGone,
        FaultKind::LedgerFull,
        FaultKind::TokenIssuerGone,
        FaultKind::CallerIssuerGone,
        FaultKind::Flood,
        FaultKind::Reload,
        FaultKind::Upgrade,
    ];

    /// Its name on the command line and in JSON.
    pub fn label(self) -> &'static str {
        match self {
            FaultKind::None => "none",
            FaultKind::Throttled => "throttled",
            FaultKind::ThrottledSilently => "throttled-silently",
            FaultKind::SharedQuota => "shared-quota",
            FaultKind::Failing => "failing",
            FaultKind::Refused => "refused",
            FaultKind::TierOut => "tier-out",
            FaultKind::LocationOut => "location-out",
            FaultKind::DnsGone => "dns-gone",
            FaultKind::TlsBroken => "tls-broken",
            FaultKind::KeyRevoked => "key-revoked",
            FaultKind::TokenExpired => "token-expired",
            FaultKind::RoleMissing => "role-missing",
            FaultKind::SlowFirstToken => "slow-first-token",
            FaultKind::Silence => "silence",
            FaultKind::Cut => "cut",
            FaultKind::Stall => "stall",
            FaultKind::Malformed => "malformed",
            FaultKind::Oversized => "oversized",
            FaultKind::ContentFilter => "content-filter",
            FaultKind::ContextTooLong => "context-too-long",
            FaultKind::RedisSlow => "redis-slow",
            FaultKind::RedisGone => "redis-gone",
            FaultKind::LedgerFull => "ledger-full",
            FaultKind::TokenIssuerGone => "token-issuer-gone",
            FaultKind::CallerIssuerGone => "caller-issuer-gone",
            FaultKind::Flood => "flood",
            FaultKind::Reload => "reload",
            FaultKind::Upgrade => "upgrade",
        }
    }

    /// Whether it happens once, in the middle, while requests are in flight.
    pub fn is_in_the_middle(self) -> bool {
        matches!(self, FaultKind::Reload | FaultKind::Upgrade)
    }

    /// What happens, in a few words.
    pub fn says(self) -> &'static str {
        match self {
            FaultKind::None => "no fault",
            FaultKind::Throttled => "429 with Retry-After",
            FaultKind::ThrottledSilently => "429 without Retry-After",
            FaultKind::SharedQuota => "429 from every deployment of one resource",
            FaultKind::Failing => "500",
            FaultKind::Refused => "connections refused",
            FaultKind::TierOut => "a whole tier out of reach",
            FaultKind::LocationOut => "a whole location out of reach",
            FaultKind::DnsGone => "no DNS at the start",
            FaultKind::TlsBroken => "TLS handshakes fail",
            FaultKind::KeyRevoked => "401: the key is revoked",
            FaultKind::TokenExpired => "401: the token has expired",
            FaultKind::RoleMissing => "403: a role is missing",
            FaultKind::SlowFirstToken => "a late first token",
            FaultKind::Silence => "no answer at all",
            FaultKind::Cut => "streams break off",
            FaultKind::Stall => "streams stop in the middle",
            FaultKind::Malformed => "a malformed event in streams",
            FaultKind::Oversized => "an answer of 4 MiB",
            FaultKind::ContentFilter => "400: the content filter",
            FaultKind::ContextTooLong => "400: the prompt is too long",
            FaultKind::RedisSlow => "Redis doesn't answer",
            FaultKind::RedisGone => "Redis can't be reached",
            FaultKind::LedgerFull => "the ledger's disk is full",
            FaultKind::TokenIssuerGone => "no tokens for backends",
            FaultKind::CallerIssuerGone => "no keys for callers' tokens",
            FaultKind::Flood => "one consumer sends too much",
            FaultKind::Reload => "a reload in the middle",
            FaultKind::Upgrade => "an upgrade in the middle",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// One fault of a config.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// What goes wrong.
    pub kind: FaultKind,
    /// What it happens to: a backend, `tier 2 of chat`, a location, a consumer; empty if it is the gateway itself.
    pub what: String,
    /// The place in the config that it touches.
    pub place: Place,
    /// The pools whose requests it may touch, as indices in `config.pools`.
    pub pools: Vec<usize>,
    /// The backends that it happens to, as indices in `config.backends`; empty if none.
    pub backends: Vec<usize>,
    /// The deployments that it happens to; empty for all of those backends.
    #[serde(serialize_with = "names")]
    pub targets: Vec<TargetId>,
    /// Backends of better tiers, which answer 429 meanwhile, so that requests reach those that it happens to.
    pub full: Vec<usize>,
    /// The consumer that it happens to, as index in `config.consumers`.
    pub consumer: Option<usize>,
}

fn names<S: serde::Serializer>(targets: &[TargetId], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(targets.iter().map(ToString::to_string))
}

impl Fault {
    /// Its name: `throttled ptu-sweden`.
    pub fn name(&self) -> String {
        if self.what.is_empty() { self.kind.label().to_owned() } else { format!("{} {}", self.kind.label(), self.what) }
    }
}

/// A kind of fault that this config can't have, or that can't be rehearsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NotApplicable {
    /// The kind.
    pub kind: FaultKind,
    /// Why.
    pub reason: String,
}
