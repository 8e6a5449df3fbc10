//! Several nodes with a Redis.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::*;

/// How soon a change is known at all nodes.
const PROMISED: Duration = Duration::from_secs(1);

fn redis(port: u16) -> String {
    format!("{}[plugins.auth]\npepper = \"a pepper of some length\"\n", without_pepper(port))
}

fn without_pepper(port: u16) -> String {
    format!("[redis]\nurl = \"redis://:CANARY-redis@127.0.0.1:{port}\"\n")
}

fn redis_cli(port: u16, arguments: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string(), "-a", "CANARY-redis", "--no-auth-warning"]).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Two nodes with folders of their own.
struct Nodes {
    one: Gateway,
    two: Gateway,
    folders: [tempfile::TempDir; 2],
    backend: ScriptedBackend,
}

impl Nodes {
    async fn start(rest: &str) -> Self {
        let backend = backend().await;
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let one = Gateway::start(&text(&backend, folders[0].path(), rest)).await;
        let two = Gateway::start(&text(&backend, folders[1].path(), rest)).await;
        Nodes { one, two, folders, backend }
    }
}

/// How long it takes until a key has this status at a node.
async fn until(node: &Gateway, key: &str, status: u16) -> Duration {
    let began = Instant::now();
    eventually(&format!("the answer is {status}"), async || chat_with(node.address, key).await == status).await;
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_works_at_the_other_node_and_is_refused_there_once_it_is_revoked_under_load() {
    let server = RedisServer::start(None);
    let nodes = Nodes::start(&redis(server.port)).await;
    let (stop, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let load: Vec<_> = (0..8)
        .map(|number| {
            let address = if number % 2 == 0 { nodes.one.address } else { nodes.two.address };
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(chat_with(address, "crm").await, 200, "a key of the config works all the time");
                    asked.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let (mut issued, mut revoked) = (Vec::new(), Vec::new());
    for number in 0..10 {
        let (here, there) = if number % 2 == 0 { (&nodes.one, &nodes.two) } else { (&nodes.two, &nodes.one) };
        let (id, key) = issue(here.running.admin, for_crm()).await;
        assert_eq!(chat_with(here.address, &key).await, 200);
        issued.push(until(there, &key, 200).await);
        // By the other node: who issued it doesn't matter.
        assert_eq!(revoke(there.running.admin, &id).await.status, 200);
        assert_eq!(chat_with(there.address, &key).await, 401);
        revoked.push(until(here, &key, 401).await);
    }
    stop.store(true, Ordering::Relaxed);
    for one in load {
        one.await.unwrap();
    }
    // Nothing here sleeps for it: the middle one of ten is what a node does, the slowest one what the machine does, too.
    for mut times in [issued, revoked] {
        times.sort();
        assert!(times[5] < PROMISED, "{times:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_loses_everything_costs_no_key() {
    let server = RedisServer::start(None);
    let port = server.port;
    let rest = redis(port);
    let nodes = Nodes::start(&rest).await;
    let (gone, gone_key) = issue(nodes.one.running.admin, for_crm()).await;
    let (_, key) = issue(nodes.one.running.admin, for_crm()).await;
    until(&nodes.two, &key, 200).await;
    redis_cli(port, &["FLUSHALL"]);
    // The other node has the news first: the one that knows only the old state must not undo it.
    assert_eq!(revoke(nodes.two.running.admin, &gone).await.status, 200);
    until(&nodes.one, &gone_key, 401).await;
    let (_, later) = issue(nodes.two.running.admin, for_crm()).await;
    until(&nodes.one, &later, 200).await;
    for node in [&nodes.one, &nodes.two] {
        for (key, status) in [(&key, 200), (&gone_key, 401), (&later, 200)] {
            assert_eq!(chat_with(node.address, key).await, status);
        }
    }
    drop(server);
    eventually("the loss is seen", async || nodes.one.metric("spillway_issued_keys_shared").await == 0.0).await;
    assert_eq!((chat_with(nodes.one.address, &key).await, chat_with(nodes.one.address, &gone_key).await), (200, 401));
    let (_, alone) = issue(nodes.one.running.admin, for_crm()).await;
    assert_eq!(chat_with(nodes.one.address, &alone).await, 200);
    assert_eq!(chat_with(nodes.two.address, &alone).await, 401, "it can't know");
    let _empty = RedisServer::start(Some(port));
    until(&nodes.two, &alone, 200).await;
    // A node that has nothing learns everything.
    let folder = tempfile::tempdir().unwrap();
    let third = Gateway::start(&text(&nodes.backend, folder.path(), &rest)).await;
    for (key, status) in [(&key, 200), (&gone_key, 401), (&later, 200), (&alone, 200)] {
        assert!(until(&third, key, status).await < Duration::from_secs(20));
    }
    eventually("it has stored them", async || third.metric("spillway_issued_keys_unsaved").await == 0.0).await;
    for folder in &nodes.folders {
        let file = std::fs::read_to_string(folder.path().join("keys")).unwrap();
        assert!(file.contains("\"revoked\":") && !file.contains(&key[8..20]));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_that_redis_loses_comes_back() {
    let server = RedisServer::start(None);
    let nodes = Nodes::start(&redis(server.port)).await;
    let (id, key) = issue(nodes.one.running.admin, for_crm()).await;
    let node = std::fs::read_to_string(nodes.folders[0].path().join("node")).unwrap();
    assert_eq!(audited(nodes.one.running.admin, "").await[0]["node"], json!(node), "the name by which limits and reports know it");
    until(&nodes.two, &key, 200).await;
    let names = redis_cli(server.port, &["KEYS", "spillway:{issued-keys:*}:parts"]);
    let parts = names.trim();
    redis_cli(server.port, &["HDEL", parts, &id]);
    redis_cli(server.port, &["ZREM", &parts.replace(":parts", ":order"), &id]);
    eventually("it is written again", async || redis_cli(server.port, &["HEXISTS", parts, &id]).trim() == "1").await;
    // What a node keeps of its own accord is not taken away by a memory that has never heard of it.
    redis_cli(server.port, &["FLUSHALL"]);
    assert_eq!((chat_with(nodes.one.address, &key).await, chat_with(nodes.two.address, &key).await), (200, 200));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_pepper_that_cannot_be_guessed_keys_stay_on_their_node() {
    let server = RedisServer::start(None);
    for pepper in ["", "[plugins.auth]\npepper = \"fifteen bytes..\"\n"] {
        let rest = without_pepper(server.port) + pepper;
        let nodes = Nodes::start(&rest).await;
        let checked = spillway::config::Config::parse(
            &text(&nodes.backend, nodes.folders[0].path(), &rest),
            std::path::Path::new("test.toml"),
            &spillway::config::Secrets::default(),
        );
        let warnings: Vec<String> = checked.unwrap().warnings.iter().map(ToString::to_string).collect();
        assert!(warnings.iter().any(|warning| warning.contains("at least 16 random bytes")), "{warnings:?}");
        // Somebody who can write to Redis.
        let digest = spillway_plugins::auth::digest(b"forged");
        let forged = json!({ "id": "key-forged", "consumer": "crm", "hint": "x", "sha256": digest.to_string(), "created": 1, "by": "x" });
        redis_cli(server.port, &["SET", "spillway:{issued-keys:-}:memory", "m"]);
        redis_cli(server.port, &["HSET", "spillway:{issued-keys:-}:parts", "key-forged", &format!("- {forged}")]);
        redis_cli(server.port, &["ZADD", "spillway:{issued-keys:-}:order", "9000000000000000", "key-forged"]);
        let (_, key) = issue(nodes.one.running.admin, for_crm()).await;
        assert_eq!(chat_with(nodes.one.address, &key).await, 200);
        // Nothing is ever exchanged: what could be waited for is another second of the exchange of limits.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!((chat_with(nodes.two.address, &key).await, chat_with(nodes.two.address, "forged").await), (401, 401));
        assert_eq!(nodes.two.metric("spillway_issued_keys_shared").await, 0.0);
        assert_eq!(redis_cli(server.port, &["HLEN", "spillway:{issued-keys:-}:parts"]).trim(), "1", "nothing was written");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_can_write_to_redis_makes_no_keys() {
    let server = RedisServer::start(None);
    let rest = redis(server.port);
    let nodes = Nodes::start(&rest).await;
    let (_, key) = issue(nodes.one.running.admin, for_crm()).await;
    until(&nodes.two, &key, 200).await;
    let names = redis_cli(server.port, &["KEYS", "spillway:{issued-keys:*}:parts"]);
    let parts = names.trim();
    let order = parts.replace(":parts", ":order");
    let digest = spillway_plugins::auth::digest(b"forged");
    let forged = json!({ "id": "key-forged", "consumer": "crm", "hint": "x", "sha256": digest.to_string(), "created": 1, "by": "x" });
    for signature in ["-", "0000000000000000000000000000000000000000000000000000000000000000"] {
        redis_cli(server.port, &["HSET", parts, "key-forged", &format!("{signature} {forged}")]);
        redis_cli(server.port, &["ZADD", &order, "9000000000000000", "key-forged"]);
        let before = nodes.two.metric("spillway_issued_keys_refused_total").await;
        redis_cli(server.port, &["ZADD", &order, "9000000000000001", "key-forged"]);
        eventually("it is seen, and refused", async || nodes.two.metric("spillway_issued_keys_refused_total").await > before).await;
        assert_eq!(chat_with(nodes.two.address, "forged").await, 401);
    }
    assert_eq!(listed(nodes.two.running.admin).await.len(), 1);
    assert_eq!(chat_with(nodes.two.address, &key).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_folder_knows_the_keys_of_the_others() {
    let server = RedisServer::start(None);
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let storing = text(&backend, folder.path(), &redis(server.port));
    let one = Gateway::start(&storing).await;
    let two = Gateway::start(&storing.replace(&state_dir(folder.path()), "")).await;
    let (id, key) = issue(one.running.admin, for_crm()).await;
    until(&two, &key, 200).await;
    assert_eq!(send(two.running.admin, "POST", "/api/keys", &for_crm().to_string()).await.status, 404);
    assert_eq!(revoke(two.running.admin, &id).await.status, 200, "it can be revoked anywhere");
    until(&one, &key, 401).await;
    assert_eq!(two.metric("spillway_issued_keys_unsaved").await, 0.0);
}

/// A node without a folder knows issued keys from Redis only, and from the process before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_outlive_an_upgrade_of_a_node_without_a_folder_while_redis_is_away() {
    let server = RedisServer::start(None);
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let with_folder = text(&backend, folder.path(), &redis(server.port));
    let one = Gateway::start(&with_folder).await;
    let two = Process::launch(&with_folder.replace(&state_dir(folder.path()), ""), &[]).await;
    let (_, key) = issue(one.running.admin, for_crm()).await;
    let (gone, gone_key) = issue(one.running.admin, for_crm()).await;
    eventually("the other node knows both", async || {
        chat_with(two.address, &key).await == 200 && chat_with(two.address, &gone_key).await == 200
    })
    .await;
    drop(server);
    // It has no file, so it can't be stored there, either.
    assert_eq!(revoke(two.admin, &gone).await.status, 200);
    two.upgrade().await;
    assert_eq!((chat_with(two.address, &key).await, chat_with(two.address, &gone_key).await), (200, 401));
}

/// A connection to this port, each answer of which is late.
async fn slowly(port: u16, delay: Duration) -> u16 {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let own = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            let far = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
            let ((mut near_read, mut near_write), (mut far_read, mut far_write)) = (near.into_split(), far.into_split());
            tokio::spawn(async move { tokio::io::copy(&mut near_read, &mut far_write).await });
            tokio::spawn(async move {
                use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
                let mut bytes = vec![0; 1 << 20];
                while let Ok(length @ 1..) = far_read.read(&mut bytes).await {
                    tokio::time::sleep(delay).await;
                    let mut answer = bytes[..length].to_vec();
                    // What has come meanwhile is not late once more.
                    while let Ok(more @ 1..) = far_read.try_read(&mut bytes) {
                        answer.extend_from_slice(&bytes[..more]);
                    }
                    if near_write.write_all(&answer).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    own
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_without_a_folder_reads_all_keys_before_it_serves() {
    let server = RedisServer::start(None);
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let with_folder = text(&backend, folder.path(), &redis(server.port));
    let keys: Vec<Value> = (0..2600)
        .map(|number| {
            json!({ "id": format!("key-{number:016}"), "consumer": "crm", "hint": "x", "hmac_sha256": format!("{number:064x}"),
                "created": 1_700_000_000, "by": "local" })
        })
        .collect();
    let line = json!(keys).to_string();
    std::fs::create_dir_all(folder.path()).unwrap();
    let file = format!("spillway issued keys, format 1\n{:08x} {line}\n", crc32fast::hash(line.as_bytes()));
    std::fs::write(folder.path().join("keys"), file).unwrap();
    let one = Gateway::start(&with_folder).await;
    assert_eq!(listed(one.running.admin).await.len(), 2600);
    let parts = || redis_cli(server.port, &["--scan", "--pattern", "*issued-keys*:parts"]).trim().to_owned();
    let sent = || redis_cli(server.port, &["hlen", &parts()]).trim().parse::<usize>().unwrap_or(0);
    eventually("the others can read them", async || sent() == 2600).await;
    let (_, key) = issue(one.running.admin, for_crm()).await;
    eventually("this one, too", async || sent() == 2601).await;
    let slow = slowly(server.port, Duration::from_millis(100)).await;
    let behind = with_folder.replace(&state_dir(folder.path()), "").replace(&server.port.to_string(), &slow.to_string());
    let two = Gateway::start(&behind).await;
    assert_eq!(chat_with(two.address, &key).await, 200, "at its first request");
}
