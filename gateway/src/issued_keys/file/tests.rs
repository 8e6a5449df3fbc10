//! The file as a process finds it after a crash at any byte.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use chrono::DateTime;
use proptest::prelude::*;

use super::*;
use crate::issued_keys::record::tests::any_key;
use crate::telemetry::metrics::Metrics;

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn memory() -> Memory {
    Memory::new(true, false, Metrics::new().unwrap().issued_keys.clone())
}

/// As a process does it: what is written is known from then on.
fn write(file: &mut KeyFile, memory: &Memory, changes: &[StoredKey]) {
    let written = file.write(now(), memory, || Ok::<_, io::Error>(changes.to_vec())).unwrap();
    memory.learn(written, Source::File);
}

/// What a process knows that starts with this folder.
fn read(folder: &Path) -> BTreeMap<Arc<str>, StoredKey> {
    let memory = memory();
    write(&mut KeyFile::new(folder), &memory, &[]);
    memory.all().into_iter().map(|key| (Arc::clone(&key.made.id), key)).collect()
}

/// What these lines say together.
fn merged(lines: &[Vec<StoredKey>]) -> BTreeMap<Arc<str>, StoredKey> {
    let mut all: BTreeMap<Arc<str>, StoredKey> = BTreeMap::new();
    for key in lines.iter().flatten() {
        all.entry(Arc::clone(&key.made.id)).or_insert_with(|| key.clone()).merge(key);
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]
    #[test]
    fn after_a_crash_at_any_byte_all_whole_changes_are_known_and_the_next_one_is_kept(
        changes in prop::collection::vec(prop::collection::vec(any_key(), 1..3), 1..4),
        next in any_key(),
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, known) = (KeyFile::new(folder.path()), memory());
        changes.iter().for_each(|change| write(&mut file, &known, change));
        let whole = std::fs::read(folder.path().join(FILE)).unwrap();
        // Every third byte: each cut costs a folder, and what follows the same letters is the same.
        for end in (0..=whole.len()).step_by(3) {
            let folder = tempfile::tempdir().unwrap();
            std::fs::write(folder.path().join(FILE), &whole[..end]).unwrap();
            let lines = whole[..end].iter().filter(|byte| **byte == b'\n').count().saturating_sub(1);
            prop_assert_eq!(read(folder.path()), merged(&changes[..lines]), "cut at {}", end);
            let (mut file, known) = (KeyFile::new(folder.path()), memory());
            write(&mut file, &known, &[]);
            write(&mut file, &known, std::slice::from_ref(&next));
            let expected = merged(&[&changes[..lines], &[vec![next.clone()]]].concat());
            prop_assert_eq!(read(folder.path()), expected, "cut at {}", end);
        }
    }

    #[test]
    fn two_processes_with_one_file_know_the_same(changes in prop::collection::vec((any_key(), prop::bool::ANY), 1..150)) {
        let folder = tempfile::tempdir().unwrap();
        let mut processes = [(KeyFile::new(folder.path()), memory()), (KeyFile::new(folder.path()), memory())];
        for (change, first) in &changes {
            let (file, known) = &mut processes[usize::from(*first)];
            write(file, known, std::slice::from_ref(change));
        }
        let expected = merged(&[changes.iter().map(|(change, _)| change.clone()).collect()]);
        for (file, known) in &mut processes {
            write(file, known, &[]);
            let all: BTreeMap<Arc<str>, StoredKey> = known.all().into_iter().map(|key| (Arc::clone(&key.made.id), key)).collect();
            prop_assert_eq!(&all, &expected);
            prop_assert!(!file.has_changed());
        }
        prop_assert_eq!(read(folder.path()), expected);
        // It is written anew from time to time: at most twice as many lines as keys, and a hundred.
        let lines = std::fs::read_to_string(folder.path().join(FILE)).unwrap().lines().count();
        prop_assert!(lines <= 4 * 2 + 102, "{}", lines);
    }
}
