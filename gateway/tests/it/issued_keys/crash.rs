//! kill -9, fifty times: no key is lost that was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use spillway_testkit::client::Connection;

use super::*;

const KILLS: usize = 50;
const KEYS: usize = 10_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_keys_survive_fifty_kills() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let text = text(&backend, folder.path(), "");
    let issued: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    // Revocations that were acknowledged; others may have been done, too.
    let (revoked, asked) = (Arc::<Mutex<BTreeSet<String>>>::default(), Arc::<Mutex<BTreeSet<String>>>::default());
    let mut rng = fastrand::Rng::with_seed(11);
    let mut kills = 0;
    while kills < KILLS || issued.lock().len() < KEYS {
        let mut process = Process::launch(&text, &[]).await;
        let admin = process.admin;
        let reached = Arc::new(AtomicUsize::new(0));
        let callers: Vec<_> = (0..8)
            .map(|number| {
                let (issued, revoked, asked, reached) =
                    (Arc::clone(&issued), Arc::clone(&revoked), Arc::clone(&asked), Arc::clone(&reached));
                tokio::spawn(async move {
                    let Ok(mut connection) = Connection::open(admin).await else { return };
                    loop {
                        let body = for_crm().to_string();
                        if connection.send(post("/api/keys", &[], body.as_bytes())).await.is_err() {
                            return;
                        }
                        let Ok(got) = connection.answer().await else { return };
                        let answer = got.json();
                        // An answer that was cut off was not acknowledged.
                        let (Some(id), Some(key), 201) = (answer["id"].as_str(), answer["key"].as_str(), got.status) else { return };
                        issued.lock().insert(id.to_owned(), key.to_owned());
                        reached.fetch_add(1, Ordering::SeqCst);
                        if number == 0 {
                            asked.lock().insert(id.to_owned());
                            let request = format!("DELETE /api/keys/{id} HTTP/1.1\r\nhost: localhost\r\n\r\n");
                            if connection.send(request).await.is_err() {
                                return;
                            }
                            match connection.answer().await {
                                Ok(got) if got.status == 200 && got.json()["state"] == "revoked" => {
                                    revoked.lock().insert(id.to_owned());
                                }
                                _ => return,
                            }
                        }
                    }
                })
            })
            .collect();
        // At a moment of its own, but so that all are issued with so many kills.
        let share = KEYS / KILLS + rng.usize(0..20);
        while reached.load(Ordering::SeqCst) < share {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        process.child.0.kill().unwrap();
        process.child.0.wait().unwrap();
        kills += 1;
        for caller in callers {
            caller.await.unwrap();
        }
    }
    assert!(kills >= KILLS && issued.lock().len() >= KEYS);
    let gateway = Gateway::start(&text).await;
    let known: BTreeMap<String, Value> =
        listed(gateway.running.admin).await.into_iter().map(|key| (key["id"].as_str().unwrap().to_owned(), key)).collect();
    let (issued, revoked, asked) = (issued.lock().clone(), revoked.lock().clone(), asked.lock().clone());
    let lost: Vec<&String> = issued.keys().filter(|id| !known.contains_key(*id)).collect();
    assert!(lost.is_empty(), "{} of {} keys are lost", lost.len(), issued.len());
    let undone: Vec<&String> = revoked.iter().filter(|id| known[*id]["state"] != "revoked").collect();
    assert!(undone.is_empty(), "{} of {} revocations are lost", undone.len(), revoked.len());
    assert!(known.iter().all(|(id, key)| key["state"] == "valid" || asked.contains(id)), "nothing is revoked that nobody asked for");
    let some: Vec<(String, String)> = issued.iter().step_by(100).map(|(id, key)| (id.clone(), key.clone())).collect();
    let ended: BTreeSet<String> = known.iter().filter(|(_, key)| key["state"] == "revoked").map(|(id, _)| id.clone()).collect();
    for (id, key) in some {
        assert_eq!(chat_with(gateway.address, &key).await, if ended.contains(&id) { 401 } else { 200 }, "{id}");
    }
}
