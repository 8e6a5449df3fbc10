//! Tags come from callers: a header that is different in every request would make the sums by the hour as
//! long as the attempts. So an hour has so many different tags, and what comes after them is `(other)`.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;

/// Different tags in an hour.
const MOST: usize = 1000;

/// The tags that were seen in the hour under way.
#[derive(Debug, Default)]
pub(super) struct Tags {
    hour: i64,
    seen: HashSet<Arc<str>>,
}

impl Tags {
    /// The tags that a row in this hour is kept with.
    pub(super) fn bounded(&mut self, hour: i64, tags: &Arc<str>) -> Arc<str> {
        if hour > self.hour {
            self.hour = hour;
            self.seen.clear();
        }
        if self.seen.contains(tags) {
            return Arc::clone(tags);
        }
        if self.seen.len() < MOST {
            self.seen.insert(Arc::clone(tags));
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
    fn an_hour_has_so_many() {
        let mut tags = Tags::default();
        let mut ask = |hour: i64, number: usize| tags.bounded(hour, &format!(r#"{{"x-team":"{number}"}}"#).into()).to_string();
        for number in 0..MOST {
            assert!(ask(1, number).contains(&number.to_string()));
        }
        assert_eq!(ask(1, MOST), r#"{"x-team":"(other)"}"#);
        assert_eq!(ask(1, 7), r#"{"x-team":"7"}"#, "what was seen stays");
        assert_eq!(ask(0, MOST + 1), r#"{"x-team":"(other)"}"#, "a late row");
        assert_eq!(ask(2, MOST), format!(r#"{{"x-team":"{MOST}"}}"#), "a new hour");
    }
}
