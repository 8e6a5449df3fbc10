//! Whether a member takes requests, or why not.

use schemars::JsonSchema;
use serde::Serialize;

/// Whether a member takes requests, or why not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// It takes requests.
    Ready,
    /// One request at a time tests whether it works again.
    HalfOpen,
    /// It answered 429, or reported that nothing is left.
    Throttled,
    /// Another member of its quota pool answered 429.
    QuotaPool,
    /// Its circuit is open.
    Tripped,
    /// Its account's quota is used up.
    OutOfQuota,
    /// It refuses the gateway's credential, or doesn't know the deployment.
    Misconfigured,
    /// All of its slots are taken.
    Busy,
    /// An operator has taken it out.
    Drained,
    /// Its health check fails.
    Unhealthy,
    /// Its name has no address.
    Unresolved,
    /// There is no token for it.
    NoToken,
}

impl MemberState {
    /// All states, for metrics that export every label from the start.
    pub const ALL: [MemberState; 12] = [
        MemberState::Ready,
        MemberState::HalfOpen,
        MemberState::Throttled,
        MemberState::QuotaPool,
        MemberState::Tripped,
        MemberState::OutOfQuota,
        MemberState::Misconfigured,
        MemberState::Busy,
        MemberState::Drained,
        MemberState::Unhealthy,
        MemberState::Unresolved,
        MemberState::NoToken,
    ];

    /// Its name in metrics, logs and the admin API.
    pub fn label(self) -> &'static str {
        match self {
            MemberState::Ready => "ready",
            MemberState::HalfOpen => "half-open",
            MemberState::Throttled => "throttled",
            MemberState::QuotaPool => "quota-pool",
            MemberState::Tripped => "tripped",
            MemberState::OutOfQuota => "out-of-quota",
            MemberState::Misconfigured => "misconfigured",
            MemberState::Busy => "busy",
            MemberState::Drained => "drained",
            MemberState::Unhealthy => "unhealthy",
            MemberState::Unresolved => "unresolved",
            MemberState::NoToken => "no-token",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_has_one_name_everywhere() {
        for state in MemberState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.label());
        }
    }
}
