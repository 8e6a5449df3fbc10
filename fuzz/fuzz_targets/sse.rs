//! A stream means the same however it is cut, and leaves as it came.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use spillway_fuzz::{cuts, pieces};
use spillway_plugins::api::Api;
use spillway_plugins::sse::{Fate, Splitter};
use spillway_plugins::stream::StreamWatch;

/// The events of a stream, and what is passed on.
fn split(pieces: &[&[u8]]) -> (Vec<(Vec<u8>, Vec<u8>)>, Vec<u8>) {
    let (mut splitter, mut events, mut out) = (Splitter::default(), Vec::new(), Vec::new());
    for piece in pieces {
        let whole = splitter.feed(Bytes::copy_from_slice(piece), |event| {
            events.push((event.name.to_vec(), event.data.to_vec()));
            Fate::Pass
        });
        out.extend_from_slice(&whole);
    }
    out.extend_from_slice(&splitter.take_tail());
    (events, out)
}

/// What a watch knows in the end.
fn watched(api: Api, pieces: &[&[u8]]) -> (String, Vec<u8>) {
    let mut watch = StreamWatch::new(api, 1, false);
    let mut out = Vec::new();
    pieces.iter().for_each(|piece| out.extend_from_slice(&watch.feed(Bytes::copy_from_slice(piece))));
    out.extend_from_slice(&watch.take_tail());
    (format!("{:?}", watch.state()), out)
}

fuzz_target!(|input: &[u8]| {
    let Some((cuts, stream)) = cuts(input) else { return };
    let (whole, cut) = (vec![stream], pieces(stream, cuts));
    let (events, out) = split(&whole);
    assert_eq!((&events, out.as_slice()), (&split(&cut).0, stream));
    for api in [Api::Chat, Api::Completions, Api::Responses, Api::Messages, Api::ImageGenerations, Api::Transcriptions] {
        let (state, out) = watched(api, &whole);
        assert_eq!((state, out), watched(api, &cut), "{api:?}");
    }
});
