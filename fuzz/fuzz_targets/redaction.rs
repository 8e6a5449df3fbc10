//! Redaction keeps what it leaves in its order, adds nothing but names in brackets, is done after one go, and finds what
//! stands on a line of its own whatever is around it.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use spillway_plugins::prompt_log::redact::{Class, Redactor};

static ALL: LazyLock<Redactor> = LazyLock::new(|| Redactor::new(&Class::NAMES.map(|(_, class)| class), &[]).expect("no own patterns"));

/// What must not be kept, and the part of it that must not show.
const PLANTED: [(&str, &str); 9] = [
    ("anna.berg@contoso.example", "anna.berg@contoso"),
    ("+49 30 901820", "901820"),
    ("415-555-2671", "555-2671"),
    ("DE89 3704 0044 0532 0130 00", "0044 0532"),
    ("4111 1111 1111 1111", "1111 1111"),
    ("sk-proj-A1b2C3d4E5f6G7h8I9j0", "C3d4E5f6"),
    ("api_key=9f8e7d6c5b4a39281706", "7d6c5b4a"),
    ("Authorization: Bearer 9f8e7d6c5b4a39281706", "7d6c5b4a"),
    ("postgres://app:Str0ngWord9@db.internal/x", "Str0ngWord9"),
];

/// The pieces of a text between names in brackets.
fn between(text: &str) -> Vec<&str> {
    let mut pieces = vec![text];
    for (name, _) in Class::NAMES {
        let name = format!("[{name}]");
        pieces = pieces.iter().flat_map(|piece| piece.split(&name)).collect();
    }
    pieces
}

fn check(text: &str) -> String {
    let once = ALL.redact(text);
    assert_eq!(ALL.redact(&once), once, "a second go changes it");
    let mut rest = text;
    for piece in between(&once) {
        let at = rest.find(piece);
        assert!(at.is_some(), "{piece:?} is not from the text");
        rest = &rest[at.unwrap_or(0) + piece.len()..];
    }
    once.into_owned()
}

fuzz_target!(|text: &str| {
    check(text);
    // Something that must go, on a line between two parts of the text.
    let (which, at) = text.bytes().take(2).fold((0, 0), |(which, _), byte| (which * 7 + usize::from(byte), usize::from(byte)));
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    let (planted, secret) = PLANTED[which % PLANTED.len()];
    let (before, after) = text.split_at(at);
    if !before.contains(secret) && !after.contains(secret) {
        let kept = check(&format!("{before}\n{planted}\n{after}"));
        assert!(!kept.contains(secret), "{kept}");
    }
});
