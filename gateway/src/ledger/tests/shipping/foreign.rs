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

/// A place with a day that can't be listed, as for want of permission.
struct Locked(Box<dyn Place>, &'static str);

impl Place for Locked {
    fn survey(&mut self, folder: Option<&str>) -> Result<Survey, PlaceError> {
        self.0.survey(folder)
    }
    fn names(&mut self, folder: &str, day: &str) -> Result<Vec<String>, PlaceError> {
        if folder == self.1 {
            return Err(PlaceError::File { path: day.to_owned(), source: std::io::ErrorKind::PermissionDenied.into() });
        }
        self.0.names(folder, day)
    }
    fn read(&mut self, folder: &str, day: &str, name: &str) -> Result<Option<Vec<u8>>, PlaceError> {
        self.0.read(folder, day, name)
    }
    fn write(&mut self, folder: &str, day: &str, name: &str, bytes: &[u8]) -> Result<(), PlaceError> {
        self.0.write(folder, day, name, bytes)
    }
    fn remove(&mut self, folder: &str, day: &str, name: &str) -> Result<(), PlaceError> {
        self.0.remove(folder, day, name)
    }
    fn remove_day(&mut self, folder: &str, day: &str) -> Result<(), PlaceError> {
        self.0.remove_day(folder, day)
    }
    fn write_state(&mut self, folder: &str, name: &str, bytes: &[u8]) -> Result<(), PlaceError> {
        self.0.write_state(folder, name, bytes)
    }
    fn write_made(&mut self, folder: &str, day: &str, make: &mut MakeFile<'_>) -> Result<(), PlaceError> {
        self.0.write_made(folder, day, make)
    }
    fn remove_unfinished(&mut self, folder: &str, day: Option<&str>, before: SystemTime) -> Result<(), PlaceError> {
        self.0.remove_unfinished(folder, day, before)
    }
}

#[test]
fn what_cannot_be_read_is_set_aside_with_its_error_and_everything_else_counts() {
    let base = tempfile::tempdir().unwrap();
    for (name, tokens) in [("a", 1), ("b", 2), ("c", 4)] {
        let mut node = Node::new(base.path(), name);
        node.write(&[row(NOON, "x", tokens, 0, known(1))]);
        node.ship(NOON);
    }
    // Of one node a file and the state are named pipes, of another the day can't be listed.
    let pipes = base.path().join("place/b");
    let day = pipes.join("2026-11-10");
    for inside in [&pipes, &day] {
        for path in std::fs::read_dir(inside).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
            std::fs::remove_file(&path).unwrap();
            nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o644)).unwrap();
        }
    }
    let mut place = Locked(folder(&base.path().join("place")), "c");
    let all = all_nodes::read(&mut place, 0, NOON * 2, NOON).unwrap();
    assert_eq!(input(&all), 1);
    let mut why: Vec<(&str, &str)> = all.sources.set_aside.iter().map(|file| (file.path.get(..4).unwrap(), file.why.as_str())).collect();
    why.sort_unstable();
    let pipe = "can't be read: it is not a regular file";
    assert!(why.len() == 3 && why[0].1 == pipe && why[1].1 == pipe, "{why:?}");
    assert!(why[2].0 == "c/20" && why[2].1.contains("permission denied"), "{why:?}");
    assert_eq!(all.sources.nodes.iter().map(|node| node.missing.len()).collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn a_folder_with_a_looping_link_of_a_files_name_is_reported_with_its_error() {
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::new(base.path(), "a");
    node.write(&[row(NOON, "x", 1, 0, known(1))]);
    node.ship(NOON);
    let link = base.path().join("place/a/00000000000000ff.json");
    std::os::unix::fs::symlink(&link, &link).unwrap();
    let all = read(base.path(), NOON);
    assert_eq!((input(&all), all.sources.set_aside.len()), (1, 1));
    assert!(all.sources.set_aside[0].why.starts_with("can't be read: "), "{:?}", all.sources.set_aside);
}

#[test]
fn attempts_that_a_process_had_replaced_when_it_was_killed_are_removed_at_the_next_start() {
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::new(base.path(), "a");
    let start = |node: &Node| rounds("a", &node.state, folder(&base.path().join("place")), true);
    node.rounds = start(&node);
    let parquets = || files(base.path()).into_iter().filter(|name| name.ends_with(".parquet")).collect::<Vec<_>>();
    node.write(&[row(NOON, "x", 1, 0, known(1))]);
    node.sum_up(NOON + 3 * HOUR);
    node.ship(NOON + 3 * HOUR);
    let [first] = parquets().try_into().unwrap();
    let path = base.path().join("place/a/2026-11-10").join(first);
    let bytes = std::fs::read(&path).unwrap();
    node.write(&[row(NOON + 1, "x", 1, 0, known(1))]);
    node.ship(NOON + 3 * HOUR);
    let later = parquets();
    std::fs::write(&path, bytes).unwrap();
    assert_eq!((later.len(), parquets().len()), (1, 2));
    node.rounds = start(&node);
    node.ship(NOON + 3 * HOUR);
    assert_eq!(parquets(), later);
}

#[test]
fn a_state_in_the_folder_of_another_node_or_under_another_name_is_set_aside() {
    let base = tempfile::tempdir().unwrap();
    for name in ["a", "b"] {
        let mut node = Node::new(base.path(), name);
        node.write(&[row(NOON, "x", 1, 0, known(1))]);
        node.ship(NOON);
    }
    let place = base.path().join("place");
    let states = |node: &str| {
        let all = std::fs::read_dir(place.join(node)).unwrap().map(|entry| entry.unwrap().path());
        all.filter(|path| path.is_file()).collect::<Vec<_>>()
    };
    let [state] = states("a").try_into().unwrap();
    // It says that the other node has shipped everything, an hour from now.
    let forged = std::fs::read_to_string(&state).unwrap().replace(&NOON.to_string(), &(NOON + HOUR).to_string());
    std::fs::write(place.join("b").join(state.file_name().unwrap()), &forged).unwrap();
    std::fs::write(place.join("a/00000000000000aa.json"), &forged).unwrap();
    let sources = read(base.path(), NOON + 1000).sources;
    assert_eq!(sources.set_aside.len(), 2, "{:?}", sources.set_aside);
    assert!(sources.set_aside.iter().all(|file| file.why.contains("another ledger")), "{:?}", sources.set_aside);
    assert_eq!(sources.nodes.iter().map(|node| node.age_s).collect::<Vec<_>>(), [Some(1), Some(1)]);
}

#[test]
fn a_node_with_a_clock_that_is_ahead_is_late_and_whatever_a_state_says_about_rounds_there_is_a_limit() {
    let base = tempfile::tempdir().unwrap();
    let mut node = Node::new(base.path(), "a");
    node.write(&[row(NOON, "x", 1, 0, known(1))]);
    node.ship(NOON);
    let why = |now: i64| read(base.path(), now).sources.nodes[0].why_late.unwrap_or("no");
    assert_eq!((why(NOON - 60_000), why(NOON + 360_000), why(NOON + 361_000)), ("no", "no", "it is down, or can't ship"));
    assert!(why(NOON - 60_001).contains("clock is ahead"));
    let inside = base.path().join("place/a");
    let state = std::fs::read_dir(inside).unwrap().map(|entry| entry.unwrap().path()).find(|path| path.is_file()).unwrap();
    let text = std::fs::read_to_string(&state).unwrap();
    std::fs::write(&state, text.replace("\"every_s\":60", &format!("\"every_s\":{}", u64::MAX))).unwrap();
    assert_eq!((why(NOON + DAY), why(NOON + 6 * DAY)), ("no", "it is down, or can't ship"));
    std::fs::write(&state, text.replace(&NOON.to_string(), &i64::MIN.to_string())).unwrap();
    assert_eq!(why(NOON), "it is down, or can't ship");
}
