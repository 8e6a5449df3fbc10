//! How processes name a limit to each other.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::LimitKind;
use super::calendar::Calendar;
use super::period::{Period, Span};
use super::rules::LimitId;
use super::zone::Zone;

/// A limit, as another process names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LimitName {
    pub(super) kind: LimitKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) period: Option<Period>,
    /// The time zone; none is UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) zone: Option<String>,
}

impl LimitName {
    pub(super) fn of(id: LimitId) -> Self {
        let zone = id.calendar.filter(|calendar| !calendar.zone.is_utc()).map(|calendar| calendar.zone.name().to_owned());
        LimitName { kind: id.kind, period: id.calendar.map(|calendar| calendar.period), zone }
    }

    pub(super) fn of_rate(kind: LimitKind) -> Self {
        LimitName { kind, period: None, zone: None }
    }

    /// `None`: this version's database has no such time zone.
    fn id(&self) -> Option<LimitId> {
        let zone = self.zone.as_deref().map_or(Some(Zone::UTC), Zone::named)?;
        Some(LimitId { kind: self.kind, calendar: self.period.map(|period| Calendar { period, zone }) })
    }
}

/// A limit in one of its periods, as another process names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PeriodName {
    #[serde(flatten)]
    limit: LimitName,
    /// The start of the period, if it counts by the calendar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start: Option<i64>,
}

impl PeriodName {
    pub(super) fn kind(&self) -> LimitKind {
        self.limit.kind
    }

    pub(super) fn of(id: LimitId, span: Option<Span>) -> Self {
        PeriodName { limit: LimitName::of(id), start: span.map(|span| span.start) }
    }
}

impl Serialize for LimitId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        LimitName::of(*self).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LimitId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        LimitName::deserialize(deserializer)?.id().ok_or_else(|| de::Error::custom("unknown time zone"))
    }
}
