//! Nodes whose way to Redis is slow: it costs them, and nobody else.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;
use spillway_testkit::client::{Connection, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::nodes::{body, counting, redis};
use crate::support::*;

/// A way to Redis on which each answer takes so much longer, or waits until it may pass.
struct Way {
    port: u16,
    held: watch::Sender<bool>,
    /// What Redis was asked on it.
    asked: Arc<Mutex<String>>,
}

impl Way {
    async fn to(redis: u16, delay: Duration) -> Way {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (held, waits) = watch::channel(false);
        let asked = Arc::<Mutex<String>>::default();
        let heard = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(behind) = TcpStream::connect(("127.0.0.1", redis)).await else { continue };
                let ((mut questions, mut back), (mut answers, mut there)) = (tcp.into_split(), behind.into_split());
                let heard = Arc::clone(&heard);
                tokio::spawn(async move {
                    let mut bytes = vec![0; 65_536];
                    while let Ok(count @ 1..) = questions.read(&mut bytes).await {
                        heard.lock().push_str(&String::from_utf8_lossy(&bytes[..count]));
                        if there.write_all(&bytes[..count]).await.is_err() {
                            break;
                        }
                    }
                });
                let (sent, mut due) = mpsc::unbounded_channel();
                tokio::spawn(async move {
                    let mut bytes = vec![0; 65_536];
                    while let Ok(count @ 1..) = answers.read(&mut bytes).await {
                        let _ = sent.send((Instant::now() + delay, bytes[..count].to_vec()));
                    }
                });
                let mut waits = waits.clone();
                tokio::spawn(async move {
                    while let Some((at, bytes)) = due.recv().await {
                        tokio::time::sleep_until(at).await;
                        let _ = waits.wait_for(|held| !held).await;
                        if back.write_all(&bytes).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Way { port, held, asked }
    }
}

/// Asks again and again; how many were admitted, and the answers of the others.
async fn steadily(address: SocketAddr, pause: Duration, count: usize) -> (usize, Vec<String>) {
    let (mut admitted, mut refused) = (0, Vec::new());
    for _ in 0..count {
        let got = ask_as(address, "crm", &body()).await;
        if got.status == 200 {
            admitted += 1;
        } else {
            refused.push(format!("{} {}", got.status, got.text()));
        }
        tokio::time::sleep(pause).await;
    }
    (admitted, refused)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_with_a_slow_way_to_redis_costs_the_others_nothing() {
    let server = RedisServer::start(None);
    // Longer than a request waits.
    let way = Way::to(server.port, Duration::from_millis(160)).await;
    let (backend, used) = counting().await;
    let limits = "[consumers.limits]\ntoken_quota = { tokens = 200_000, period = \"year\" }\n";
    let text = |port| config(&[member("a", &backend, 1)], "", &(consumer("crm", limits) + &redis(port) + "nodes = 2\n"));
    let (near, far) = (Gateway::start(&text(server.port)).await, Gateway::start(&text(way.port)).await);
    let (of_near, of_far) =
        tokio::join!(steadily(near.address, Duration::from_millis(15), 300), steadily(far.address, Duration::from_millis(100), 45),);
    assert_eq!(of_near, (300, Vec::new()));
    assert_eq!(of_far, (45, Vec::new()), "one that waited in vain goes on with this node's part");
    assert_eq!(used.load(Ordering::SeqCst), 345 * 50);
    let shared = (near.metric("spillway_limits_shared").await, far.metric("spillway_limits_shared").await);
    assert_eq!(shared, (1.0, 1.0), "slow is not lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_loses_redis_again_and_again_costs_the_others_nothing() {
    let server = RedisServer::start(None);
    let way = Way::to(server.port, Duration::ZERO).await;
    let (backend, _) = counting().await;
    let limits = "[consumers.limits]\ntoken_quota = { tokens = 200_000, period = \"year\" }\n";
    let text = |port| config(&[member("a", &backend, 1)], "", &(consumer("crm", limits) + &redis(port) + "nodes = 2\n"));
    let (near, far) = (Gateway::start(&text(server.port)).await, Gateway::start(&text(way.port)).await);
    let asking = tokio::spawn(steadily(near.address, Duration::from_millis(15), 500));
    for _ in 0..3 {
        way.held.send_replace(true);
        eventually("the loss is seen", async || far.metric("spillway_limits_shared").await == 0.0).await;
        way.held.send_replace(false);
        eventually("it is back", async || far.metric("spillway_limits_shared").await == 1.0).await;
    }
    assert_eq!(asking.await.unwrap(), (500, Vec::new()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_admitted_as_far_as_its_quota_goes() {
    const BURST: usize = 300;
    let server = RedisServer::start(None);
    let (backend, used) = counting().await;
    let limits = "[consumers.limits]\ntoken_quota = { tokens = 50_000, period = \"year\" }\n";
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &(consumer("crm", limits) + &redis(server.port)))).await;
    for round in 0..3 {
        let mut callers = Vec::new();
        for _ in 0..BURST {
            callers.push(Connection::open(gateway.address).await.unwrap());
        }
        let callers = callers.into_iter().map(|mut caller| {
            tokio::spawn(async move {
                caller.send(post("/v1/chat/completions", &[("api-key", "crm")], body().to_string().as_bytes())).await.unwrap();
                caller.answer().await.unwrap()
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            let got = caller.await.unwrap();
            assert_eq!(got.status, 200, "in round {round}: {}", got.text());
        }
    }
    assert_eq!(used.load(Ordering::SeqCst), 3 * BURST as u64 * 50);
    // What is left is for a hundred requests; each reserves a little more than it uses, so the last one may not fit.
    let more = steadily(gateway.address, Duration::ZERO, 110).await.0;
    assert!((99..=100).contains(&more), "{more}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_asks_for_all_its_limits_at_once() {
    let server = RedisServer::start(None);
    let way = Way::to(server.port, Duration::ZERO).await;
    let (backend, _) = counting().await;
    let mut rest = consumer("crm", "group = \"g0\"\n[consumers.limits]\nrequests_per_minute = 1000\n");
    for (name, parent) in [("g0", Some("g1")), ("g1", Some("g2")), ("g2", Some("g3")), ("g3", None)] {
        let parent = parent.map_or_else(String::new, |parent| format!("parent = \"{parent}\"\n"));
        rest += &format!("[[groups]]\nname = \"{name}\"\n{parent}limits = {{ requests_per_minute = 1000 }}\n");
    }
    let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &(rest + &redis(way.port)))).await;
    way.held.send_replace(true);
    way.asked.lock().clear();
    let asking = tokio::spawn(async move { ask_as(gateway.address, "crm", &body()).await.status });
    let names = ["consumer 'crm'", "group 'g0'", "group 'g1'", "group 'g2'", "group 'g3'"];
    eventually("all are asked for before any answer", async || {
        let asked = way.asked.lock();
        names.iter().all(|name| asked.contains(&format!("rates:{name}")))
    })
    .await;
    assert_eq!(asking.await.unwrap(), 200, "it goes on alone, and doesn't wait until there is an answer");
}
