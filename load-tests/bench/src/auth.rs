//! What finding out who calls costs, without any I/O around it.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use http::{HeaderMap, HeaderValue};
use serde_json::json;
use spillway::callers::Callers;
use spillway::clock::Clock;
use spillway::config::{Config, Secrets};
use spillway::limits::{Limits, UsageHistory};
use spillway::telemetry::metrics::Metrics;
use spillway_plugins::auth::digest;
use spillway_plugins::auth::jwt::KeySet;
use spillway_testkit::tokens::SigningKey;

const NOW: i64 = 1_800_000_000;
const ROUNDS: u32 = 100_000;

fn callers(keys: usize) -> Callers {
    let mut text = "[server]\nlisten = [\"127.0.0.1:1\"]\n\n[[backends]]\nname = \"a\"\nkind = \"openai\"\nurl = \"http://127.0.0.1:1\"\n\n[[pools]]\nname = \"p\"\nmodels = [\"m\"]\nmembers = [{ backend = \"a\" }]\n\n[plugins.auth.jwt]\nissuer = \"http://127.0.0.1:1\"\naudiences = [\"api://spillway\"]\nunlisted = {}\n".to_owned();
    let expired = digest(b"expired");
    let _ = writeln!(text, "[[consumers]]\nname = \"expired\"\nkeys = [{{ sha256 = \"{expired}\", expires = \"2020-01-01\" }}]");
    for number in 0..keys {
        let hash = digest(format!("key-{number}").as_bytes());
        let _ = writeln!(text, "[[consumers]]\nname = \"c{number}\"\nkeys = [{{ sha256 = \"{hash}\" }}]");
    }
    let config = Config::parse(&text, Path::new("bench.toml"), &Secrets::default()).expect("a config");
    let metrics = Arc::new(Metrics::new().expect("metrics"));
    let limits = Arc::new(Limits::new(UsageHistory::default(), None, Arc::clone(&metrics), Clock::new()));
    Callers::new(&config, &limits, &metrics, &Arc::default(), None)
}

fn nanos(callers: &Callers, headers: &HeaderMap, good: bool) -> f64 {
    let began = Instant::now();
    for _ in 0..ROUNDS {
        assert_eq!(std::hint::black_box(callers.identify(headers, None, NOW)).is_ok(), good);
    }
    began.elapsed().as_nanos() as f64 / f64::from(ROUNDS)
}

fn with_key(key: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("api-key", HeaderValue::from_str(key).expect("a header"));
    headers
}

/// Nanoseconds for a key among so many.
pub fn key(among: usize) -> f64 {
    nanos(&callers(among), &with_key(&format!("key-{}", among / 2)), true)
}

/// Nanoseconds for a key that is not known, and for one that has expired.
pub fn refused() -> (f64, f64) {
    let callers = callers(1000);
    (nanos(&callers, &with_key("key-x"), false), nanos(&callers, &with_key("expired"), false))
}

/// Nanoseconds for a token that was checked before, and for one that was not.
pub fn token() -> (f64, f64) {
    let callers = callers(10);
    let tokens = callers.tokens.as_ref().expect("tokens");
    let signer = SigningKey::rsa("a");
    let set = json!({ "keys": [signer.jwk("a")] }).to_string();
    tokens.issuer.store(KeySet::parse(set.as_bytes()).expect("keys"), set.into_bytes(), NOW);
    // As large as Entra makes them.
    let signed = |number: u32| {
        let claims = json!({
            "iss": "http://127.0.0.1:1", "aud": "api://spillway", "azp": "c1", "exp": NOW + 3600, "number": number, "more": "x".repeat(700),
            "roles": ["caller"],
        });
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_str(&format!("Bearer {}", signer.token("a", &claims))).expect("a header"));
        headers
    };
    let fresh: Vec<HeaderMap> = (0..200).map(signed).collect();
    let began = Instant::now();
    for headers in &fresh {
        assert!(callers.identify(headers, None, NOW).is_ok());
    }
    let checked = began.elapsed().as_nanos() as f64 / fresh.len() as f64;
    (nanos(&callers, &fresh[0], true), checked)
}
