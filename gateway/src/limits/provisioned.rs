//! Nodes tell each other what they send to deployments with provisioned throughput, so that each knows how full these
//! are.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use redis::Script;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::balance::provisioned::{Full, Tally};
use crate::balance::target::Target;
use crate::clock::{Clock, Tick, millis};
use crate::redis::SharedMemory;

/// How often nodes tell each other.
const EVERY: Duration = Duration::from_millis(200);
/// How often it is looked whether there is anything to tell.
const IDLE: Duration = Duration::from_secs(1);
/// Timeout of an exchange.
const TELL: Duration = Duration::from_millis(500);
/// After how long without an exchange a node counts on its share only.
const LOST: Duration = Duration::from_secs(5);

/// Writes what this process has done in all (ARGV: its name, its tallies), and reads the same of the others. A process that has
/// written nothing for half a minute is gone.
const EXCHANGE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f|', now) .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], 60000)
local all = redis.call('HGETALL', KEYS[1])
local answer = {}
for i = 1, #all, 2 do
  local at, tallies = string.match(all[i + 1], '^(%d+)|(.*)$')
  if not at or now - tonumber(at) > 30000 then
    redis.call('HDEL', KEYS[1], all[i])
  elseif all[i] ~= ARGV[1] then
    answer[#answer + 1] = all[i]
    answer[#answer + 1] = tallies
  end
end
return answer";

/// What a node has done at a target.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct TargetReport {
    tally: Tally,
    /// How long its last 429 still holds.
    full_ms: u64,
    /// How long ago it ended.
    #[serde(default)]
    full_ago_ms: u64,
}

/// What was heard of the others: their tallies, by process and target.
#[derive(Debug, Default)]
struct Heard(HashMap<(String, String), Tally>);

impl Heard {
    /// What a process has done since it was heard last. The first time is only noted: what it did before has drained, or
    /// is seen when it ends. Also if another process has taken the name.
    fn news(&mut self, process: &str, target: &str, tally: Tally) -> Option<Tally> {
        tally.since(&self.0.insert((process.to_owned(), target.to_owned()), tally)?)
    }
}

/// Exchanges tallies of the current `targets` for ever, as `process`. `nodes` is how many nodes there are.
pub(super) async fn keep_shared(
    memory: &SharedMemory,
    process: &str,
    nodes: impl Fn() -> u64,
    targets: impl Fn() -> Vec<Arc<Target>>,
    clock: &Clock,
) {
    let (script, mut heard) = (Script::new(EXCHANGE), Heard::default());
    // How many nodes there were when they were lost.
    let (mut last, mut lost) = (clock.now(), None);
    loop {
        let provisioned: BTreeMap<String, Arc<Target>> =
            targets().into_iter().filter(|target| target.provisioned.is_on()).map(|target| (target.id.to_string(), target)).collect();
        if provisioned.is_empty() {
            sleep(IDLE).await;
            last = clock.now();
            continue;
        }
        sleep(EVERY).await;
        let now = clock.now();
        let reports: BTreeMap<&String, TargetReport> =
            provisioned.iter().filter_map(|(name, target)| Some((name, report(target, now)?))).collect();
        let Ok(text) = serde_json::to_string(&reports) else { continue };
        let asked = timeout(TELL, async {
            let mut connection = memory.connection().await?;
            script.key(memory.key("{limits}:ptu")).arg(process).arg(text).invoke_async::<Vec<String>>(&mut connection).await
        });
        match asked.await {
            Ok(Ok(answered)) => {
                last = now;
                if let Some(nodes) = lost.take() {
                    provisioned.values().for_each(|target| target.provisioned.peers_back(nodes, now));
                }
                for pair in answered.chunks_exact(2) {
                    note(&mut heard, &pair[0], &pair[1], &provisioned, now);
                }
            }
            _ if lost.is_none() && now.since(last) > LOST => {
                let nodes = u32::try_from(nodes()).unwrap_or(u32::MAX);
                lost = Some(nodes);
                warn!(nodes, "Redis can't be reached: this node counts on its share of provisioned throughput");
                provisioned.values().for_each(|target| target.provisioned.peers_lost(nodes, now));
                heard = Heard::default();
            }
            _ => {}
        }
    }
}

fn report(target: &Target, now: Tick) -> Option<TargetReport> {
    let (tally, full) = target.provisioned.tally(now)?;
    Some(TargetReport { tally, full_ms: millis(full.left), full_ago_ms: millis(full.ago) })
}

fn note(heard: &mut Heard, process: &str, text: &str, targets: &BTreeMap<String, Arc<Target>>, now: Tick) {
    // Of another version of the gateway: what it sends is seen by what it fills.
    let Ok(reports) = serde_json::from_str::<BTreeMap<String, TargetReport>>(text) else { return };
    for (name, TargetReport { tally, full_ms, full_ago_ms }) in reports {
        if let (Some(news), Some(target)) = (heard.news(process, &name, tally), targets.get(&name)) {
            let full = Full { left: Duration::from_millis(full_ms), ago: Duration::from_millis(full_ago_ms) };
            target.provisioned.note_peer(&news, full, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_new_counts() {
        let mut heard = Heard::default();
        let tally = |booked: f64, refused: u64| Tally { booked, refused, ..Tally::default() };
        assert_eq!(heard.news("p", "t", tally(100.0, 1)), None, "the first time");
        let news = heard.news("p", "t", tally(130.0, 2)).unwrap();
        assert_eq!((news.booked, news.refused), (30.0, 1));
        assert_eq!(heard.news("p", "t", tally(130.0, 2)).unwrap().booked, 0.0);
        assert_eq!(heard.news("q", "t", tally(7.0, 0)), None);
        assert_eq!(heard.news("p", "t", tally(10.0, 0)), None, "it has started again");
        assert_eq!(heard.news("p", "t", tally(15.0, 0)).unwrap().booked, 5.0);
    }
}
