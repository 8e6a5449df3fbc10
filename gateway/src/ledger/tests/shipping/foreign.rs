//! What others may leave in a place that all can write, and what was damaged there.

use super::*;

#[test]
fn a_link_that_another_node_left_in_the_place_is_never_written_through() {
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::new(base.path(), "a");
    node.write(&[row(NOON, "x", 10, 0, known(1))]);
    node.ship(NOON);
    let victim = base.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    let inside = base.path().join("place/a");
    let state = std::fs::read_dir(&inside).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_file()).unwrap();
    let name = state.file_name().unwrap().to_str().unwrap().to_owned();
    std::fs::remove_file(&state).unwrap();
    for link in [state.clone(), inside.join(format!(".unfinished-{}-{name}", std::process::id()))] {
        std::os::unix::fs::symlink(&victim, link).unwrap();
    }
    node.ship(NOON);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    assert!(std::fs::symlink_metadata(&state).unwrap().is_file(), "the state replaced the link");
}

#[test]
fn a_state_file_that_was_left_unfinished_is_removed_after_a_day() {
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::new(base.path(), "a");
    node.write(&[row(NOON, "x", 10, 0, known(1))]);
    node.ship(NOON);
    let left = base.path().join("place/a/.unfinished-7-8");
    std::fs::write(&left, "half").unwrap();
    let then = std::time::UNIX_EPOCH + std::time::Duration::from_millis(NOON.unsigned_abs());
    std::fs::File::options().write(true).open(&left).unwrap().set_modified(then).unwrap();
    node.ship(NOON + DAY / 2);
    assert!(left.exists(), "a process may still be writing it");
    node.ship(NOON + 2 * DAY);
    assert!(!left.exists());
}
