use super::*;
use proptest::prelude::*;

fn run(chunks: impl IntoIterator<Item = Vec<u8>>) -> (Vec<(String, String)>, Vec<u8>, Splitter) {
    let (mut splitter, mut events, mut out) = (Splitter::default(), Vec::new(), Vec::new());
    for chunk in chunks {
        let whole = splitter.feed(chunk.into(), |event| {
            events.push((String::from_utf8_lossy(event.name).into(), String::from_utf8_lossy(&event.data).into()));
            Fate::Pass
        });
        out.extend_from_slice(&whole);
    }
    (events, out, splitter)
}

const STREAM: &str = "\u{feff}: hello\n\ndata: one\n\nevent: x\r\ndata:two\r\ndata: three\r\n\r\nid: 7\rdata\r\r: ping\n\ndata: \u{e9}\u{1f600}\n\nretry: 5\n\n";

fn expected() -> Vec<(String, String)> {
    [("", "one"), ("x", "two\nthree"), ("", ""), ("", "\u{e9}\u{1f600}")].map(|(n, d)| (n.to_owned(), d.to_owned())).to_vec()
}

#[test]
fn reads_every_line_ending() {
    let (events, out, splitter) = run([STREAM.as_bytes().to_vec()]);
    assert_eq!(events, expected());
    assert_eq!(out, STREAM.as_bytes());
    assert!(splitter.at_boundary());
}

#[test]
fn a_whole_chunk_is_not_copied() {
    let chunk = Bytes::from_static(b"data: a\n\ndata: b\n\n");
    let mut splitter = Splitter::default();
    assert_eq!(splitter.feed(chunk.clone(), |_| Fate::Pass).as_ptr(), chunk.as_ptr());
}

#[test]
fn events_can_be_taken_out() {
    let text = b": c\n\ndata: a\n\ndata: drop\n\ndata: b\n\ndata: drop\n\n";
    for size in 1..text.len() {
        let (mut splitter, mut out) = (Splitter::default(), Vec::new());
        for piece in text.chunks(size) {
            let fate = |event: Event<'_>| if &*event.data == b"drop" { Fate::Drop } else { Fate::Pass };
            out.extend_from_slice(&splitter.feed(Bytes::copy_from_slice(piece), fate));
        }
        assert_eq!(out, b": c\n\ndata: a\n\ndata: b\n\n", "pieces of {size}");
    }
}

#[test]
fn an_unfinished_event_waits() {
    let (events, out, mut splitter) = run([b"data: a\n\ndata: b".to_vec()]);
    assert_eq!(events.len(), 1);
    assert_eq!(out, b"data: a\n\n");
    assert!(!splitter.at_boundary());
    assert_eq!(&splitter.take_tail()[..], b"data: b");
}

fn excerpt(event: &str) -> String {
    let mut excerpt = crate::excerpt::Excerpt::new(crate::excerpt::event);
    excerpt.push(event.as_bytes());
    String::from_utf8(excerpt.into_text()).unwrap()
}

#[test]
fn a_long_event_passes_as_it_comes_and_is_read_all_the_same() {
    let data = format!(r#"{{"b64_json":"{}","usage":{{"input_tokens":5}},"type":"t"}}"#, "x".repeat(3 * KEPT));
    for (line, end) in [("\n", "\n\n"), ("\r\n", "\r\n\r\n"), ("\r", "\r\r")] {
        for order in [true, false] {
            let fields = [format!("event: image{line}"), "id: 7".to_owned() + line, format!("data: {data}{line}")];
            let event: String = if order { fields.concat() } else { fields.iter().rev().cloned().collect() };
            let text = format!("data: a\n\n{event}{}data: b\n\n", &end[line.len()..]);
            for size in [1000, 4096, KEPT, KEPT + 1, text.len()] {
                let (mut splitter, mut out, mut events) = (Splitter::keeping(KEPT), Vec::new(), Vec::new());
                let mut held = 0;
                for piece in text.as_bytes().chunks(size) {
                    out.extend_from_slice(&splitter.feed(Bytes::copy_from_slice(piece), |event| {
                        let data = if event.cut.is_some() {
                            String::from_utf8(event.data.to_vec()).unwrap()
                        } else {
                            excerpt(&String::from_utf8_lossy(&event.data))
                        };
                        events.push((String::from_utf8_lossy(event.name).into_owned(), data));
                        Fate::Pass
                    }));
                    held = held.max(splitter.tail.len());
                }
                assert_eq!(out, text.as_bytes(), "{line:?} in pieces of {size}");
                let long = ("image".to_owned(), r#"{"usage":{"input_tokens":5},"type":"t"}"#.to_owned());
                let expected = [(String::new(), String::new()), long, (String::new(), String::new())];
                assert_eq!(events, expected, "{line:?} in pieces of {size}");
                assert!(held <= KEPT && splitter.at_boundary());
            }
        }
    }
}

#[test]
fn the_end_of_a_stream_ends_its_last_event() {
    let long = format!("data: {{\"type\":\"t\",\"x\":\"{}\"}}", "x".repeat(2 * KEPT));
    for (text, expected) in
        [("data: a\n\ndata: b", "b"), ("data: b\n", "b"), ("data: b\r\n", "b"), ("data: b\r", "b"), (&long, r#"{"type":"t"}"#)]
    {
        for size in [1, 500, text.len()] {
            let (mut splitter, mut last, mut out) = (Splitter::keeping(KEPT), String::new(), Vec::new());
            let mut note = |event: Event<'_>| {
                last = String::from_utf8_lossy(&event.data).into_owned();
                Fate::Pass
            };
            for piece in text.as_bytes().chunks(size) {
                out.extend_from_slice(&splitter.feed(Bytes::copy_from_slice(piece), &mut note));
            }
            out.extend_from_slice(&splitter.finish(&mut note));
            assert_eq!((last.as_str(), out.as_slice()), (expected, text.as_bytes()), "pieces of {size}");
            assert!(splitter.at_boundary());
        }
    }
}

proptest! {
    #[test]
    fn any_split_gives_the_same_events_and_bytes(cuts in proptest::collection::vec(0..STREAM.len(), 0..12)) {
        let mut cuts = cuts;
        cuts.extend([0, STREAM.len()]);
        cuts.sort_unstable();
        let (events, out, splitter) = run(cuts.windows(2).map(|w| STREAM.as_bytes()[w[0]..w[1]].to_vec()));
        prop_assert_eq!(events, expected());
        prop_assert_eq!(out, STREAM.as_bytes());
        prop_assert!(splitter.at_boundary());
    }

    #[test]
    fn long_and_short_events_in_any_pieces(lengths in proptest::collection::vec(0usize..300, 1..8), cut in 1usize..120) {
        let text: String = lengths.iter().map(|length| format!("event: e\ndata: {{\"x\":\"{}\",\ndata: \"type\":\"{length}\"}}\r\n\r\n", "x".repeat(*length))).collect();
        let (mut splitter, mut out, mut events) = (Splitter::keeping(100), Vec::new(), Vec::new());
        for piece in text.as_bytes().chunks(cut) {
            out.extend_from_slice(&splitter.feed(Bytes::copy_from_slice(piece), |event| {
                let data: serde_json::Value = serde_json::from_slice(&event.data).unwrap();
                assert_eq!(event.name, b"e");
                events.push(data["type"].as_str().unwrap().parse::<usize>().unwrap());
                Fate::Pass
            }));
        }
        prop_assert_eq!(out, text.as_bytes());
        prop_assert_eq!(events, lengths);
        prop_assert!(splitter.at_boundary());
    }
}

#[test]
fn a_blank_line_behind_the_mark_ends_nothing() {
    let stream = b"\xef\xbb\xbf\r\n\ndata: {\"usage\":1}\n\ndata: two\n\n";
    for most in [3, 8, 1000] {
        for cut in 1..stream.len() {
            let (mut splitter, mut events) = (Splitter::keeping(most), 0);
            for piece in stream.chunks(cut) {
                splitter.feed(Bytes::copy_from_slice(piece), |_| {
                    events += 1;
                    Fate::Pass
                });
            }
            assert_eq!(events, 2, "{most} {cut}");
        }
    }
}
