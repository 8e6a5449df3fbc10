//! Tags come from callers: a header that differs in every request would make the hourly sums as long as the list of
//! attempts. So the number of different tags in an hour is limited, with a part for each consumer; further ones are
//! stored as `(other)`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use crate::shares::{Owner, Portions};

/// Different tags in an hour that every consumer has for itself.
const OWN: usize = 50;
/// Further different tags in an hour, for all consumers together.
const COMMON: usize = 1000;

/// The tags of the current hour.
#[derive(Debug)]
pub(super) struct Tags {
    hour: i64,
    seen: HashMap<Owner, HashSet<Arc<str>>>,
    portions: Portions<Owner>,
}

impl Default for Tags {
    fn default() -> Self {
        Tags { hour: 0, seen: HashMap::new(), portions: Portions::new(OWN, COMMON) }
    }
}

impl Tags {
    /// The tags that are stored with a consumer's row in this hour.
    pub(super) fn bounded(&mut self, hour: i64, consumer: &Owner, tags: &Arc<str>) -> Arc<str> {
        if hour > self.hour {
            self.hour = hour;
            self.seen.clear();
            self.portions.clear();
        }
        if self.seen.get(consumer).is_some_and(|seen| seen.contains(tags)) {
            return Arc::clone(tags);
        }
        if self.portions.take(consumer) {
            self.seen.entry(consumer.clone()).or_default().insert(Arc::clone(tags));
            return Arc::clone(tags);
        }
        let mut other: Value = serde_json::from_str(tags).unwrap_or_default();
        other.as_object_mut().into_iter().flat_map(|tags| tags.values_mut()).for_each(|value| *value = Value::from("(other)"));
        other.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hour_has_so_many_and_every_consumer_its_own() {
        let mut tags = Tags::default();
        let mut ask = |hour: i64, consumer: &str, number: usize| {
            tags.bounded(hour, &Some(consumer.into()), &format!(r#"{{"x-team":"{number}"}}"#).into()).to_string()
        };
        let most = OWN + COMMON;
        for number in 0..most {
            assert!(ask(1, "a", number).contains(&number.to_string()));
        }
        assert_eq!(ask(1, "a", most), r#"{"x-team":"(other)"}"#);
        assert_eq!(ask(1, "a", 7), r#"{"x-team":"7"}"#, "what was seen stays");
        assert_eq!(ask(0, "a", most + 1), r#"{"x-team":"(other)"}"#, "a late row");
        for number in 0..OWN {
            assert!(ask(1, "b", most + number).contains(&(most + number).to_string()), "whatever a did");
        }
        assert_eq!(ask(1, "b", 0), r#"{"x-team":"(other)"}"#, "what a has seen is a's");
        assert_eq!(ask(2, "b", most), format!(r#"{{"x-team":"{most}"}}"#), "a new hour");
    }
}
