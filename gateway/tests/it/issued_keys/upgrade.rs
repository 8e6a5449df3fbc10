//! Another process takes over.

use super::*;

#[tokio::test]
async fn keys_and_their_revocations_outlive_upgrades_and_restarts() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let text = text(&backend, folder.path(), "");
    let process = Process::launch(&text, &[]).await;
    let (gone, gone_key) = issue(process.admin, for_crm()).await;
    let mut keys = Vec::new();
    for round in 0..3 {
        keys.push(issue(process.admin, for_crm()).await.1);
        if round == 1 {
            revoke(process.admin, &gone).await;
        }
        process.upgrade().await;
        for key in &keys {
            assert_eq!(chat_with(process.address, key).await, 200);
        }
        assert_eq!(chat_with(process.address, &gone_key).await, if round == 0 { 200 } else { 401 });
    }
    assert_eq!(listed(process.admin).await.len(), 4);
    let acts = audited(process.admin, "?limit=1000").await;
    let upgrades: Vec<&Value> = acts.iter().filter(|act| act["what"] == "upgrade").collect();
    assert_eq!(upgrades.len(), 3);
    assert_eq!(upgrades[0]["after"]["pid"], json!(process.successor()));
    assert_eq!(acts.iter().filter(|act| act["what"] == "key.issue").count(), 4);
    drop(process);
    let gateway = Gateway::start(&text).await;
    for key in &keys {
        assert_eq!(chat_with(gateway.address, key).await, 200);
    }
    assert_eq!(chat_with(gateway.address, &gone_key).await, 401);
}

/// As if an old and a new process were both at work: whatever one of them does, the other one knows, and no change is lost.
#[tokio::test]
async fn two_processes_with_one_file_lose_nothing() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let text = text(&backend, folder.path(), "");
    let (one, two) = (Process::launch(&text, &[]).await, Process::launch(&text, &[]).await);
    let many = async |admin: SocketAddr| {
        let mut issued = Vec::new();
        for number in 0..60 {
            let (id, key) = issue(admin, for_crm()).await;
            if number % 3 == 0 {
                assert_eq!(revoke(admin, &id).await.status, 200);
            }
            issued.push((key, number % 3 == 0));
        }
        issued
    };
    let (first, second) = tokio::join!(many(one.admin), many(two.admin));
    let all = [first, second].concat();
    for process in [&one, &two] {
        eventually("each knows what the other has done", async || {
            let keys = listed(process.admin).await;
            keys.len() == 120 && keys.iter().filter(|key| key["state"] == "revoked").count() == 40
        })
        .await;
        for (key, is_revoked) in &all {
            assert_eq!(chat_with(process.address, key).await, if *is_revoked { 401 } else { 200 });
        }
    }
    drop((one, two));
    let gateway = Gateway::start(&text).await;
    assert_eq!(listed(gateway.running.admin).await.len(), 120);
    assert_eq!(gateway.metric("spillway_issued_keys_damaged_total").await, 0.0);
}
