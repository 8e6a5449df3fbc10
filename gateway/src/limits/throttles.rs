//! A target that throttles one node throttles all: nodes share until when each target is throttled, and until when each
//! quota pool is closed.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::balance::quota_pool::QuotaPool;
use crate::balance::target::Target;
use crate::clock::{Clock, Tick, millis};
use crate::redis::SharedMemory;

/// How often nodes share their throttles.
const EVERY: Duration = Duration::from_millis(250);
/// Timeout for that.
const TELL: Duration = Duration::from_millis(500);
/// How much two values of the same throttle may differ, because there is no common clock.
const SAME: Duration = Duration::from_millis(50);

/// Writes this node's throttles and reads those of others. Times are Redis's, in milliseconds since 1970: ARGV has
/// pairs of a name and how long its throttle still lasts.
const EXCHANGE: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 1, #ARGV, 2 do
  local till = now + tonumber(ARGV[i + 1])
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if not known or tonumber(known) < till then
    redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f', till))
  end
end
local answered = redis.call('HGETALL', KEYS[1])
local answer = {}
for i = 1, #answered, 2 do
  local left = tonumber(answered[i + 1]) - now
  if left > 0 then
    answer[#answer + 1] = answered[i]
    answer[#answer + 1] = string.format('%.0f', left)
  else
    redis.call('HDEL', KEYS[1], answered[i])
  end
end
return answer";

/// What nodes tell each other about.
#[derive(Debug, Clone)]
pub enum Throttle {
    /// A target's throttle.
    Target(Arc<Target>),
    /// A quota pool's closing.
    Quota(Arc<QuotaPool>),
}

impl Throttle {
    /// Its name in Redis. No target's name has spaces.
    fn name(&self) -> String {
        match self {
            Throttle::Target(target) => target.id.to_string(),
            Throttle::Quota(quota) => format!("quota pool {}", quota.name),
        }
    }

    /// Until when it lasts for all, if it does.
    fn until(&self, now: Tick) -> Option<Tick> {
        match self {
            Throttle::Target(target) => target.throttled_until(now),
            Throttle::Quota(quota) => quota.closed_for_all(now),
        }
    }

    /// Another node says that it lasts until then.
    fn extend(&self, until: Tick, now: Tick) {
        match self {
            Throttle::Target(target) => target.throttle_until(until, now),
            Throttle::Quota(quota) => quota.close_until(until, now),
        }
    }
}

/// Keeps the current `throttles` the same on all nodes, for ever. Without Redis each node learns them by itself.
pub async fn keep_shared(memory: &SharedMemory, throttles: impl Fn() -> Vec<Throttle>, clock: &Clock) {
    let script = redis::Script::new(EXCHANGE);
    let mut sent: HashMap<String, Tick> = HashMap::new();
    loop {
        sleep(EVERY).await;
        let now = clock.now();
        let by_name: HashMap<String, Throttle> = throttles().into_iter().map(|throttle| (throttle.name(), throttle)).collect();
        let news: Vec<(String, Tick)> = by_name
            .iter()
            .filter_map(|(name, throttle)| Some((name.clone(), throttle.until(now)?)))
            .filter(|(name, until)| sent.get(name).is_none_or(|before| until.since(*before) > SAME))
            .collect();
        let asked = timeout(TELL, async {
            let mut connection = memory.connection().await?;
            let mut invocation = script.prepare_invoke();
            invocation.key(memory.key("{limits}:throttles"));
            for (name, until) in &news {
                invocation.arg(name).arg(millis(until.since(now)));
            }
            invocation.invoke_async::<Vec<String>>(&mut connection).await
        });
        let Ok(Ok(answered)) = asked.await else { continue };
        sent.extend(news);
        for pair in answered.chunks_exact(2) {
            let (Some(throttle), Ok(left)) = (by_name.get(&pair[0]), pair[1].parse()) else { continue };
            let until = now + Duration::from_millis(left);
            // Only new ones: an operator may have reset a known one here.
            let known = sent.entry(pair[0].clone()).or_default();
            if until.since(*known) > SAME {
                throttle.extend(until, now);
                *known = until;
            }
        }
    }
}
