//! What `agree.lua` and `heartbeat.lua` do, in Rust.

use std::collections::{BTreeMap, BTreeSet};

use super::super::agreement::{AskedLimit, GRACE, Question};

const GONE: i64 = 5000;
const RATE_GONE: i64 = 93_000;
const SILENT: i64 = 2000;

/// What a node has said of itself.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    amount: i64,
    stamp: i64,
    /// What its requests used beyond their reservations.
    beyond: i64,
}

/// All that is in Redis.
#[derive(Debug, Clone, Default)]
struct Content {
    born: Option<i64>,
    processes: BTreeMap<String, i64>,
    /// By place and field.
    entries: BTreeMap<String, BTreeMap<String, Entry>>,
}

#[derive(Debug, Default)]
pub(super) struct Model {
    current: Content,
    copy: Content,
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap()
}

/// The field of a node that asks, for a limit.
pub(super) fn field(question: &Question, limit: &AskedLimit) -> String {
    if limit.prefix.is_empty() { question.node.clone() } else { format!("{}{}", limit.prefix, question.process) }
}

impl Content {
    /// The other nodes' entries at a place; those of processes that are gone are removed.
    fn others(&mut self, place: &str, limit: &AskedLimit, field: &str, now: i64) -> BTreeMap<String, Entry> {
        let gone = if limit.prefix == "3:" { GONE } else { RATE_GONE };
        let is_other = |name: &String| name != field && name.starts_with(&limit.prefix);
        let entries = self.entries.entry(place.to_owned()).or_default();
        entries.retain(|name, entry| !is_other(name) || limit.prefix.is_empty() || now - entry.stamp <= gone);
        entries.iter().filter(|(name, _)| is_other(name)).map(|(name, entry)| (name.clone(), *entry)).collect()
    }

    fn put(&mut self, place: &str, field: &str, entry: Entry) {
        self.entries.entry(place.to_owned()).or_default().insert(field.to_owned(), entry);
    }

    fn agree_on(&mut self, question: &Question, limit: &AskedLimit, settling: bool, now: i64, answer: &mut Vec<u64>) {
        let field = field(question, limit);
        let whole = self.others(&limit.place, limit, &field, now);
        let of_parts: Vec<_> = limit.parts.iter().map(|part| self.others(&part.place, limit, &field, now)).collect();
        let names: BTreeSet<&String> = whole.keys().chain(of_parts.iter().flat_map(BTreeMap::keys)).collect();
        let has = |name: &&String| {
            let parts = of_parts.iter().filter_map(|entries| entries.get(*name));
            let (sum, latest) = parts.fold((0, i64::MIN), |(sum, latest), entry| (sum + entry.amount, latest.max(entry.stamp)));
            match whole.get(*name) {
                Some(whole) if whole.stamp >= latest => whole.amount,
                whole => sum.max(whole.map_or(0, |whole| whole.amount)),
            }
        };
        let others: i64 = names.iter().map(has).sum();
        let sums: Vec<i64> = of_parts.iter().map(|entries| entries.values().map(|entry| entry.amount).sum()).collect();
        let beyond = int(limit.beyond) + whole.values().map(|entry| entry.beyond).sum::<i64>();
        let (rest, rest_of_others) = (limit.parts.last().unwrap(), sums.last().unwrap());
        let exceeds = beyond.min((rest_of_others + int(rest.used) - int(rest.limit)).max(0));
        let used: i64 = limit.parts.iter().map(|part| int(part.used)).sum();
        let mut free = int(limit.limit) + exceeds - others - used;
        let mut shares = Vec::new();
        for (part, others) in limit.parts.iter().zip(&sums) {
            let [limit, used, had, wanted] = [part.limit, part.used, part.had, part.wanted].map(int);
            let most = if settling { had.min(wanted) } else { (limit - others).min(wanted).min(used + free.max(0)) };
            let share = most.max(used);
            free -= share - used;
            self.put(&part.place, &field, Entry { amount: share, stamp: now, beyond: 0 });
            shares.push(share);
        }
        if limit.parts.len() > 1 || !whole.is_empty() {
            self.put(&limit.place, &field, Entry { amount: shares.iter().sum(), stamp: now, beyond: int(limit.beyond) });
        }
        for ((part, others), share) in limit.parts.iter().zip(sums).zip(shares) {
            let left = (int(part.limit) - others - share).min(free).max(0);
            free -= left;
            answer.extend([share, left].map(|number| u64::try_from(number).unwrap()));
        }
    }
}

impl Model {
    pub(super) fn agree(&mut self, question: &Question, now: i64) -> Vec<u64> {
        let born = *self.current.born.get_or_insert(now);
        let heard = self.current.processes.get(&question.process).copied().unwrap_or(-1);
        let settling = now < born || now - born < i64::try_from(GRACE.as_millis()).unwrap() || now - heard > SILENT;
        let mut answer = vec![u64::from(settling)];
        for limit in &question.limits {
            self.current.agree_on(question, limit, settling, now, &mut answer);
        }
        answer
    }

    pub(super) fn beat(&mut self, process: &str, answered: i64, now: i64) -> (u64, i64, i64) {
        let Content { born, processes, .. } = &mut self.current;
        let newest = processes.values().copied().max().unwrap_or(0);
        let own = processes.get(process).copied().unwrap_or(0);
        processes.retain(|_, stamp| now - *stamp <= GONE);
        let name = |process: &str| process.rsplit_once('.').map_or(process, |(name, _)| name).to_owned();
        let is_other = |other: &str| other != process && !other.starts_with("preparing:");
        let others: Vec<(&String, &i64)> = processes.iter().filter(|(other, _)| is_other(other)).collect();
        let twin = others.iter().filter(|(other, _)| name(other) == name(process)).map(|(_, stamp)| **stamp).max().unwrap_or(0);
        let count = others.len() + 1;
        processes.insert(process.to_owned(), now);
        let forgot = own < answered && now - answered <= GONE;
        if born.is_none_or(|born| now < born) || now - newest > SILENT || forgot {
            *born = Some(now);
        }
        (count as u64, twin, now)
    }

    /// What a node has said of itself.
    pub(super) fn recorded(&self, place: &str, field: &str) -> u64 {
        let entry = self.current.entries.get(place).and_then(|entries| entries.get(field));
        entry.map_or(0, |entry| u64::try_from(entry.amount).unwrap())
    }

    /// Whether nothing is given away.
    pub(super) fn is_settling(&self, now: i64) -> bool {
        self.current.born.is_none_or(|born| now < born || now - born < i64::try_from(GRACE.as_millis()).unwrap())
    }

    pub(super) fn put(&mut self, place: &str, field: &str, amount: u64, now: i64) {
        self.current.put(place, field, Entry { amount: int(amount), stamp: now, beyond: 0 });
    }

    pub(super) fn copy(&mut self) {
        self.copy = self.current.clone();
    }

    pub(super) fn fail_over(&mut self) {
        self.current = self.copy.clone();
    }

    pub(super) fn flush(&mut self) {
        self.current = Content::default();
    }
}
