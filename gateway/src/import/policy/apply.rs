//! Applies what policies ask for to the pools that they are for.

use std::collections::BTreeMap;

use super::wishes::{Target, Wish, Wishes};
use crate::import::address;
use crate::import::draft::{Draft, DraftAuth, DraftBackend, DraftKind, DraftLimits, DraftMember, DraftPool, Semantic};
use crate::import::finding::Findings;
use crate::import::names::{last_part, name, placeholder_model, placeholder_url};

/// Makes incomplete backends for policies without backends.
pub(in crate::import) fn stand_in(wishes: &Wishes, draft: &mut Draft, findings: &mut Findings) {
    let mut wanted: Vec<(String, String, Option<String>)> = Vec::new();
    for wish in &wishes.0 {
        for (place, target) in &wish.targets {
            wanted.push(match target {
                Target::Backend(id) => (place.clone(), name(id), None),
                Target::Url(url) => (place.clone(), "backend".to_owned(), Some(url.clone())),
            });
        }
        if let Some(lookup) = &wish.lookup {
            wanted.push((lookup.place.clone(), name(&lookup.backend), None));
        }
    }
    if wanted.is_empty() {
        wanted.extend(wishes.0.first().map(|wish| (wish.file.clone(), "backend".to_owned(), None)));
    }
    for (place, name, url) in wanted {
        if draft.pools.iter().any(|pool| pool.name == name) {
            continue;
        }
        let root = url.as_deref().and_then(|url| address::take_apart(url).ok());
        if root.is_none() {
            findings.manual(
                &place,
                format!("backend '{name}' with a URL to be replaced"),
                "a policy doesn't contain its backend's URL: import the backends' JSON together with it, or fill in 'url' and 'auth'",
            );
        }
        let model = root.as_ref().and_then(|root| root.deployment.clone()).unwrap_or_else(|| placeholder_model(&name));
        findings.manual(&place, format!("pool '{name}': models = [\"{model}\"]"), "list the models that callers use");
        draft.backends.push(DraftBackend {
            name: name.clone(),
            from: place.clone(),
            kind: root.as_ref().and_then(|root| root.kind).unwrap_or(DraftKind::Azure),
            url: root.map_or_else(|| placeholder_url(&name), |root| root.root),
            api_version: None,
            location: None,
            auth: DraftAuth::None,
            deployments: BTreeMap::new(),
            max_concurrent: None,
        });
        let members = vec![DraftMember { backend: name.clone(), priority: 1, weight: 1 }];
        draft.pools.push(DraftPool { name, from: place, models: vec![model], members, ..DraftPool::default() });
    }
}

pub(in crate::import) fn apply(wishes: &Wishes, draft: &mut Draft, findings: &mut Findings) {
    for wish in &wishes.0 {
        let embedding: Vec<String> =
            wishes.0.iter().filter_map(|wish| Some(last_part(&wish.lookup.as_ref()?.backend).to_ascii_lowercase())).collect();
        let mut about: Vec<usize> = Vec::new();
        for (place, target) in &wish.targets {
            match draft.pools.iter().position(|pool| is(pool, target)) {
                Some(at) => about.push(at),
                None => findings.manual(place, "", "the target of these requests is in no file: import it as well, or add it by hand"),
            }
        }
        if wish.targets.is_empty() {
            about = (0..draft.pools.len()).filter(|at| !embedding.contains(&draft.pools[*at].name.to_ascii_lowercase())).collect();
        }
        for at in about {
            pool(wish, at, draft, findings);
        }
        draft.per_consumer.extend(wish.per_consumer.iter().cloned());
        cache(wish, draft, findings);
        safety(wish, draft, findings);
    }
}

fn is(pool: &DraftPool, target: &Target) -> bool {
    match target {
        Target::Backend(id) => pool.name.eq_ignore_ascii_case(&name(id)),
        Target::Url(_) => pool.members.len() == 1 && pool.name == "backend",
    }
}

fn pool(wish: &Wish, at: usize, draft: &mut Draft, findings: &mut Findings) {
    let pool = &mut draft.pools[at];
    let key = pool.name.clone();
    let mut both = |clash: bool, what: &str| {
        if clash {
            findings.manual(&wish.file, format!("pool '{key}': {what}"), "two policies set different values; the first one is used");
        }
    };
    both(set(&mut pool.retry.max_attempts, wish.retry.max_attempts), "retry.max_attempts");
    both(set(&mut pool.retry.statuses, wish.retry.statuses.clone()), "retry.statuses");
    both(set(&mut pool.timeouts.answer, wish.answer), "timeouts.answer");
    // A timeout that is longer than the total would never apply.
    if let Some(answer) = wish.answer.filter(|answer| answer.0 > 600_000) {
        set(&mut pool.timeouts.total, Some(answer));
    }
    let DraftLimits { requests_per_minute, tokens_per_minute, concurrent_requests, token_quota } = wish.limits;
    both(set(&mut pool.limits.requests_per_minute, requests_per_minute), "limits.requests_per_minute");
    both(set(&mut pool.limits.tokens_per_minute, tokens_per_minute), "limits.tokens_per_minute");
    both(set(&mut pool.limits.concurrent_requests, concurrent_requests), "limits.concurrent_requests");
    both(set(&mut pool.limits.token_quota, token_quota), "limits.token_quota");
    if let (Some(rate), Some((tokens, period))) = (pool.limits.tokens_per_minute, pool.limits.token_quota)
        && rate.saturating_mul(minutes(period)) < tokens
    {
        pool.limits.token_quota = None;
        findings.approximate(&wish.file, "", format!("the quota of {tokens} tokens per {period} is left out: the rate allows fewer"));
    }
    let Some(auth) = &wish.auth else { return };
    let members: Vec<String> = draft.pools[at].members.iter().map(|member| member.backend.clone()).collect();
    for backend in draft.backends.iter_mut().filter(|backend| backend.auth == DraftAuth::None && members.contains(&backend.name)) {
        backend.auth = auth.clone();
    }
}

/// Whether there was a different value.
fn set<T: PartialEq>(place: &mut Option<T>, value: Option<T>) -> bool {
    match (&place, value) {
        (_, None) => false,
        (None, value) => {
            *place = value;
            false
        }
        (Some(old), Some(new)) => *old != new,
    }
}

pub(super) fn minutes(period: &str) -> u64 {
    match period {
        "hour" => 60,
        "day" => 1_440,
        "week" => 10_080,
        "month" => 44_640,
        _ => 527_040,
    }
}

fn cache(wish: &Wish, draft: &mut Draft, findings: &mut Findings) {
    let Some(lookup) = &wish.lookup else {
        if let Some(ttl) = wish.stored {
            findings.unsupported(&wish.file, format!("answers are stored for {ttl}, but never looked up in this policy"));
        }
        return;
    };
    let pool = draft.pools.iter().find(|pool| pool.name.eq_ignore_ascii_case(&name(&lookup.backend)));
    let Some(pool) = pool.map(|pool| pool.name.clone()) else {
        return findings.manual(
            &lookup.place,
            "",
            format!("the backend '{}' for embeddings is in no file: add a pool for it and [plugins.cache.semantic]", lookup.backend),
        );
    };
    let semantic = Semantic {
        pool,
        threshold: lookup.threshold,
        ttl: wish.stored,
        max_messages: lookup.max_messages,
        ignore_system: lookup.ignore_system,
        dry_run: lookup.dry_run,
    };
    match &draft.semantic_cache {
        Some(other) if *other != semantic => {
            findings.manual(&lookup.place, "", "a second semantic cache, with other settings: Spillway has one, and the first is used");
        }
        _ => draft.semantic_cache = Some(semantic),
    }
    draft.exact_cache = draft.exact_cache.or(wish.stored);
    findings.approximate(&lookup.place, "plugins.cache.exact", "equal requests are answered from the cache, too, without an embedding");
}

fn safety(wish: &Wish, draft: &mut Draft, findings: &mut Findings) {
    let Some((place, backend, safety)) = &wish.safety else { return };
    let mut safety = safety.clone();
    match draft.services.iter().find(|(name, _, _)| name.eq_ignore_ascii_case(backend)) {
        Some((_, url, auth)) => {
            safety.url.clone_from(url);
            findings.exact(place, format!("plugins.guard.content_safety.url = \"{url}\""));
            safety.auth = auth.clone();
        }
        None => {
            safety.url = placeholder_url(backend);
            findings.manual(
                place,
                format!("plugins.guard.content_safety.url = \"{}\"", safety.url),
                format!("the backend '{backend}' is in no file: fill in 'url' and 'auth'"),
            );
        }
    }
    if safety.auth == DraftAuth::None {
        safety.auth = DraftAuth::ManagedIdentity { client_id: None, scope: None };
        findings.manual(
            place,
            "plugins.guard.content_safety.auth = { type = \"managed-identity\" }",
            "the policy doesn't contain API Management's credential for it: give the machine's identity the role Cognitive Services User, or set a key",
        );
    }
    if draft.safety.as_ref().is_some_and(|other| *other != safety) {
        return findings.manual(place, "", "a second check with other settings: Spillway has one, and the first is used");
    }
    draft.safety = Some(safety);
}
