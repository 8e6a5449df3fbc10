//! What was learned of provisioned throughput, in a file in `server.state_dir`: for the next start.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;
use tracing::{info, warn};

use crate::balance::provisioned::Learned;
use crate::balance::target::Target;
use crate::clock::{Clock, Tick};

/// Its name in `state_dir`.
const FILE: &str = "ptu.json";
/// How often it is written.
const EVERY: Duration = Duration::from_secs(60);

/// The file. It has the targets' names and what was learned of each.
#[derive(Debug, Clone)]
pub struct PtuFile {
    path: PathBuf,
}

impl PtuFile {
    /// The file in this folder.
    pub fn new(folder: &Path) -> Self {
        PtuFile { path: folder.join(FILE) }
    }

    /// Gives targets what the process before has learned of them. A file that can't be read is left out: what it says is
    /// learned again.
    pub fn restore<'t>(&self, targets: impl Iterator<Item = &'t Arc<Target>>, now: Tick) {
        let text = match std::fs::read(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return,
            Err(error) => return warn!(path = %self.path.display(), %error, "what was learned of provisioned throughput can't be read"),
        };
        let known: BTreeMap<String, Learned> = match serde_json::from_slice(&text) {
            Ok(known) => known,
            Err(error) => {
                return warn!(path = %self.path.display(), %error, "what was learned of provisioned throughput can't be read: it is learned again");
            }
        };
        for target in targets {
            if let Some(learned) = known.get(&target.id.to_string()) {
                target.provisioned.restore(&learned.without_level(), now);
                info!(target = %target.id, "goes on with what was learned of its provisioned throughput");
            }
        }
    }

    /// Writes it now, if there is something to write.
    ///
    /// # Errors
    /// If the file can't be written; the one before is still there.
    pub fn write<'t>(&self, targets: impl Iterator<Item = &'t Arc<Target>>, now: Tick) -> io::Result<()> {
        let learned = |target: &Arc<Target>| Some((target.id.to_string(), target.provisioned.learned(now)?));
        let all: BTreeMap<String, Learned> = targets.filter_map(learned).collect();
        if all.is_empty() {
            return Ok(());
        }
        // Another process may write it at the same time, during an upgrade.
        let new = self.path.with_extension(format!("json.{}", std::process::id()));
        let text = serde_json::to_vec(&all)?;
        let written = crate::private::create(&new).and_then(|mut file| io::Write::write_all(&mut file, &text));
        written.and_then(|()| std::fs::rename(&new, &self.path)).inspect_err(|_| drop(std::fs::remove_file(&new)))
    }

    /// Writes it every minute, for ever.
    pub async fn keep_written(self, targets: impl Fn() -> Vec<Arc<Target>> + Send + 'static, clock: Clock) {
        let mut failed = false;
        loop {
            sleep(EVERY).await;
            let (file, targets, now) = (self.clone(), targets(), clock.now());
            let written = tokio::task::spawn_blocking(move || file.write(targets.iter(), now)).await;
            match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
                Ok(()) => failed = false,
                // One line per outage.
                Err(error) if !std::mem::replace(&mut failed, true) => {
                    warn!(path = %self.path.display(), %error, "what was learned of provisioned throughput can't be stored");
                }
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::provisioned::PtuConfig;
    use crate::balance::target::TargetId;

    const NOW: Tick = Tick(3_600_000_000_000);

    fn target(deployment: &str) -> Arc<Target> {
        let target = Target::new(TargetId { backend: "b".into(), deployment: deployment.into() }, None);
        let config = PtuConfig {
            per_second: Some(1000.0),
            output_ratio: 4.0,
            depth: Duration::from_secs(10),
            refusals: 0.004,
            shares: Arc::default(),
        };
        target.provisioned.configure(Some(config), NOW);
        Arc::new(target)
    }

    #[test]
    fn the_next_start_goes_on_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = PtuFile::new(folder.path());
        let (before, other) = (target("d"), target("e"));
        let mut learned = before.provisioned.learned(NOW).unwrap();
        learned.twin.drain = 0.6;
        before.provisioned.restore(&learned, NOW);
        file.write([&before, &other].into_iter(), NOW).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(folder.path().join(FILE)).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
        let after = target("d");
        file.restore([&after].into_iter(), NOW);
        let view = after.provisioned.view(NOW).unwrap();
        assert_eq!(view.drain, 0.6);
        assert!(view.fill.unwrap() > 0.3, "how full it is isn't known: a full one is met by a probe");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn a_torn_or_foreign_file_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let file = PtuFile::new(folder.path());
        for text in ["", "{", "[]", r#"{"b/d":{"drain":"x"}}"#, r#"{"b/d":{"drain":1e999,"real":1,"size":1,"spare":1}}"#] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            let target = target("d");
            file.restore([&target].into_iter(), NOW);
            assert!(target.provisioned.view(NOW).unwrap().drain.is_finite(), "{text}");
        }
    }
}
