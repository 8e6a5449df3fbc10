//! What stays back of a stream under guard.

use super::*;

fn chunk(text: &str) -> Bytes {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n").into()
}

/// What is said in all that is looked at.
fn said(screen: &Screen) -> String {
    screen.said.text()
}

#[test]
fn pieces_stay_back_until_they_have_passed() {
    let mut screen = Screen::default();
    let (one, two) = (chunk("hel"), chunk("lo"));
    screen.take(&one, false);
    assert!(screen.news && !screen.unreadable);
    screen.take(&two, false);
    assert_eq!((screen.length, screen.pending.len()), (one.len() + two.len(), 2));
    assert_eq!(said(&screen), "hello");
    assert_eq!(screen.release(), [&one[..], &two[..]].concat());
    assert_eq!((screen.length, screen.pending.len(), screen.news), (0, 0, false));
    screen.take(&Bytes::from_static(b": ping\n\n"), false);
    assert!(!screen.news, "nothing was said");
}

#[test]
fn the_end_of_what_has_passed_is_looked_at_with_what_follows() {
    let mut screen = Screen::default();
    screen.take(&chunk(&("x".repeat(OVERLAP * 2) + "her")), false);
    screen.release();
    screen.take(&chunk("on"), false);
    let text = said(&screen);
    assert!(text.ends_with("heron") && text.len() <= OVERLAP + 2 + 8, "{} {text}", text.len());
}

#[test]
fn what_cannot_be_read_does_not_pass_for_nothing() {
    let mut screen = Screen::default();
    screen.take(&Bytes::from_static(b"data: {\"choices\":[{\n\n"), false);
    assert!(screen.unreadable);
    screen.release();
    assert!(!screen.unreadable);
    screen.take(&Bytes::from_static(b"data: {\"choices\":["), false);
    assert!(screen.unreadable, "a part of an event is not seen whole");
}

#[test]
fn an_end_that_nobody_wrote_is_read_all_the_same() {
    let mut screen = Screen::default();
    let whole = chunk("hi");
    screen.take(&whole.slice(..whole.len() - 2), true);
    assert!(screen.news && !screen.unreadable);
    assert_eq!(said(&screen), "hi");
}
