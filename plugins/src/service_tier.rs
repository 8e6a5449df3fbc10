//! Service tiers: how urgently a backend serves a request, and at which of its prices.

/// The service tier of an answer, or of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServiceTier {
    /// The usual one. Anthropic calls it `standard`.
    Default,
    /// Cheaper, slower, and only while there is capacity.
    Flex,
    /// Faster and more expensive. OpenAI also calls it `fast`.
    Priority,
    /// A batch's.
    Batch,
    /// Prepaid throughput at OpenAI.
    Scale,
    /// The fastest one at OpenAI, and Anthropic's fast mode.
    Ultrafast,
    /// One that is not known here.
    Other,
}

impl ServiceTier {
    /// All of them: `ALL[tier.index()] == tier`.
    pub const ALL: [ServiceTier; 7] = [
        ServiceTier::Default,
        ServiceTier::Flex,
        ServiceTier::Priority,
        ServiceTier::Batch,
        ServiceTier::Scale,
        ServiceTier::Ultrafast,
        ServiceTier::Other,
    ];

    /// Index in [`ServiceTier::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// Reads what an answer or a request says. `auto` leaves the choice to the backend: it is no tier.
    pub fn read(text: &str) -> Option<Self> {
        match text {
            "auto" | "" => None,
            "default" | "standard" | "standard_only" => Some(ServiceTier::Default),
            "flex" => Some(ServiceTier::Flex),
            "priority" | "fast" => Some(ServiceTier::Priority),
            "batch" => Some(ServiceTier::Batch),
            "scale" => Some(ServiceTier::Scale),
            "ultrafast" => Some(ServiceTier::Ultrafast),
            _ => Some(ServiceTier::Other),
        }
    }

    /// Reads what an answer or a request says of its speed, as Anthropic does. Its fast mode is not its tier `priority`,
    /// which is paid in advance.
    pub fn of_speed(text: &str) -> Option<Self> {
        if matches!(text, "standard" | "") { None } else { Some(ServiceTier::Ultrafast) }
    }

    /// Its name in requests, metrics, logs and the ledger.
    pub fn label(self) -> &'static str {
        match self {
            ServiceTier::Default => "default",
            ServiceTier::Flex => "flex",
            ServiceTier::Priority => "priority",
            ServiceTier::Batch => "batch",
            ServiceTier::Scale => "scale",
            ServiceTier::Ultrafast => "ultrafast",
            ServiceTier::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_place_and_its_label() {
        for (index, tier) in ServiceTier::ALL.into_iter().enumerate() {
            assert_eq!(tier.index(), index);
            assert_eq!(ServiceTier::read(tier.label()), Some(tier));
        }
        assert_eq!(ServiceTier::read("fast"), Some(ServiceTier::Priority));
        assert_eq!(ServiceTier::read("standard"), Some(ServiceTier::Default));
        assert_eq!((ServiceTier::of_speed("fast"), ServiceTier::of_speed("standard")), (Some(ServiceTier::Ultrafast), None));
        assert_eq!((ServiceTier::read("auto"), ServiceTier::read("turbo")), (None, Some(ServiceTier::Other)));
    }
}
