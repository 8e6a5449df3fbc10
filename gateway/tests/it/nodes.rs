//! Several nodes, one limit: whatever happens to Redis, the limit holds.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend};
use tokio::net::{TcpListener, TcpStream};

use crate::support::*;

/// A backend that uses 50 tokens for every request, and counts them.
pub async fn counting() -> (ScriptedBackend, Arc<AtomicU64>) {
    let used = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&used);
    let backend = ScriptedBackend::start(move |_| {
        counted.fetch_add(50, Ordering::SeqCst);
        let usage = json!({ "prompt_tokens": 30, "completion_tokens": 20, "total_tokens": 50 });
        Reply::json(
            200,
            json!({ "id": "c", "choices": [{ "index": 0, "message": { "content": "x" }, "finish_reason": "stop" }], "usage": usage })
                .to_string(),
        )
    })
    .await;
    (backend, used)
}

/// At least as much as it uses: the limit is then exceeded by nothing.
pub fn body() -> Value {
    json!({ "model": "m", "max_tokens": 50, "messages": [{ "role": "user", "content": "hi" }] })
}

pub fn redis(port: u16) -> String {
    format!("[redis]\nurl = \"redis://:CANARY-redis@127.0.0.1:{port}\"\n")
}

/// Passes bytes on to a port that may change.
async fn forwarder(to: Arc<AtomicU16>, delay: Duration) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut tcp, _)) = listener.accept().await {
            let now = to.load(Ordering::SeqCst);
            let to = Arc::clone(&to);
            tokio::spawn(async move {
                let Ok(mut behind) = TcpStream::connect(("127.0.0.1", now)).await else { return };
                let moved = async {
                    while to.load(Ordering::SeqCst) == now {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                };
                let pass = async {
                    if delay.is_zero() {
                        let _ = tokio::io::copy_bidirectional(&mut tcp, &mut behind).await;
                    } else {
                        slowly(&mut tcp, &mut behind, delay).await;
                    }
                };
                tokio::select! {
                    () = pass => {}
                    () = moved => {}
                }
            });
        }
    });
    port
}

async fn slowly(tcp: &mut TcpStream, behind: &mut TcpStream, delay: Duration) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let (mut here, mut there) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            read = tcp.read(&mut here) => match read {
                Ok(count @ 1..) => {
                    tokio::time::sleep(delay).await;
                    if behind.write_all(&here[..count]).await.is_err() { return }
                }
                _ => return,
            },
            read = behind.read(&mut there) => match read {
                Ok(count @ 1..) => if tcp.write_all(&there[..count]).await.is_err() { return },
                _ => return,
            },
        }
    }
}

/// Asks both nodes as fast as they answer, for `time`; how many were admitted, and the longest answer.
async fn storm(nodes: [SocketAddr; 2], time: Duration) -> (u64, Duration) {
    let until = Instant::now() + time;
    let callers: Vec<_> = (0..24)
        .map(|caller| {
            let address = nodes[caller % 2];
            tokio::spawn(async move {
                let (mut admitted, mut longest) = (0, Duration::ZERO);
                while Instant::now() < until {
                    let began = Instant::now();
                    let got = ask_as(address, "crm", &body()).await;
                    longest = longest.max(began.elapsed());
                    assert!([200, 403, 429].contains(&got.status), "{} {}", got.status, got.text());
                    if got.status == 200 {
                        admitted += 1;
                    } else {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                }
                (admitted, longest)
            })
        })
        .collect();
    let (mut admitted, mut longest) = (0, Duration::ZERO);
    for caller in callers {
        let (some, long) = caller.await.unwrap();
        admitted += some;
        longest = longest.max(long);
    }
    (admitted, longest)
}

/// Two nodes under a storm while `disturb` does something to their Redis.
async fn under(port: u16, disturb: impl Future<Output = ()>) {
    under_for(Duration::from_secs(4), port, disturb).await;
}

async fn under_for(time: Duration, port: u16, disturb: impl Future<Output = ()>) {
    const LIMIT: u64 = 60_000;
    let (backend, used) = counting().await;
    let limits = format!("[consumers.limits]\ntokens_per_minute = {LIMIT}\nconcurrent_requests = 20\n");
    let text = config(&[member("a", &backend, 1)], "", &(consumer("crm", &limits) + &redis(port)));
    let (one, two) = (Gateway::start(&text).await, Gateway::start(&text).await);
    let nodes = [one.address, two.address];
    let asking = tokio::spawn(storm(nodes, time));
    tokio::time::sleep(Duration::from_millis(400)).await;
    disturb.await;
    let (admitted, longest) = asking.await.unwrap();
    let used = used.load(Ordering::SeqCst);
    assert_eq!(used, admitted * 50);
    assert!(used <= LIMIT, "{used} of {LIMIT}");
    assert!(used >= LIMIT / 10, "hardly anything was admitted: {used}");
    assert!(longest < Duration::from_secs(3), "{longest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_share_a_limit() {
    let server = RedisServer::start(None);
    under(server.port, async {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_one_time_only() {
    let server = RedisServer::start(None);
    let (backend, _) = counting().await;
    let limits = "[consumers.limits]\nrequests_per_minute = 40\n";
    let text = config(&[member("a", &backend, 1)], "", &(consumer("crm", limits) + &redis(server.port)));
    let (one, two) = (Gateway::start(&text).await, Gateway::start(&text).await);
    let began = Instant::now();
    assert_eq!(ask_as(two.address, "crm", &body()).await.status, 200);
    let refused = loop {
        let got = ask_as(one.address, "crm", &body()).await;
        if got.status != 200 {
            break got;
        }
    };
    assert_eq!(refused.status, 429);
    let millis: u64 = refused.header("retry-after-ms").unwrap().parse().unwrap();
    let reset = refused.header("x-ratelimit-reset-requests").unwrap();
    let (minutes, seconds) = reset.trim_end_matches('s').split_once('m').unwrap_or(("0", reset.trim_end_matches('s')));
    let reset = minutes.parse::<f64>().unwrap() * 60.0 + seconds.parse::<f64>().unwrap_or(0.0);
    let least = Duration::from_secs(59).saturating_sub(began.elapsed());
    assert!(Duration::from_millis(millis) >= least, "what this node has used is free again after a minute, not after {millis} ms");
    assert!(reset + 1.0 >= millis as f64 / 1000.0, "{reset} s, {millis} ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed() {
    let server = RedisServer::start(None);
    let port = server.port;
    under(port, async { drop(server) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_stopped_and_goes_on() {
    let server = RedisServer::start(None);
    let pid = server.child.0.id().to_string();
    let signal = |name: &str| signal(name, &pid);
    under(server.port, async {
        signal("-STOP");
        tokio::time::sleep(Duration::from_millis(1500)).await;
        signal("-CONT");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_comes_back_when_shares_are_forgotten() {
    let server = RedisServer::start(None);
    let pid = server.child.0.id().to_string();
    let signal = |name: &str| signal(name, &pid);
    // Longer than it takes until a silent node counts as gone: whoever comes back first must not take all.
    under_for(Duration::from_secs(10), server.port, async {
        signal("-STOP");
        tokio::time::sleep(Duration::from_millis(6500)).await;
        signal("-CONT");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_slow() {
    let server = RedisServer::start(None);
    let port = forwarder(Arc::new(AtomicU16::new(server.port)), Duration::from_millis(30)).await;
    under(port, async {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_flushed() {
    let server = RedisServer::start(None);
    under(server.port, async {
        for _ in 0..3 {
            redis_cli(server.port, &["FLUSHALL"]);
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_fails_over_to_its_replica() {
    let (master, replica) = (RedisServer::start(None), RedisServer::start(None));
    redis_cli(replica.port, &["CONFIG", "SET", "masterauth", "CANARY-redis"]);
    redis_cli(replica.port, &["REPLICAOF", "127.0.0.1", &master.port.to_string()]);
    eventually("it replicates", async || redis_cli(replica.port, &["INFO", "replication"]).contains("master_link_status:up")).await;
    let to = Arc::new(AtomicU16::new(master.port));
    let port = forwarder(Arc::clone(&to), Duration::ZERO).await;
    let replica_port = replica.port;
    under(port, async move {
        drop(master);
        redis_cli(replica_port, &["REPLICAOF", "NO", "ONE"]);
        to.store(replica_port, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(500)).await;
    })
    .await;
    drop(replica);
}

/// The shell's own `kill`: not every system has the program.
fn signal(name: &str, pid: &str) {
    assert!(Command::new("sh").args(["-c", &format!("kill {name} {pid}")]).status().unwrap().success());
}

fn redis_cli(port: u16, arguments: &[&str]) -> String {
    let output = Command::new("redis-cli")
        .args(["-p", &port.to_string(), "-a", "CANARY-redis", "--no-auth-warning"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Asks one node until it refuses; how many it admitted.
async fn exhaust(node: &Gateway) -> u64 {
    let mut admitted = 0;
    while ask_as(node.address, "crm", &body()).await.status == 200 {
        admitted += 1;
    }
    admitted
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_counts_nothing_twice_when_redis_comes_back() {
    const QUOTA: u64 = 40_000;
    let server = RedisServer::start(None);
    let port = server.port;
    let (backend, used) = counting().await;
    let limits = format!("[consumers.limits]\ntoken_quota = {{ tokens = {QUOTA}, period = \"year\" }}\n");
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let text = |at: usize| {
        config(&[member("a", &backend, 1)], "", &(consumer("crm", &limits) + &redis(port)))
            .replace("#server", &state_dir(folders[at].path()))
    };
    let (one, two) = (Gateway::start(&text(0)).await, Gateway::start(&text(1)).await);
    for node in [&one, &two] {
        for _ in 0..100 {
            assert_eq!(ask_as(node.address, "crm", &body()).await.status, 200);
        }
    }
    drop(server);
    for node in [&one, &two] {
        for _ in 0..50 {
            assert_eq!(ask_as(node.address, "crm", &body()).await.status, 200, "the share that it has, and half of what nobody had");
        }
        eventually("the loss is seen", async || node.metric("spillway_limits_shared").await == 0.0).await;
    }
    // One node is restarted meanwhile; it has its ledger and its name.
    two.running.stop(std::future::pending()).await;
    let _server = RedisServer::start(Some(port));
    let two = Gateway::start(&text(1)).await;
    eventually("both agree again", async || {
        one.metric("spillway_limits_shared").await == 1.0 && two.metric("spillway_limits_shared").await == 1.0
    })
    .await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    exhaust(&one).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    exhaust(&two).await;
    let used = used.load(Ordering::SeqCst);
    assert!(used <= QUOTA, "{used}");
    assert!(used >= QUOTA * 9 / 10, "what was used before is counted once: {used}");
}

#[tokio::test]
async fn without_redis_a_quota_does_as_the_config_says() {
    for (choice, status, code) in [("refuse", 503, "quota_unknown"), ("allow", 200, ""), ("share", 200, "")] {
        let server = RedisServer::start(None);
        let (backend, _) = counting().await;
        let limits = "[consumers.limits]\ntoken_quota = { tokens = 100_000, period = \"month\" }\n";
        let shared = redis(server.port) + &format!("quotas_when_lost = \"{choice}\"\n");
        let gateway = Gateway::start(&config(&[member("a", &backend, 1)], "", &(consumer("crm", limits) + &shared))).await;
        assert_eq!(ask_as(gateway.address, "crm", &body()).await.status, 200);
        drop(server);
        eventually("the loss is seen", async || gateway.metric("spillway_limits_shared").await == 0.0).await;
        eventually(choice, async || {
            let got = ask_as(gateway.address, "crm", &body()).await;
            (got.status, got.code().as_str()) == (status, code)
        })
        .await;
    }
}

/// The status and code of an answer to a caller.
async fn said(node: &Gateway) -> (u16, String) {
    let got = ask_as(node.address, "crm", &body()).await;
    (got.status, if got.status == 200 { String::new() } else { got.code() })
}

fn is(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quota_that_is_used_up_is_told_from_one_that_cannot_be_checked() {
    let server = RedisServer::start(None);
    let (backend, used) = counting().await;
    let limits = "[consumers.limits]\ntoken_quota = { tokens = 2_000, period = \"year\" }\n";
    let text = config(&[member("a", &backend, 1)], "", &(consumer("crm", limits) + &redis(server.port)));
    let nodes = [Gateway::start(&text).await, Gateway::start(&text).await];
    for node in &nodes {
        // Until the other one has given back what it doesn't use, the rest may be asked for again.
        eventually("it is used up", async || said(node).await == is(403, "quota_exceeded")).await;
    }
    let got = ask_as(nodes[1].address, "crm", &body()).await;
    assert!(got.text().contains("consumer 'crm' has used its quota of 2000 tokens per year; it starts again in"), "{}", got.text());
    assert_eq!(got.header("x-should-retry"), Some("false"));
    // A request reserves a little more than it uses: the last one may not fit.
    let all = used.load(Ordering::SeqCst);
    assert!((1900..=2000).contains(&all), "{all}");
    redis_cli(server.port, &["FLUSHALL"]);
    // The first one has used nearly all of it; the second one knows that from Redis only.
    eventually("nobody knows what the other has used", async || said(&nodes[1]).await == is(503, "quota_unknown")).await;
    eventually("both have said what they have used", async || said(&nodes[1]).await == is(403, "quota_exceeded")).await;
    drop(server);
    for node in &nodes {
        eventually("the loss is seen", async || node.metric("spillway_limits_shared").await == 0.0).await;
        assert_eq!(said(node).await, is(403, "quota_exceeded"), "nothing was left when they agreed last");
    }
    assert_eq!(used.load(Ordering::SeqCst), all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_used_its_part_while_redis_is_away_may_try_again() {
    const QUOTA: u64 = 20_000;
    let server = RedisServer::start(None);
    let (backend, used) = counting().await;
    let limits = format!("[consumers.limits]\ntoken_quota = {{ tokens = {QUOTA}, period = \"year\" }}\n");
    let shared = redis(server.port) + "nodes = 2\n";
    let text = config(&[member("a", &backend, 1)], "", &(consumer("crm", &limits) + &shared));
    let nodes = [Gateway::start(&text).await, Gateway::start(&text).await];
    for node in &nodes {
        assert_eq!(said(node).await, is(200, ""));
    }
    drop(server);
    for node in &nodes {
        eventually("the loss is seen", async || node.metric("spillway_limits_shared").await == 0.0).await;
        exhaust(node).await;
        assert_eq!(said(node).await, is(503, "quota_unknown"), "the other one may have some left");
        let got = ask_as(node.address, "crm", &body()).await;
        assert!(got.text().contains("the quota of consumer 'crm' can't be checked at the moment; try again"), "{}", got.text());
    }
    let used = used.load(Ordering::SeqCst);
    assert!((QUOTA * 9 / 10..=QUOTA).contains(&used), "an equal part each: {used}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_group_guarantees_holds_among_nodes() {
    let server = RedisServer::start(None);
    let (backend, _) = counting().await;
    let groups = r#"
[[groups]]
name = "org"
limits = { token_quota = [{ tokens = 20_000, period = "year" }, { tokens = 30_000, period = "month", time_zone = "Asia/Tokyo" }], requests_per_minute = 10_000 }
[[groups]]
name = "own"
parent = "org"
guaranteed = "25%"
"#;
    let rest = consumer("crm", "group = \"org\"\n") + &consumer("kept", "group = \"own\"\n") + groups + &redis(server.port);
    let text = config(&[member("a", &backend, 1)], "", &rest);
    let nodes = [Gateway::start(&text).await, Gateway::start(&text).await, Gateway::start(&text).await];
    // Siblings use what they get, until nobody gets more.
    let mut siblings = 0;
    for _ in 0..3 {
        for node in &nodes {
            siblings += exhaust(node).await * 50;
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    assert!((13_000..=15_000).contains(&siblings), "{siblings} of 15000 that aren't guaranteed");
    let mut own = 0;
    let mut refused = 0;
    for round in 0..400 {
        match ask_as(nodes[round % 3].address, "kept", &body()).await.status {
            200 => own += 50,
            _ => {
                refused += 1;
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
        if refused > 12 {
            break;
        }
    }
    assert!((4_500..=20_000 - siblings).contains(&own), "{own} of 5000 that are guaranteed");
}

#[tokio::test]
async fn a_throttle_that_one_node_meets_the_other_knows() {
    let server = RedisServer::start(None);
    let busy = ScriptedBackend::start(|_| Reply::throttled(30_000)).await;
    let (free, _) = counting().await;
    let text = config(&[member("busy", &busy, 1), member("free", &free, 2)], "", &redis(server.port));
    let (one, two) = (Gateway::start(&text).await, Gateway::start(&text).await);
    assert_eq!(one.chat().await.status, 200);
    eventually("the other node knows", async || two.state("busy").await == "throttled").await;
    assert_eq!(two.chat().await.status, 200);
    assert_eq!(busy.count(), 1, "nobody asked it again");
}
