//! Disks that are full, and files that are damaged.

use std::process::Command;

use super::*;

fn limit(process: &Process, bytes: &str) {
    let pid = process.child.0.id().to_string();
    assert!(Command::new("prlimit").args(["--pid", &pid, &format!("--fsize={bytes}:")]).status().unwrap().success());
}

fn names(folder: &Path, beginning: &str) -> Vec<String> {
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    all.filter(|name| name.starts_with(beginning)).collect()
}

#[tokio::test]
async fn on_a_full_disk_no_key_is_issued_and_a_revocation_holds_all_the_same() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let process = Process::launch(&text(&backend, folder.path(), ""), &[]).await;
    let admin = process.admin;
    let (kept, kept_key) = issue(admin, for_crm()).await;
    let (gone, gone_key) = issue(admin, for_crm()).await;
    let before = std::fs::read(folder.path().join("keys")).unwrap();
    // No file may grow any more: what a full disk looks like to a process. A few bytes still fit.
    limit(&process, &(before.len() + 40).to_string());
    let got = send(admin, "POST", "/api/keys", &for_crm().to_string()).await;
    assert!(got.status == 503 && got.text().contains("can't be stored, so nothing has changed"), "{}", got.text());
    assert_eq!(listed(admin).await.len(), 2);
    assert_eq!(std::fs::read(folder.path().join("keys")).unwrap(), before, "nothing half-written is left");
    let got = send(admin, "POST", &format!("/api/keys/{kept}/rotate"), "").await;
    assert_eq!((got.status, chat_with(process.address, &kept_key).await), (503, 200));
    let got = revoke(admin, &gone).await;
    assert!(got.status == 503 && got.text().contains("the key is revoked on all running nodes"), "{}", got.text());
    assert_eq!((chat_with(process.address, &gone_key).await, chat_with(process.address, &kept_key).await), (401, 200));
    assert_eq!(process.metric("spillway_issued_keys_unsaved").await, 1.0);
    limit(&process, "unlimited");
    eventually("what could not be stored is stored", async || process.metric("spillway_issued_keys_unsaved").await == 0.0).await;
    let (_, new_key) = issue(admin, for_crm()).await;
    drop(process);
    let gateway = Gateway::start(&text(&backend, folder.path(), "")).await;
    let status = async |key: &str| chat_with(gateway.address, key).await;
    assert_eq!((status(&kept_key).await, status(&gone_key).await, status(&new_key).await), (200, 401, 200));
    assert_eq!(listed(gateway.running.admin).await.len(), 3);
}

#[tokio::test]
async fn a_key_that_can_not_be_recorded_is_handed_to_nobody() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    // Only the audit log is on a full disk.
    std::os::unix::fs::symlink("/dev/full", folder.path().join("audit.log")).unwrap();
    let gateway = Gateway::start(&text(&backend, folder.path(), "")).await;
    let admin = gateway.running.admin;
    let got = send(admin, "POST", "/api/keys", &for_crm().to_string()).await;
    assert!(got.status == 503 && got.text().contains("can't be recorded in the audit log"), "{}", got.text());
    assert!(got.json()["key"].is_null());
    let key = &listed(admin).await[0];
    assert_eq!((&key["state"], &key["revoked_by"]), (&json!("revoked"), &json!("audit log")));
    assert_eq!(revoke(admin, key["id"].as_str().unwrap()).await.status, 200, "access can always be ended");
    assert_eq!(ask(admin, post("/api/drain?backend=a", &[], b"")).await.unwrap().status, 200, "and the gateway can be operated");
    assert_eq!(gateway.metric("spillway_audit_records_lost_total").await, 3.0);
    assert_eq!(gateway.metric("spillway_audit_records_total").await, 0.0);
}

#[tokio::test]
async fn what_is_damaged_is_set_aside_and_the_rest_is_used() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("keys");
    let text = text(&backend, folder.path(), "");
    let process = Process::launch(&text, &[]).await;
    let mut keys = Vec::new();
    for _ in 0..3 {
        keys.push(issue(process.admin, for_crm()).await);
    }
    revoke(process.admin, &keys[2].0).await;
    drop(process);
    let whole = std::fs::read(&file).unwrap();
    let ends: Vec<usize> = whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at + 1).collect();
    // Torn at the end, within the second key, and a byte of the first one.
    let torn = [&whole[..], b"0123abcd [{\"id\""].concat();
    let mut flipped = whole.clone();
    flipped[ends[0] + 20] ^= 1;
    for (damaged, lost, aside) in [(torn, None, &b"0123abcd [{\"id\""[..]), (flipped.clone(), Some(0), &flipped[ends[0]..ends[1]])] {
        std::fs::write(&file, &damaged).unwrap();
        let process = Process::launch(&text, &[]).await;
        let status = [
            chat_with(process.address, &keys[0].1).await,
            chat_with(process.address, &keys[1].1).await,
            chat_with(process.address, &keys[2].1).await,
        ];
        assert_eq!(status, [if lost == Some(0) { 401 } else { 200 }, 200, 401], "the revocation behind it counts");
        assert_eq!(process.metric("spillway_issued_keys_damaged_total").await, 1.0);
        assert_eq!(process.log().matches("is set aside").count(), 1, "told once: {}", process.log());
        let kept = names(folder.path(), "keys.damaged-");
        assert_eq!(kept.len(), 1, "{kept:?}");
        assert_eq!(std::fs::read(folder.path().join(&kept[0])).unwrap(), aside);
        std::fs::remove_file(folder.path().join(&kept[0])).unwrap();
        issue(process.admin, for_crm()).await;
        drop(process);
        // The file is whole again.
        let process = Process::launch(&text, &[]).await;
        assert_eq!(process.metric("spillway_issued_keys_damaged_total").await, 0.0);
        assert!(names(folder.path(), "keys.damaged-").is_empty());
    }
    for foreign in ["SQLite format 3\0 and more", "spillway issued keys, format 2\nsomething new\n"] {
        std::fs::write(&file, foreign).unwrap();
        let process = Process::launch(&text, &[]).await;
        assert_eq!(chat_with(process.address, &keys[1].1).await, 401, "nothing else knows it");
        assert_eq!(process.log().matches("is set aside").count(), 1, "{}", process.log());
        let kept = names(folder.path(), "keys.foreign-");
        assert_eq!(std::fs::read_to_string(folder.path().join(&kept[0])).unwrap(), foreign);
        std::fs::remove_file(folder.path().join(&kept[0])).unwrap();
        let (_, key) = issue(process.admin, for_crm()).await;
        assert_eq!(chat_with(process.address, &key).await, 200);
    }
}

#[tokio::test]
async fn a_file_that_is_lost_at_run_time_is_written_again() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("keys");
    let process = Process::launch(&text(&backend, folder.path(), ""), &[]).await;
    let (_, key) = issue(process.admin, for_crm()).await;
    let (gone, gone_key) = issue(process.admin, for_crm()).await;
    revoke(process.admin, &gone).await;
    let whole = std::fs::read(&file).unwrap();
    let replaced: [&dyn Fn(); 4] = [
        &|| std::fs::remove_file(&file).unwrap(),
        &|| std::fs::write(&file, "").unwrap(),
        &|| std::fs::write(&file, "nonsense").unwrap(),
        // A copy from before the revocation.
        &|| std::fs::write(&file, &whole[..whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1]).unwrap(),
    ];
    for replace in replaced {
        replace();
        eventually("it is written again", async || {
            std::fs::read_to_string(&file).is_ok_and(|text| text.contains("\"revoked\":") && text.matches("\"id\":").count() == 2)
        })
        .await;
        assert_eq!((chat_with(process.address, &key).await, chat_with(process.address, &gone_key).await), (200, 401));
    }
}

#[tokio::test]
async fn the_file_does_not_grow_with_every_change() {
    let (backend, folder) = (backend().await, tempfile::tempdir().unwrap());
    let gateway = Gateway::start(&text(&backend, folder.path(), "")).await;
    let admin = gateway.running.admin;
    let (mut id, mut key) = issue(admin, for_crm()).await;
    let first = key.clone();
    for _ in 0..20 {
        let got = send(admin, "POST", &format!("/api/keys/{id}/rotate"), r#"{ "grace": "0s" }"#).await;
        assert_eq!(got.status, 201, "{}", got.text());
        (id, key) = (got.json()["id"].as_str().unwrap().to_owned(), got.json()["key"].as_str().unwrap().to_owned());
    }
    assert_eq!((chat_with(gateway.address, &first).await, chat_with(gateway.address, &key).await), (401, 200));
    let text = std::fs::read_to_string(folder.path().join("keys")).unwrap();
    assert_eq!(text.lines().count(), 22, "the first line, and one for each change");
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(folder.path().join("keys")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}
