//! A stream means the same however it is cut, means what another reader finds, and leaves as it came, but for events that
//! nobody can read.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use spillway_fuzz::{cuts, pieces};
use spillway_plugins::api::Api;
use spillway_plugins::sse::{Fate, MOST_KEPT, Splitter};
use spillway_plugins::stream::StreamWatch;

/// An event's name and data, and whether something was cut from it.
type SeenEvent = (Vec<u8>, Vec<u8>, bool);

/// The events of a stream, and what is passed on.
fn split(most: usize, pieces: &[&[u8]]) -> (Vec<SeenEvent>, Vec<u8>) {
    let (mut splitter, mut events, mut out) = (Splitter::keeping(most), Vec::new(), Vec::new());
    let mut take = |event: spillway_plugins::sse::Event<'_>| {
        events.push((event.name.to_vec(), event.data.to_vec(), event.cut.is_some()));
        Fate::Pass
    };
    for piece in pieces {
        out.extend_from_slice(&splitter.feed(Bytes::copy_from_slice(piece), &mut take));
    }
    out.extend_from_slice(&splitter.finish(&mut take));
    (events, out)
}

/// The events of a stream, read line by line (WHATWG HTML, section 9.2.6). The end of the stream ends the last one.
fn reference(stream: &[u8]) -> Vec<SeenEvent> {
    let mut text = Vec::new();
    let stream = stream.strip_prefix(b"\xef\xbb\xbf").unwrap_or(stream);
    let mut bytes = stream.iter().peekable();
    while let Some(byte) = bytes.next() {
        if *byte == b'\r' {
            bytes.next_if(|next| **next == b'\n');
        }
        text.push(if *byte == b'\r' { b'\n' } else { *byte });
    }
    text.extend_from_slice(b"\n\n");
    let mut events = Vec::new();
    let (mut name, mut data) = (Vec::new(), None::<Vec<u8>>);
    for line in text.split(|byte| *byte == b'\n') {
        if line.is_empty() {
            events.extend(data.take().map(|data| (std::mem::take(&mut name), data, false)));
            name.clear();
            continue;
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &line[line.len()..]),
        };
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match (field, &mut data) {
            (b"event", _) => name = value.to_vec(),
            (b"data", Some(data)) => {
                data.push(b'\n');
                data.extend_from_slice(value);
            }
            (b"data", none) => *none = Some(value.to_vec()),
            _ => {}
        }
    }
    events
}

/// What a watch knows in the end, what it passed on, and how many events it left out.
fn watched(api: Api, hide_usage: bool, pieces: &[&[u8]]) -> (String, Vec<u8>, usize) {
    let mut watch = StreamWatch::new(api, 1, hide_usage);
    let mut out = Vec::new();
    pieces.iter().for_each(|piece| out.extend_from_slice(&watch.feed(Bytes::copy_from_slice(piece))));
    out.extend_from_slice(&watch.end());
    let hidden = watch.take_hidden();
    (format!("{:?} {hidden:?}", watch.state()), out, watch.state().malformed as usize)
}

fuzz_target!(|input: &[u8]| {
    let Some((cuts, stream)) = cuts(input) else { return };
    let (whole, cut) = ([stream], pieces(stream, cuts));
    let expected = reference(stream);
    for pieces in [&whole[..], &cut] {
        let (events, out) = split(MOST_KEPT, pieces);
        assert_eq!(out, stream, "what comes in goes out");
        assert_eq!(events, expected);
        // Hardly anything is kept, but a byte order mark is: the same events, of some of which the data is an excerpt.
        let (events, out) = split(usize::from(input[0] / 8).max(3), pieces);
        assert_eq!(out, stream, "what comes in goes out in pieces");
        assert_eq!(events.len(), expected.len());
        for ((name, data, cut), (full_name, full_data, _)) in events.iter().zip(&expected) {
            assert!(full_name.starts_with(name) && (name.len() >= 64 || name == full_name), "{name:?} {full_name:?}");
            assert!(*cut || data == full_data);
        }
    }
    for api in [Api::Chat, Api::Completions, Api::Responses, Api::Messages, Api::ImageGenerations, Api::Transcriptions] {
        for hide_usage in [false, true] {
            let (state, out, malformed) = watched(api, hide_usage, &whole);
            if !hide_usage {
                assert!(malformed > 0 || out == stream, "{api:?}");
                assert_eq!(reference(&out).len() + malformed, expected.len(), "{api:?}");
            }
            // Where an event was left out, the empty line behind it may be left or not.
            let (again, out_again, _) = watched(api, hide_usage, &cut);
            assert_eq!((state, reference(&out)), (again, reference(&out_again)), "{api:?}");
        }
    }
});
