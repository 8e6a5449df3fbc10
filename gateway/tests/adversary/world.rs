//! A gateway with its upstreams: two tiers that speak OpenAI's API, two that speak Anthropic's, and one that only the
//! ordinary consumer may use.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use spillway_testkit::backend::ScriptedBackend;

use crate::book::Book;
use crate::support::{self, Gateway, ledger_rows};
use crate::upstream;

/// The hostile consumer's key, and the ordinary one's.
pub const HOSTILE: &str = "KEY-a";
pub const ORDINARY: &str = "KEY-b";

/// The upstreams: name, kind, pool and tier.
const UPSTREAMS: [(&str, &str, &str, u32); 6] = [
    ("one", "openai", "pool", 1),
    ("two", "openai", "pool", 1),
    ("three", "openai", "pool", 2),
    ("claude-one", "anthropic", "claude", 1),
    ("claude-two", "anthropic", "claude", 2),
    (upstream::SECRET, "openai", "secret", 1),
];

/// A gateway, what is behind it, and its state.
pub struct World {
    pub gateway: Gateway,
    pub book: Arc<Book>,
    folder: tempfile::TempDir,
    upstreams: Vec<ScriptedBackend>,
}

/// The tier of an upstream.
pub fn tier(name: &str) -> Option<u32> {
    UPSTREAMS.iter().find(|(upstream, ..)| *upstream == name).map(|(.., tier)| *tier)
}

fn consumer(name: &str, key: &str, more: &str) -> String {
    format!("[[consumers]]\nname = \"{name}\"\nkeys = [{{ sha256 = \"{}\" }}]\n{more}\n", spillway_plugins::auth::digest(key.as_bytes()))
}

fn config(upstreams: &[ScriptedBackend], folder: &Path, more: &str) -> String {
    let mut text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\nthreads = 2\nmax_body = \"256KiB\"\n{}\n{}",
        support::state_dir(folder),
        support::way_in()
    );
    for ((name, kind, ..), upstream) in UPSTREAMS.iter().zip(upstreams) {
        text += &format!("[[backends]]\nname = \"{name}\"\nkind = \"{kind}\"\nurl = \"{}\"\n", upstream.url());
    }
    for (pool, models) in [("pool", "\"m\""), ("claude", "\"claude\""), ("secret", "\"secret\"")] {
        text += &format!("[[pools]]\nname = \"{pool}\"\nmodels = [{models}]\nmembers = [\n");
        for (name, _, _, tier) in UPSTREAMS.iter().filter(|(_, _, of, _)| *of == pool) {
            text += &format!("  {{ backend = \"{name}\", priority = {tier} }},\n");
        }
        text += "]\n[pools.timeouts]\nfirst_token = \"2s\"\nidle = \"2s\"\nanswer = \"2s\"\ntotal = \"5s\"\n";
        text += "[pools.retry]\nwait = \"2s\"\n";
        text += "[pools.circuit]\ndefault_retry_after = \"100ms\"\nmax_retry_after = \"100ms\"\ntrip = \"1m\"\n";
    }
    let rates = "limits = { requests_per_minute = 100000, tokens_per_minute = 1000000000 }";
    text += &consumer("ant", HOSTILE, "models = [\"m\", \"claude\"]");
    text += &consumer("bee", ORDINARY, rates);
    text + "[usage]\non_disconnect = \"drain\"\ndrain_timeout = \"1s\"\n[objects]\nmax = 200\n[ledger]\ntags = [\"x-team\"]\n"
        + more
        + "[log]\naccess = \"off\"\nlevel = \"error\"\n"
}

impl World {
    /// Starts one; `more` are further tables of its config.
    pub async fn start(more: &str) -> World {
        let book = Arc::new(Book::default());
        let folder = tempfile::tempdir().unwrap();
        let mut upstreams = Vec::new();
        for (name, ..) in UPSTREAMS {
            upstreams.push(upstream::start(name, &book).await);
        }
        let gateway = Gateway::start(&config(&upstreams, folder.path(), more)).await;
        World { gateway, book, folder, upstreams }
    }

    /// Waits until nothing is under way any more.
    pub async fn settled(&self) {
        for _ in 0..1000 {
            if self.gateway.metric("spillway_in_flight_requests").await == 0.0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Lets upstreams forget what they were asked.
    pub fn forget(&self) {
        self.upstreams.iter().for_each(ScriptedBackend::forget);
    }

    /// The ledger's rows.
    pub fn rows(&self) -> Vec<Value> {
        ledger_rows(self.folder.path())
    }
}
