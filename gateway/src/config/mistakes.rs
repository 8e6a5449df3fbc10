//! Mistakes that people make in a config, and what they are told.

use std::path::Path;

use super::{Config, DeploymentPrice, Secrets, reference};

const POOL: &str = "\n[[pools]]\nname = \"p\"\nmodels = [\"gpt-4o\"]\nmembers = [{ backend = \"a\" }]\n";

fn parse(backend: &str, rest: &str) -> Result<Config, Vec<String>> {
    let text = format!("[server]\nlisten = [\"127.0.0.1:0\"]\n[[backends]]\nname = \"a\"\n{backend}\n{rest}");
    let parsed = Config::parse(&text, Path::new("t.toml"), &Secrets::default());
    parsed.map_err(|error| error.to_string().lines().map(str::to_owned).collect())
}

fn one_problem(backend: &str, rest: &str) -> String {
    let problems = parse(backend, rest).expect_err(rest);
    assert_eq!(problems.len(), 1, "{backend}\n{rest}\n{problems:#?}");
    problems.into_iter().next().unwrap()
}

const OPENAI: &str = "kind = \"openai\"\nurl = \"http://localhost:9\"";

#[test]
fn a_url_of_a_deployment_or_an_operation_names_the_root_to_write() {
    for (kind, url, root) in [
        ("azure-openai", "https://x.openai.azure.com/openai/deployments/gpt-4o", "\"https://x.openai.azure.com\""),
        ("azure-openai", "https://x.openai.azure.com/openai/deployments/gpt-4o/chat/completions", "\"https://x.openai.azure.com\""),
        ("azure-openai", "https://x/team/openai/v1/responses/", "\"https://x/team\""),
        ("azure-openai", "https://x:8443/deployments/gpt-4o", "\"https://x:8443\""),
        ("azure-openai", "https://x/anthropic/v1/messages", "\"https://x\""),
        ("openai", "http://vllm:8000/v1/chat/completions", "\"http://vllm:8000\""),
        ("openai", "https://x/v1/completions", "\"https://x\""),
        ("openai", "https://x/v1/embeddings", "\"https://x\""),
        ("openai", "https://x/openai/deployments/gpt-4o", "\"https://x\""),
        ("anthropic", "https://api.anthropic.com/v1/messages", "\"https://api.anthropic.com\""),
    ] {
        let problem = one_problem(&format!("kind = \"{kind}\"\nurl = \"{url}\""), POOL);
        assert!(problem.contains("backends[0].url: ") && problem.contains(&format!("write the root, {root}")), "{url}: {problem}");
    }
    for (kind, url) in [
        ("openai", "https://x/deployments/llama"),
        ("openai", "https://x/team-embeddings/v1"),
        ("azure-openai", "https://x/chat/openai/v1"),
        ("azure-openai", "https://x/openai"),
    ] {
        assert!(parse(&format!("kind = \"{kind}\"\nurl = \"{url}\""), POOL).is_ok(), "{url}");
    }
}

#[test]
fn a_syntax_error_is_one_error() {
    let problem = one_problem(OPENAI, &POOL.replace("[\"gpt-4o\"]", "[\"gpt-4o\""));
    assert!(problem.starts_with("t.toml:") && problem.contains("not valid TOML"), "{problem}");
}

#[test]
fn an_unknown_value_names_those_that_are_known() {
    for (rest, expected) in [
        (
            "[[consumers]]\nname = \"c\"\napis = [\"foo\"]",
            "consumers[0].apis[0]: unknown value 'foo' (known: chat, completions, embeddings, ",
        ),
        ("[[consumers]]\nname = \"c\"\napis = [\"chatt\"]", "did you mean 'chat'? (known: chat"),
        (
            "[plugins.prompt_log]\nredact = [\"mail\"]",
            "plugins.prompt_log.redact[0]: unknown value 'mail'; did you mean 'email'? (known: email, phone, iban, card, secret)",
        ),
        ("[plugins.auth.jwt]\nissuer = \"https://x\"\naudiences = [\"a\"]\nalgorithms = [\"HS256\"]", "(known: RS256, RS384, "),
    ] {
        let problems = parse(OPENAI, &format!("{POOL}{rest}\n")).unwrap_err();
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{problems:#?}");
    }
    let page = reference::markdown();
    let row = |start: &str| page.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
    assert!(row("| `apis` | list of these |").contains("`embeddings`: Embeddings."), "{}", row("| `apis`"));
    assert!(row("| `redact` | list of these |").contains("`iban`: Bank accounts."));
    let schema = Config::schema().to_value().to_string();
    assert!(schema.contains("\"conversations\"") && schema.contains("\"first_token\""));
}

#[test]
fn numbers_and_other_words_for_keys() {
    let member = |more: &str| POOL.replace("backend = \"a\" }", &format!("backend = \"a\", {more} }}"));
    for (rest, expected) in [
        (member("weight = -1"), "pools[0].members[0].weight: invalid value: integer `-1`, expected a whole number from 0 to 4294967295"),
        (member("weight = \"1\""), "expected a whole number"),
        (member("tier = 1"), "pools[0].members[0].tier: unknown key; did you mean 'priority'? (known: "),
        (
            format!("{POOL}limits = {{ concurrent_requests = 0 }}\n"),
            "pools[0].limits.concurrent_requests: 0 would refuse everything: write at least 1, or leave the limit out",
        ),
    ] {
        let problem = one_problem(OPENAI, &rest);
        assert!(problem.contains(expected), "{problem}");
    }
    let problems = parse("kind = \"openai\"\nendpoint = \"https://x\"", POOL).unwrap_err();
    assert!(problems.iter().any(|problem| problem.contains("unknown key; did you mean 'url'?")), "{problems:?}");
}

#[test]
fn what_is_provisioned_is_never_paid_by_use() {
    let ptu = |more: &str| {
        let config =
            parse(&format!("{OPENAI}\ndeployments = {{ gpt-4o = \"d\" }}\nptu = {{ d = {{ units = 50 }} }}\n{more}"), POOL).unwrap();
        config.prices.of(&config.backends[0], "gpt-4o")
    };
    assert_eq!(ptu(""), Some(DeploymentPrice::Hourly(None)), "what an hour costs isn't known");
    assert!(matches!(ptu("prices = { d = { usd_per_hour = 15.0 } }"), Some(DeploymentPrice::Hourly(Some(_)))));
    let config = parse(OPENAI, POOL).unwrap();
    assert!(matches!(config.prices.of(&config.backends[0], "gpt-4o"), Some(DeploymentPrice::ByUse(_))));
    // Where Azure spills over to isn't provisioned.
    let config = parse(&format!("{OPENAI}\nptu = {{ gpt-4o = {{ units = 50 }} }}"), POOL).unwrap();
    let elsewhere = config.prices.of_deployment(&config.backends[0], "gpt-4o", "standard");
    assert!(matches!(elsewhere, Some(DeploymentPrice::ByUse(_))));
}

#[test]
fn a_file_of_a_log_that_cannot_be_one() {
    for (rest, expected) in [
        (
            "[plugins.prompt_log]\nenabled = true\npath = \"/proc/version/x.jsonl\"",
            "plugins.prompt_log.path: '/proc/version/x.jsonl' is below a file",
        ),
        ("[plugins.prompt_log]\nenabled = true\npath = \"/proc\"", "plugins.prompt_log.path: '/proc' is a folder: name a file"),
        ("[log]\naccess = \"/proc\"", "log.access: '/proc' is a folder: name a file"),
    ] {
        let problem = one_problem(OPENAI, &format!("{POOL}{rest}\n"));
        assert!(problem.contains(expected), "{problem}");
    }
}

#[test]
fn only_the_secrets_that_are_needed_are_read() {
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\nadmin_token = {{ file = \"/nonexistent\" }}\n[[backends]]\nname = \"a\"\nkind = \"openai\"\nurl = \"https://localhost:9\"\n\
         auth = {{ type = \"api-key\", key = {{ env = \"NOT_SET\" }} }}\nca = \"/nonexistent.pem\"\n{POOL}[plugins.auth]\npepper = {{ env = \"PEPPER\" }}\n"
    );
    let secrets = || Secrets::with_env(|name| (name == "PEPPER").then(|| "pepper".into()));
    let config = Config::parse(&text, Path::new("t.toml"), &secrets().only(&["plugins.auth.pepper"])).unwrap();
    let expected = spillway_plugins::auth::Pepper::new(b"pepper").digest(b"x");
    assert_eq!(config.plugins.auth.pepper.unwrap().digest(b"x"), expected);
    assert!(Config::parse(&text, Path::new("t.toml"), &secrets()).is_err());
    let none = Secrets::with_env(|_| None);
    let error = Config::parse(&text, Path::new("t.toml"), &none.only(&["plugins.auth.pepper"])).unwrap_err().to_string();
    assert!(error.contains("plugins.auth.pepper: the environment variable PEPPER is not set"), "{error}");
}
