//! Warns of credentials that are missing, that others can read, or that everybody knows.

use spillway_plugins::auth::{Stored, digest};

use crate::config::checker::Checker;
use crate::config::{BackendAuth, BackendConfig, Consumer, DeploymentPrice, Server};
use crate::provider::BackendKind;
use crate::safe_url::is_this_machine;

/// The key of the examples. Its hash is that of the word `test`.
const EXAMPLE_KEY: &[u8] = b"test";

/// Warns of what is valid, and probably a mistake.
pub(super) fn warn(server: Option<&Server>, backends: &[BackendConfig], consumers: &[Consumer], check: &mut Checker<'_>) {
    for (at, backend) in backends.iter().enumerate() {
        credential(backend, &format!("backends[{at}]"), check);
        by_token(backend, &format!("backends[{at}]"), check);
    }
    if server.is_some_and(|server| server.listen.iter().any(|address| !address.ip().is_loopback())) {
        example_keys(consumers, check);
    }
}

/// How the gateway shows a backend who it is.
fn credential(backend: &BackendConfig, key: &str, check: &mut Checker<'_>) {
    let Some(endpoint) = backend.endpoint.as_ref().filter(|endpoint| !is_this_machine(&endpoint.host)) else { return };
    match backend.auth {
        BackendAuth::None if matches!(backend.kind, BackendKind::AzureOpenAi(_)) => {
            let remedy = "set 'auth', unless something between here and there adds it";
            check.warn(key, format!("'{}' has no 'auth': Azure OpenAI answers 401 to calls without a credential; {remedy}", backend.name));
        }
        BackendAuth::None => {}
        BackendAuth::ApiKey(_) | BackendAuth::Passthrough | BackendAuth::Token(_) if !endpoint.tls => {
            check.warn(
                &format!("{key}.url"),
                format!("credentials are sent to {} over http://, where others on the way can read them: use https://", endpoint.host),
            );
        }
        BackendAuth::ApiKey(_) | BackendAuth::Passthrough | BackendAuth::Token(_) => {}
    }
}

/// Prices by use of what is paid by the hour.
fn by_token(backend: &BackendConfig, key: &str, check: &mut Checker<'_>) {
    for deployment in backend.ptu.keys() {
        if matches!(backend.prices.get(deployment), Some(DeploymentPrice::ByUse(_))) {
            check.warn(
                &format!("{key}.prices.{deployment}"),
                "is a price by use of provisioned throughput ('ptu'): reports and budgets count it, although each hour costs the same; \
                 write usd_per_hour instead",
            );
        }
    }
}

fn example_keys(consumers: &[Consumer], check: &mut Checker<'_>) {
    let example = Stored::Sha256(digest(EXAMPLE_KEY));
    for (at, consumer) in consumers.iter().enumerate() {
        if let Some(which) = consumer.keys.iter().position(|key| key.stored == example) {
            check.warn(
                &format!("consumers[{at}].keys[{which}]"),
                format!(
                    "is the key of the examples, 'test', and other machines reach this gateway: everybody can call as '{name}'; \
                     `spillway keys new --consumer {name}` makes another",
                    name = consumer.name
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::{Config, Secrets};

    fn warnings(listen: &str, backend: &str, sha256: &str) -> Vec<String> {
        let text = format!(
            "[server]\nlisten = [\"{listen}\"]\n[[backends]]\nname = \"a\"\n{backend}\n[[pools]]\nname = \"p\"\nmodels = [\"gpt-4o\"]\n\
             members = [{{ backend = \"a\" }}]\n[[consumers]]\nname = \"c\"\nkeys = [{{ sha256 = \"{sha256}\" }}]\n"
        );
        let secrets = Secrets::with_env(|_| Some("secret".into()));
        let config = Config::parse(&text, Path::new("t.toml"), &secrets).unwrap_or_else(|error| panic!("{error}\n{text}"));
        config.warnings.iter().map(ToString::to_string).collect()
    }

    const TEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    const KEY: &str = "auth = { type = \"api-key\", key = { env = \"K\" } }";

    #[test]
    fn credentials_that_are_missing_or_in_the_clear() {
        let azure = |url: &str, rest: &str| format!("kind = \"azure-openai\"\nurl = \"{url}\"\n{rest}");
        let none = azure("https://x.openai.azure.com", "");
        assert!(warnings("127.0.0.1:0", &none, TEST)[0].starts_with("backends[0]: 'a' has no 'auth'"));
        let clear = azure("http://x.corp", KEY);
        assert!(warnings("127.0.0.1:0", &clear, TEST)[0].starts_with("backends[0].url: credentials are sent to x.corp over http://"));
        for quiet in [
            azure("https://x.openai.azure.com", KEY),
            azure("http://127.0.0.1:9101", KEY),
            azure("http://localhost:9101", ""),
            "kind = \"openai\"\nurl = \"http://vllm:8000\"".to_owned(),
        ] {
            assert_eq!(warnings("127.0.0.1:0", &quiet, TEST), [""; 0], "{quiet}");
        }
    }

    #[test]
    fn the_key_of_the_examples() {
        let mock = "kind = \"mock\"";
        assert!(warnings("0.0.0.0:0", mock, TEST)[0].starts_with("consumers[0].keys[0]: is the key of the examples, 'test'"));
        assert_eq!(warnings("127.0.0.1:0", mock, TEST), [""; 0]);
        assert_eq!(warnings("0.0.0.0:0", mock, &TEST.replace('9', "8")), [""; 0]);
    }

    #[test]
    fn prices_by_use_of_what_is_paid_by_the_hour() {
        let ptu = |price: &str| {
            format!(
                "kind = \"openai\"\nurl = \"http://localhost:9\"\nptu = {{ gpt-4o = {{ units = 50 }} }}\nprices = {{ gpt-4o = {{ {price} }} }}"
            )
        };
        assert!(warnings("127.0.0.1:0", &ptu("input = 1.0"), TEST)[0].starts_with("backends[0].prices.gpt-4o: is a price by use"));
        assert_eq!(warnings("127.0.0.1:0", &ptu("usd_per_hour = 1.0"), TEST), [""; 0]);
    }
}
