//! From the raw config to the valid one. One file per part; each part collects all its problems.

pub(super) mod backends;
mod consumers;
mod doubtful;
mod groups;
pub(super) mod limits;
mod metering;
mod pools;
mod portal;
mod price_shares;
mod quota_pools;
mod server;
mod sign_in;
mod steering;
mod unpriced;
mod unreached;

use spillway_plugins::auth::Pepper;
use spillway_plugins::limits::Rules;

use super::checker::Checker;
use super::error::Problem;
use super::load::Loaded;
use super::plugins::Around;
use super::raw::RawUnknownPrice;
use super::rights::Known;
use super::secret::Secrets;
use super::{AccessLogConfig, Config, Log, LogFilter, ObjectsConfig, Redis, plugins, shadow, traces};

pub(super) fn validate(loaded: Loaded<'_>, secrets: &Secrets) -> Result<Config, Vec<Problem>> {
    let Loaded { raw, problems, broken, places } = loaded;
    let Some(raw) = raw else { return Err(sorted(problems)) };
    let literals = raw.server.allow_literal_secrets.unwrap_or(false);
    let mut check = Checker { places, secrets, literals, broken, problems, warnings: Vec::new() };
    let state_dir = raw.server.state_dir.as_ref().map(std::path::Path::new);
    let server = server::read(&raw.server, &mut check);
    let prices = metering::prices(raw.prices.as_ref(), &mut check);
    let names = steering::Names { consumers: &raw.consumers, groups: &raw.groups };
    let backends = backends::read(&raw.backends, &prices, &names, &mut check);
    let pools = pools::read(&raw.pools, &raw.backends, &mut check);
    let prices_by_share = price_shares::read(&raw.backends, &backends, &raw.consumers, state_dir.is_some(), &mut check);
    let quota_pools = quota_pools::read(&raw.pools, &backends, &prices, &mut check);
    let mut groups = groups::read(&raw.groups, &mut check);
    let known = Known::new(&raw.pools, &raw.backends, &raw.groups);
    let around = Around { pools: &raw.pools, consumers: &raw.consumers, known: &known, state_dir };
    let plugins = plugins::read(&raw.plugins, &around, &mut check);
    let auth = &plugins.auth;
    let ways = consumers::WaysIn { peppered: auth.pepper.is_some(), tokens: auth.tokens.is_some(), issued: state_dir.is_some() };
    let mut consumers = consumers::read(&raw.consumers, &known, ways, &mut check);
    groups::guarantee(&raw.groups, &mut groups, &raw.consumers, &mut consumers, &mut check);
    unreached::warn(&groups, &consumers, auth.tokens.as_ref(), &mut check);
    let budgets = unpriced::Budgets { consumers: &consumers, groups: &groups, tokens: auth.tokens.as_ref() };
    let free = raw.prices.as_ref().and_then(|prices| prices.unknown) == Some(RawUnknownPrice::Free);
    unpriced::check(&pools, &backends, &prices, &budgets, free, &mut check);
    let usage = metering::usage(raw.usage.as_ref(), raw.ledger.as_ref(), &mut check);
    let ledger = metering::ledger(raw.ledger.as_ref(), state_dir, raw.redis.is_some(), &mut check);
    let lasting = |rules: &Rules| !rules.windows.is_empty();
    let all = consumers.iter().map(|consumer| &consumer.limits.rules).chain(groups.iter().map(|group| &group.rules));
    metering::warn_of_forgetting(state_dir, all.chain(pools.iter().map(|pool| &pool.limits)).any(lasting), &mut check);
    portal::warn_of_no_effect(server.as_ref(), (&raw.server, &raw.consumers, &raw.groups), raw.server.sign_in.is_some(), &mut check);
    doubtful::warn(server.as_ref(), &backends, &consumers, &mut check);
    let traces = traces::read(raw.traces.as_ref(), &mut check);
    let shadow = shadow::read(raw.shadow.as_ref(), server.as_ref(), &mut check);
    let objects = raw.objects.unwrap_or_default();
    let objects = ObjectsConfig { max: objects.max.unwrap_or(100_000), ttl: check.span(objects.ttl, 30 * 86_400, "objects.ttl") };
    let redis = raw.redis.as_ref().and_then(|raw| {
        let url = check.secret("redis.url", &raw.url)?;
        if !["redis://", "rediss://"].iter().any(|scheme| url.expose().starts_with(scheme)) {
            check.problem("redis.url", "is not a redis:// or rediss:// URL");
        }
        if raw.node.as_deref().is_some_and(|name| name.is_empty() || name.contains(char::is_whitespace)) {
            check.problem("redis.node", "a name must not be empty or have spaces");
        }
        Some(Redis {
            url,
            prefix: raw.prefix.clone().unwrap_or_else(|| "spillway:".to_owned()),
            node: raw.node.clone(),
            nodes: raw.nodes.unwrap_or(1).max(1),
            quotas_when_lost: limits::when_lost(raw.quotas_when_lost),
        })
    });
    if redis.is_some() && state_dir.is_some() && !auth.pepper.as_ref().is_some_and(Pepper::is_strong) {
        check.warn(
            "redis",
            format!(
                "keys that are issued at run time stay on the node that issues them: to exchange them safely, nodes need the same \
                 plugins.auth.pepper of at least {} random bytes",
                Pepper::STRONG
            ),
        );
    }
    let log = raw.log.unwrap_or_default();
    let level = log.level.as_deref().map_or_else(|| Ok(LogFilter::default()), LogFilter::parse).unwrap_or_else(|error| {
        check.problem("log.level", error.to_string());
        LogFilter::default()
    });
    let access = match log.access.as_deref() {
        None | Some("stdout") => AccessLogConfig::Stdout,
        Some("off") => AccessLogConfig::Off,
        Some("") => {
            check.problem("log.access", "is empty: write \"stdout\", \"off\" or the path of a file");
            AccessLogConfig::Off
        }
        Some(path) => {
            let folder = std::path::Path::new(path).parent().filter(|folder| !folder.as_os_str().is_empty());
            if folder.is_some_and(|folder| !folder.exists()) {
                check.problem_here("log.access", format!("the folder of '{path}' does not exist"));
            }
            check.file_path("log.access", path);
            AccessLogConfig::File(path.into())
        }
    };
    match (server, check.problems.is_empty()) {
        (Some(server), true) => Ok(Config {
            server,
            backends,
            pools,
            quota_pools,
            consumers,
            groups,
            plugins,
            usage,
            ledger,
            prices,
            prices_by_share,
            objects,
            redis,
            log: Log { level, access, text: log.format == Some(super::raw::RawLogFormat::Text) },
            traces,
            shadow,
            warnings: sorted(check.warnings),
        }),
        _ => Err(sorted(check.problems)),
    }
}

fn sorted(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by_key(|problem| problem.position);
    problems
}
