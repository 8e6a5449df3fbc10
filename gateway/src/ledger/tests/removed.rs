//! The ledger's file is removed or replaced while it is open.

use std::fs;
use std::path::PathBuf;

use super::*;

const FILES: [&str; 3] = ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm"];

/// What the copy of what was removed has, once it is made.
fn tokens_aside(folder: &Path) -> i64 {
    let aside = || {
        let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let mut aside: Vec<PathBuf> = paths.filter(|path| path.to_string_lossy().contains(".removed-")).collect();
        aside.retain(|path| !path.to_string_lossy().contains(".unfinished"));
        aside.pop()
    };
    let path = loop {
        if let Some(path) = aside() {
            break path;
        }
        std::thread::yield_now();
    };
    let other = tempfile::tempdir().unwrap();
    fs::rename(path, other.path().join(schema::FILE)).unwrap();
    tokens(other.path(), 0, NOON * 2)
}

#[test]
fn rows_go_to_a_new_file_and_the_old_ones_are_copied_beside_it() {
    for removed in [&FILES[..], &FILES[..1]] {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = writer(folder.path());
        writer.write(&[row(NOON, "x", 10, 0, known(5))]);
        for name in removed {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        writer.write(&[row(NOON, "x", 7, 0, known(5))]);
        writer.write(&[row(NOON, "x", 3, 0, known(5))]);
        assert_eq!((tokens(folder.path(), 0, NOON * 2), writer.metrics.failures.get(), writer.metrics.rows.get()), (10, 1, 3));
        assert_eq!(tokens_aside(folder.path()), 10);
        drop(writer);
        let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(folder.path().join(schema::FILE)).unwrap().permissions());
        assert_eq!((tokens(folder.path(), 0, NOON * 2), mode & 0o777), (10, 0o600), "after the end, too");
    }
}

#[test]
fn rows_go_to_the_file_that_was_put_in_its_place() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut restored = writer(other.path());
    restored.write(&[row(NOON, "x", 100, 0, known(5))]);
    drop(restored);
    let mut writer = writer(folder.path());
    writer.write(&[row(NOON, "x", 10, 0, known(5))]);
    // What belongs to the old one is still beside it.
    fs::rename(other.path().join(schema::FILE), folder.path().join(schema::FILE)).unwrap();
    writer.write(&[row(NOON, "x", 7, 0, known(5))]);
    assert_eq!((tokens(folder.path(), 0, NOON * 2), tokens_aside(folder.path())), (107, 10));
    drop(writer);
    assert_eq!(tokens(folder.path(), 0, NOON * 2), 107);
}

#[test]
fn two_processes_of_an_upgrade_go_on_in_the_same_new_file() {
    let folder = tempfile::tempdir().unwrap();
    let (mut old, mut new) = (writer(folder.path()), writer(folder.path()));
    old.write(&[row(NOON, "x", 10, 0, known(5))]);
    new.write(&[row(NOON, "x", 20, 0, known(5))]);
    fs::remove_file(folder.path().join(schema::FILE)).unwrap();
    old.write(&[row(NOON, "x", 1, 0, known(5))]);
    new.write(&[row(NOON, "x", 2, 0, known(5))]);
    old.write(&[row(NOON, "x", 4, 0, known(5))]);
    assert_eq!((tokens(folder.path(), 0, NOON * 2), tokens_aside(folder.path())), (7, 30));
    drop((old, new));
    assert_eq!(tokens(folder.path(), 0, NOON * 2), 7);
}

#[test]
fn it_is_noticed_without_rows_and_what_an_hour_has_once_is_kept_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = writer(folder.path());
    writer.keep_house_at(NOON);
    fs::remove_dir_all(folder.path()).unwrap();
    writer.keep_house_at(NOON);
    assert!(folder.path().join(schema::FILE).exists());
    // A folder that can't be used: rows are lost, and counted.
    fs::remove_dir_all(folder.path()).unwrap();
    fs::write(folder.path(), "").unwrap();
    writer.write(&[row(NOON, "x", 10, 0, known(5))]);
    assert_eq!(writer.metrics.dropped.get(), 1);
    fs::remove_file(folder.path()).unwrap();
    writer.write(&[row(NOON, "x", 7, 0, known(5))]);
    assert_eq!(tokens(folder.path(), 0, NOON * 2), 7);
}

#[test]
fn refusals_go_to_a_new_file_too() {
    let folder = tempfile::tempdir().unwrap();
    let metrics = crate::telemetry::metrics::Metrics::new().unwrap().ledger;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let refusals = Refusals::start(&rules(folder.path()), &metrics).unwrap();
    let written = |at: i64| {
        refusals.write(refusals::tests::refusal(at, 1));
        runtime.block_on(refusals.flush());
        let mut rows = refusals::RefusalRows::new(folder.path(), 0, i64::MAX / 1000).unwrap();
        std::iter::from_fn(|| rows.next_row().unwrap()).map(|row| row.at).collect::<Vec<_>>()
    };
    assert_eq!(written(1), [1]);
    fs::remove_file(folder.path().join("refusals.sqlite")).unwrap();
    assert_eq!((written(2), metrics.failures.get(), metrics.refusals_dropped.get()), (vec![2], 1, 0));
    assert_eq!(written(3), [2, 3]);
}
