//! Whatever the gateway reads itself of a caller's connection, Pingora reads in the same way: the same heads, the same
//! bodies, and the same bytes behind them. A head means the same whatever came before it, and however it is cut.
#![no_main]

use std::sync::LazyLock;

use bytes::{Buf as _, BytesMut};
use http::{HeaderName, header};
use libfuzzer_sys::{fuzz_mutator, fuzz_target};
use pingora::http::RequestHeader;
use pingora::protocols::http::ServerSession;
use spillway::downstream::request_heads::{Begin, RequestHeads};
use spillway_fuzz::mutate_messages;
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());

/// The longest body that the gateway reads itself.
const MAX_BODY: usize = 1_000_000_000;
/// Most requests that are looked at.
const MOST: usize = 16;
/// With this field, a stage changes the head.
const CHANGED: HeaderName = HeaderName::from_static("x-changed");
/// With this field, the connection rests afterwards.
const RESTS: HeaderName = HeaderName::from_static("x-rests");

/// A request, and where it begins.
struct Request {
    at: usize,
    head: RequestHeader,
    begin: Begin,
    body: usize,
}

impl Request {
    fn parts(&self) -> (usize, Begin, &[u8], &http::HeaderMap) {
        (self.at, self.begin, self.head.raw_path(), &self.head.headers)
    }
}

/// The requests on a connection whose bytes come in pieces of this length, and what is there behind the last of them:
/// `None` if nothing is read there.
fn requests(data: &[u8], piece: usize) -> (Vec<Request>, Option<(usize, Begin)>) {
    let (mut heads, mut buffer, mut rest) = (RequestHeads::default(), BytesMut::new(), data.chunks(piece));
    let (mut found, mut came) = (Vec::new(), 0);
    while found.len() < MOST {
        let begin = heads.read(&mut buffer, || MAX_BODY);
        let Begin::Request { head, body, closes } = begin else {
            match rest.next().filter(|_| begin == Begin::Incomplete) {
                Some(more) => {
                    buffer.extend_from_slice(more);
                    came += more.len();
                    continue;
                }
                None => return (found, Some((came - buffer.len(), begin))),
            }
        };
        check_names(&heads);
        found.push(Request { at: came - buffer.len() - head, head: heads.head().clone(), begin, body });
        use_head(&mut heads);
        while buffer.len() < body
            && let Some(more) = rest.next()
        {
            buffer.extend_from_slice(more);
            came += more.len();
        }
        if buffer.len() < body || closes {
            return (found, None);
        }
        buffer.advance(body);
    }
    (found, None)
}

/// Fields are found by their names, and others are not.
fn check_names(heads: &RequestHeads) {
    let map = &heads.head().headers;
    for name in map.keys().chain(&[header::ORIGIN, header::EXPECT, header::AUTHORIZATION, CHANGED]) {
        assert_eq!(heads.rare_field(name), map.get(name), "{name}");
    }
}

/// What happens to a head between it and the next.
fn use_head(heads: &mut RequestHeads) {
    if heads.rare_field(&CHANGED).is_some() {
        heads.head_mut().insert_header(header::ORIGIN, "changed").unwrap();
        heads.head_mut().remove_header(&header::AUTHORIZATION);
        check_names(heads);
    }
    if heads.rare_field(&RESTS).is_some() {
        *heads = RequestHeads::default();
        check_names(heads);
    }
}

/// Pingora reads the same request at the beginning of these bytes.
async fn check_with_pingora(data: &[u8], ours: &Request) {
    let (mut caller, stream) = tokio::io::duplex(data.len() + 1);
    caller.write_all(data).await.unwrap();
    drop(caller);
    let mut session = ServerSession::new_http1(Box::new(stream));
    session.set_keepalive(Some(0));
    assert!(matches!(session.read_request().await, Ok(true)), "Pingora refuses it");
    let (theirs, head) = (session.req_header(), &ours.head);
    assert_eq!((&head.method, head.raw_path(), head.version), (&theirs.method, theirs.raw_path(), theirs.version));
    assert_eq!(head.uri, theirs.uri);
    assert!(head.headers.iter().eq(theirs.headers.iter()), "{:?} {:?}", head.headers, theirs.headers);
    assert!(!session.is_upgrade_req());
    let Begin::Request { head, .. } = ours.begin else { panic!("it is a request") };
    let body = &data[head..data.len().min(head + ours.body)];
    let mut read = Vec::new();
    let is_whole = loop {
        match session.read_request_body().await {
            Ok(Some(piece)) => read.extend_from_slice(&piece),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    assert_eq!(read, body);
    assert_eq!(is_whole, body.len() == ours.body);
}

/// A head without an end may be left to Pingora at once, or when its end has come.
fn is_without_end(data: &[u8], ends: [Option<(usize, Begin)>; 2]) -> bool {
    let [Some((at, one)), Some((other_at, other))] = ends else { return false };
    let has_end = data[at..].windows(2).any(|two| two == b"\n\n") || data[at..].windows(3).any(|three| three == b"\n\r\n");
    at == other_at && !has_end && [one, other].iter().all(|begin| matches!(begin, Begin::Incomplete | Begin::Other))
}

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| { mutate_messages(data, (size, max_size), seed, b"POST /") });

fuzz_target!(|data: &[u8]| {
    let (found, end) = requests(data, usize::MAX);
    let (cut, cut_end) = requests(data, 1 + data.len() % 257);
    assert!(found.iter().map(Request::parts).eq(cut.iter().map(Request::parts)), "it depends on how it is cut");
    assert!(end == cut_end || is_without_end(data, [end, cut_end]), "it depends on how it is cut: {end:?} {cut_end:?}");
    let alone = |at: usize| {
        let (mut heads, mut buffer) = (RequestHeads::default(), BytesMut::from(&data[at..]));
        let begin = heads.read(&mut buffer, || MAX_BODY);
        (begin, heads, buffer)
    };
    for request in &found {
        let (begin, heads, rest) = alone(request.at);
        let Begin::Request { head, .. } = begin else { panic!("it is read because of what came before: {begin:?}") };
        assert_eq!((begin, heads.head().raw_path()), (request.begin, request.head.raw_path()));
        assert!(heads.head().headers.iter().eq(request.head.headers.iter()), "{:?} {:?}", request.head.headers, heads.head().headers);
        assert_eq!(rest, data[request.at + head..]);
        RUNTIME.block_on(check_with_pingora(&data[request.at..], request));
    }
    if let Some((at, begin)) = end {
        let (alone, _, rest) = alone(at);
        assert_eq!((alone, &rest[..]), (begin, &data[at..]), "what is not taken is left as it was");
    }
});
