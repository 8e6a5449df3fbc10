//! A target that throttles one node throttles all: nodes share until when each target is throttled.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::balance::target::Target;
use crate::clock::{Clock, Tick};
use crate::redis::SharedMemory;

/// How often nodes share their throttles.
const EVERY: Duration = Duration::from_millis(250);
/// Timeout for that.
const TELL: Duration = Duration::from_millis(500);
/// How much two values of the same throttle may differ, because there is no common clock.
const SAME: Duration = Duration::from_millis(50);

/// Writes this node's throttles and reads those of others. Times are Redis's, in milliseconds since 1970: ARGV has
/// pairs of a target and how long it is still throttled.
const TELL_AND_HEAR: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 1, #ARGV, 2 do
  local till = now + tonumber(ARGV[i + 1])
  local known = redis.call('HGET', KEYS[1], ARGV[i])
  if not known or tonumber(known) < till then
    redis.call('HSET', KEYS[1], ARGV[i], string.format('%.0f', till))
  end
end
local heard = redis.call('HGETALL', KEYS[1])
local answer = {}
for i = 1, #heard, 2 do
  local left = tonumber(heard[i + 1]) - now
  if left > 0 then
    answer[#answer + 1] = heard[i]
    answer[#answer + 1] = string.format('%.0f', left)
  else
    redis.call('HDEL', KEYS[1], heard[i])
  end
end
return answer";

/// Keeps the throttles of the current `targets` the same on all nodes, for ever. Without Redis each node learns them by
/// itself.
pub async fn keep_shared(memory: &SharedMemory, targets: impl Fn() -> Vec<Arc<Target>>, clock: &Clock) {
    let script = redis::Script::new(TELL_AND_HEAR);
    let mut told: HashMap<String, Tick> = HashMap::new();
    loop {
        sleep(EVERY).await;
        let now = clock.now();
        let by_name: HashMap<String, Arc<Target>> = targets().into_iter().map(|target| (target.id.to_string(), target)).collect();
        let news: Vec<(String, Tick)> = by_name
            .iter()
            .filter_map(|(name, target)| Some((name.clone(), target.throttled_until(now)?)))
            .filter(|(name, until)| told.get(name).is_none_or(|before| until.since(*before) > SAME))
            .collect();
        let asked = timeout(TELL, async {
            let mut connection = memory.connection().await?;
            let mut invocation = script.prepare_invoke();
            invocation.key(memory.key("{limits}:throttles"));
            for (name, until) in &news {
                invocation.arg(name).arg(u64::try_from(until.since(now).as_millis()).unwrap_or(u64::MAX));
            }
            invocation.invoke_async::<Vec<String>>(&mut connection).await
        });
        let Ok(Ok(heard)) = asked.await else { continue };
        told.extend(news);
        for pair in heard.chunks_exact(2) {
            let (Some(target), Ok(left)) = (by_name.get(&pair[0]), pair[1].parse()) else { continue };
            let until = now + Duration::from_millis(left);
            // Only new ones: an operator may have reset a known one here.
            let known = told.entry(pair[0].clone()).or_default();
            if until.since(*known) > SAME {
                target.throttle_until(until, now);
                *known = until;
            }
        }
    }
}
