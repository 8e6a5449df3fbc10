//! TCP connections on loopback.

use std::future::poll_fn;

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::*;

/// A connection, and its other end.
async fn pair() -> (Transport, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let transport = Transport::open(listener.local_addr().unwrap(), None).await.unwrap();
    (transport, listener.accept().await.unwrap().0)
}

async fn fill(transport: &mut Transport, buffer: &mut BytesMut) -> usize {
    poll_fn(|cx| transport.poll_fill(cx, buffer, 4096)).await.unwrap()
}

#[tokio::test]
async fn a_quiet_connection_takes_no_memory_until_bytes_come() {
    let (mut transport, mut theirs) = pair().await;
    let mut buffer = BytesMut::new();
    let quiet = poll_fn(|cx| Poll::Ready(transport.poll_fill(cx, &mut buffer, 4096).is_pending())).await;
    assert_eq!((quiet, buffer.capacity()), (true, 0));
    theirs.write_all(b"hello").await.unwrap();
    assert_eq!((fill(&mut transport, &mut buffer).await, &buffer[..]), (5, &b"hello"[..]));
    drop(theirs);
    assert_eq!(fill(&mut transport, &mut buffer).await, 0);
}

#[tokio::test]
async fn slices_leave_together() {
    let (mut transport, mut theirs) = pair().await;
    let slices = [IoSlice::new(b"head"), IoSlice::new(b"body")];
    assert_eq!(poll_fn(|cx| transport.poll_write(cx, &slices)).await.unwrap(), 8);
    poll_fn(|cx| transport.poll_flush(cx)).await.unwrap();
    let mut read = [0; 8];
    theirs.read_exact(&mut read).await.unwrap();
    assert_eq!(&read, b"headbody");
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn what_comes_is_acknowledged_late_if_asked_for() {
    let (transport, _theirs) = pair().await;
    transport.acknowledge_late();
    let Transport::Tcp(tcp) = &transport else { panic!("in the clear") };
    assert!(!tcp.quickack().unwrap());
}

#[tokio::test]
async fn bytes_and_the_end_are_noticed_on_an_idle_connection() {
    for speaks in [true, false] {
        let (mut transport, mut theirs) = pair().await;
        assert!(transport.is_quiet());
        if speaks {
            theirs.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.unwrap();
        } else {
            drop(theirs);
        }
        let Transport::Tcp(tcp) = &transport else { panic!("in the clear") };
        tcp.readable().await.unwrap();
        assert!(!transport.is_quiet());
    }
}

#[tokio::test]
async fn a_broken_connection_is_noticed_without_traffic() {
    let (transport, _theirs) = pair().await;
    let Transport::Tcp(tcp) = &transport else { panic!("in the clear") };
    assert!(tcp.nodelay().unwrap());
    let socket = SockRef::from(tcp);
    assert!(socket.keepalive().unwrap());
    assert_eq!((socket.tcp_keepalive_time().unwrap(), socket.tcp_keepalive_interval().unwrap()), (KEEPALIVE.0, KEEPALIVE.1));
    assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE.2);
    #[cfg(target_os = "linux")]
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
}

#[tokio::test]
async fn why_there_is_no_connection_is_known() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    for (config, name) in [(None, "a.test"), (Some(config()), ""), (Some(config()), "a b")] {
        let tls = ClientTls { config, name: name.to_owned() };
        assert!(matches!(Transport::open(address, Some(&tls)).await, Err(ConnectError::Tls(_))), "{name:?}");
    }
    // The other side speaks no TLS.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let tls = ClientTls { config: Some(config()), name: "a.test".to_owned() };
    let (opened, ()) = tokio::join!(Transport::open(address, Some(&tls)), async {
        let (mut theirs, _) = listener.accept().await.unwrap();
        theirs.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
    });
    assert!(matches!(opened, Err(ConnectError::Tls(_))));
    drop(listener);
    assert!(matches!(Transport::open(address, None).await, Err(ConnectError::Tcp(_))));
}

fn config() -> Arc<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth())
}
