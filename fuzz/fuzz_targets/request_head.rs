//! Whatever the gateway reads itself of a caller's connection, Pingora reads in the same way: the same head, the same
//! body, and the same bytes behind it.
#![no_main]

use std::sync::LazyLock;

use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;
use pingora::protocols::http::ServerSession;
use spillway::downstream::strict_head::{Scan, scan};
use tokio::io::AsyncWriteExt as _;
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().enable_all().build().unwrap());

fuzz_target!(|data: &[u8]| {
    let Scan::Strict(found) = scan(data) else { return };
    let mut rest = BytesMut::from(data);
    let Some(ours) = found.take(&mut rest, Default::default()) else {
        assert_eq!(rest, data, "what is not taken is left as it was");
        return;
    };
    let body = &rest[..rest.len().min(found.body)];
    RUNTIME.block_on(async {
        let (mut caller, stream) = tokio::io::duplex(data.len() + 1);
        caller.write_all(data).await.unwrap();
        drop(caller);
        let mut session = ServerSession::new_http1(Box::new(stream));
        session.set_keepalive(Some(0));
        assert!(matches!(session.read_request().await, Ok(true)), "Pingora refuses it");
        let theirs = session.req_header();
        assert_eq!((&ours.method, ours.raw_path(), ours.version), (&theirs.method, theirs.raw_path(), theirs.version));
        assert_eq!(ours.uri, theirs.uri);
        assert!(ours.headers.iter().eq(theirs.headers.iter()), "{:?} {:?}", ours.headers, theirs.headers);
        assert!(!session.is_upgrade_req());
        let mut read = Vec::new();
        let is_whole = loop {
            match session.read_request_body().await {
                Ok(Some(piece)) => read.extend_from_slice(&piece),
                Ok(None) => break true,
                Err(_) => break false,
            }
        };
        assert_eq!(read, body);
        assert_eq!(is_whole, body.len() == found.body);
    });
});
