//! Redaction keeps what it leaves in its order, adds nothing but names in brackets, and is done after one go.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use spillway_plugins::prompt_log::redact::{Class, Redactor};

static ALL: LazyLock<Redactor> = LazyLock::new(|| Redactor::new(&Class::NAMES.map(|(_, class)| class), &[]).expect("no own patterns"));

/// The pieces of a text between names in brackets.
fn between(text: &str) -> Vec<&str> {
    let mut pieces = vec![text];
    for (name, _) in Class::NAMES {
        let name = format!("[{name}]");
        pieces = pieces.iter().flat_map(|piece| piece.split(&name)).collect();
    }
    pieces
}

fuzz_target!(|text: &str| {
    let once = ALL.redact(text);
    assert_eq!(ALL.redact(&once), once, "a second go changes it");
    let mut rest = text;
    for piece in between(&once) {
        let at = rest.find(piece);
        assert!(at.is_some(), "{piece:?} is not from the text");
        rest = &rest[at.unwrap_or(0) + piece.len()..];
    }
});
