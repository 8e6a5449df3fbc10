//! Which beginnings of prompts a deployment remembers: those of at least 1,024 tokens, for five minutes.

use std::collections::HashMap;
use std::time::Duration;

use spillway_plugins::fnv::fnv1a;

use crate::clock::Tick;

/// Bytes of the shortest beginning that is remembered, and of each step beyond it: 1,024 and 128 tokens of four bytes.
const FIRST: usize = 4096;
const STEP: usize = 512;
/// Tokens of both.
const TOKENS: (u64, u64) = (1024, 128);
/// Most beginnings of one prompt.
const MOST: usize = 1024;
/// Most beginnings that are remembered.
const REMEMBERED: usize = 65_536;
const KEPT: Duration = Duration::from_secs(300);

/// Adds the beginnings of a prompt's next part to `beginnings`; each is a number. `bytes`: the bytes of the parts before.
pub(super) fn add_beginnings(beginnings: &mut Vec<u64>, bytes: usize, part: &[u8]) {
    let last = beginnings.last().copied().unwrap_or(0);
    let next = |count: usize| FIRST + count * STEP;
    let mut from = 0;
    let mut hash = last;
    while beginnings.len() < MOST {
        let Some(to) = next(beginnings.len()).checked_sub(bytes).filter(|to| *to <= part.len()) else { return };
        hash = fnv1a(hash.to_le_bytes().into_iter().chain(part[from..to].iter().copied()));
        beginnings.push(hash);
        from = to;
    }
}

/// The beginnings that one deployment remembers.
#[derive(Debug, Default)]
pub(super) struct PromptCache(HashMap<u64, Tick>);

impl PromptCache {
    /// How many tokens of a prompt with these beginnings are cached. Remembers them.
    pub(super) fn cached(&mut self, beginnings: &[u64], now: Tick) -> u64 {
        let known = |one: &u64| self.0.get(one).is_some_and(|at| now.since(*at) <= KEPT);
        let cached = beginnings.iter().take_while(|one| known(one)).count() as u64;
        if self.0.len() + beginnings.len() > REMEMBERED {
            self.0.retain(|_, at| now.since(*at) <= KEPT);
        }
        if self.0.len() + beginnings.len() <= REMEMBERED {
            self.0.extend(beginnings.iter().map(|one| (*one, now)));
        }
        if cached == 0 { 0 } else { TOKENS.0 + (cached - 1) * TOKENS.1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Tick = Tick(3_600_000_000_000);

    fn beginnings(text: &str) -> Vec<u64> {
        let mut list = Vec::new();
        add_beginnings(&mut list, 0, text.as_bytes());
        list
    }

    #[test]
    fn a_long_beginning_is_cached_for_five_minutes() {
        let mut cache = PromptCache::default();
        let long = "a".repeat(FIRST + 3 * STEP);
        assert_eq!(cache.cached(&beginnings(&long), NOW), 0);
        assert_eq!(cache.cached(&beginnings(&long), NOW), 1024 + 3 * 128);
        let other_end = format!("{}{}", &long[..FIRST + STEP], "b".repeat(5000));
        assert_eq!(cache.cached(&beginnings(&other_end), NOW), 1024 + 128);
        assert_eq!(cache.cached(&beginnings(&"a".repeat(FIRST - 1)), NOW), 0, "too short");
        assert_eq!(cache.cached(&beginnings(&format!("b{long}")), NOW), 0, "another beginning");
        assert_eq!(cache.cached(&beginnings(&long), NOW + KEPT + Duration::from_secs(1)), 0);
    }

    #[test]
    fn it_is_bounded() {
        let mut cache = PromptCache::default();
        for number in 0..200 {
            cache.cached(&beginnings(&format!("{number:4}").repeat(200_000)), NOW);
        }
        assert!(cache.0.len() <= REMEMBERED);
    }
}
