//! Files that are removed while the gateway writes them.

use std::fs;
use std::path::Path;

use spillway::ledger::usage::{UsageQuery, usage};
use spillway_testkit::backend::{Reply, ScriptedBackend};
use spillway_testkit::client::{ask, post};

use crate::support::*;

/// The year 2100, in milliseconds since 1970.
const LATER: i64 = 4_102_444_800_000;

fn requests(folder: &Path) -> i64 {
    let query = UsageQuery { since: 0, until: LATER, by: UsageQuery::dimensions("model").unwrap(), consumer: None };
    usage(folder, &query).unwrap_or_default().iter().map(|row| row.requests).sum()
}

fn lines(path: &Path) -> usize {
    fs::read_to_string(path).map_or(0, |text| text.lines().count())
}

#[tokio::test]
async fn what_is_written_after_that_is_in_new_files() {
    let backend = ScriptedBackend::start(|_| Reply::json(200, answer("x"))).await;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (log, audit) = (folder.join("access.log"), folder.join("audit.log"));
    let text = config(&[member("a", &backend, 1)], "", &consumer("crm", ""))
        .replace("#server", &state_dir(folder))
        .replace("access = \"off\"", &format!("access = \"{}\"", log.display()));
    let gateway = Gateway::start(&text).await;
    let act = async || ask(gateway.running.admin, post("/api/undrain?backend=a", &[], b"")).await.unwrap().status;
    for round in 1..=2 {
        assert_eq!((act().await, ask_as(gateway.address, "crm", &chat(false)).await.status), (200, 200));
        // The administrative act has a line there, too.
        eventually("all is written", async || (requests(folder), lines(&log), lines(&audit)) == (1, 2, 1)).await;
        if round == 1 {
            let all = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
            all.filter(|path| path.is_file()).for_each(|path| fs::remove_file(path).unwrap());
        }
    }
    assert_eq!(gateway.metric("spillway_ledger_failures_total").await, 1.0);
    assert_eq!(gateway.metric("spillway_ledger_rows_total").await, 2.0);
    let is_kept = || fs::read_dir(folder).unwrap().any(|entry| entry.unwrap().file_name().to_string_lossy().contains(".removed-"));
    eventually("what the old ledger had is kept", async || is_kept()).await;
}
