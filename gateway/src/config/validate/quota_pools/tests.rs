use std::path::Path;

use crate::config::{Config, Secrets};

/// A config with a pool for each of `pools` (models, members), and the backends `a` to `d` of Azure, `openai` and `mock`.
fn parse(pools: &[(&str, &str)]) -> Result<Config, String> {
    let mut text = "[server]\nlisten = [\"127.0.0.1:0\"]\n".to_owned();
    for name in ["a", "b", "c", "d"] {
        text += &format!("[[backends]]\nname = \"{name}\"\nkind = \"azure-openai\"\nurl = \"https://{name}.openai.azure.com\"\n");
        text += "deployments = { \"gpt-4o-mini\" = \"mini\" }\nprices = { \"ptu\" = { usd_per_hour = 30.0 } }\n";
    }
    text += "[[backends]]\nname = \"openai\"\nkind = \"openai\"\nurl = \"https://api.openai.com\"\n";
    text += "[[backends]]\nname = \"other\"\nkind = \"openai\"\nurl = \"https://api.example.com\"\n";
    text += "[[backends]]\nname = \"mock\"\nkind = \"mock\"\n";
    let mini = ("\"gpt-4o-mini\"", "{ backend = \"a\" }");
    let with_mini = pools.iter().any(|(models, _)| models.contains(mini.0));
    let pools = pools.iter().chain((!with_mini).then_some(&mini));
    for (number, (models, members)) in pools.enumerate() {
        text += &format!("[[pools]]\nname = \"p{number}\"\nmodels = [{models}]\nmembers = [{members}]\n");
    }
    Config::parse(&text, Path::new("t.toml"), &Secrets::default()).map_err(|error| error.to_string())
}

fn labels(pools: &[(&str, &str)]) -> Vec<String> {
    parse(pools).unwrap().quota_pools.iter().map(|(target, label)| format!("{target} {label}")).collect()
}

/// The warnings about quotas.
fn warnings(pools: &[(&str, &str)]) -> Vec<String> {
    let all = parse(pools).unwrap().warnings.into_iter().map(|warning| warning.to_string());
    all.filter(|warning| warning.contains("quota")).collect()
}

fn error(pools: &[(&str, &str)]) -> String {
    parse(pools).unwrap_err()
}

const TWO: &str = r#"{ backend = "a", quota_pool = "corp" }, { backend = "b", quota_pool = "corp" }"#;

#[test]
fn a_label_is_the_targets() {
    assert_eq!(labels(&[(r#""gpt-4o""#, TWO)]), ["a/gpt-4o corp", "b/gpt-4o corp"]);
    assert_eq!(warnings(&[(r#""gpt-4o""#, TWO)]), [""; 0]);
    let across = [(r#""gpt-4o""#, r#"{ backend = "a", quota_pool = "corp" }"#), (r#""x""#, r#"{ backend = "b", quota_pool = "corp" }"#)];
    assert_eq!(labels(&across), ["a/gpt-4o corp", "b/x corp"]);
    assert_eq!(warnings(&across), [""; 0]);
    let by_model =
        r#"{ backend = "a", quota_pool = { "gpt-4o" = "q", "x" = "r" } }, { backend = "b", quota_pool = { "gpt-4o" = "q", "x" = "r" } }"#;
    assert_eq!(labels(&[(r#""gpt-4o", "x""#, by_model)]), ["a/gpt-4o q", "a/x r", "b/gpt-4o q", "b/x r"]);
    assert_eq!(warnings(&[(r#""gpt-4o", "x""#, by_model)]), [""; 0]);
}

#[test]
fn a_deployment_has_one_quota() {
    // Both models are the deployment `mini`.
    let mini = (r#""gpt-4o-mini""#, r#"{ backend = "a", quota_pool = "q" }, { backend = "b", quota_pool = "q" }"#);
    let said = error(&[mini, (r#""mini""#, r#"{ backend = "a", quota_pool = "r" }"#)]);
    let what =
        "pools[1].members[0].quota_pool: 'a/mini' is in quota pool 'q' at pools[0].members[0], and in 'r' here; a deployment has one quota";
    assert!(said.contains(what), "{said}");
    assert!(error(&[mini, (r#""mini""#, r#"{ backend = "a", quota_pool = "own" }"#)]).contains("a deployment has one quota"));
    assert_eq!(labels(&[mini, (r#""mini""#, r#"{ backend = "a", quota_pool = "q" }"#)]), ["a/mini q", "b/mini q"]);
    assert_eq!(
        labels(&[mini, (r#""mini""#, r#"{ backend = "a" }"#)]),
        ["a/mini q", "b/mini q"],
        "the label is the deployment's, once is enough"
    );
}

#[test]
fn what_cant_be_is_refused() {
    let cases = [
        (r#"{ backend = "a", quota_pool = "two words" }"#, "pools[0].members[0].quota_pool: a name must not be empty or have spaces"),
        (r#"{ backend = "a", quota_pool = { "gpt-4" = "q" } }"#, "unknown model (not in this pool) 'gpt-4'; did you mean 'gpt-4o'?"),
        (r#"{ backend = "a", quota_pool = 7 }"#, "expected a name, or a table with a name for each model"),
        (
            r#"{ backend = "a" }, { backend = "mock", priority = 9, quota_pool = "q" }"#,
            "has an effect only for a backend that is not a mock",
        ),
    ];
    for (members, what) in cases {
        let said = error(&[(r#""gpt-4o""#, members)]);
        assert!(said.contains(what), "{said}\n  expected {what}");
    }
}

#[test]
fn a_label_that_is_used_once_is_warned_of() {
    let said = warnings(&[(r#""gpt-4o""#, r#"{ backend = "a", quota_pool = "corp" }, { backend = "b", quota_pool = "copr" }"#)]);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[1].contains("pools[0].members[1].quota_pool: only 'b/gpt-4o' is in quota pool 'copr'"), "{said:?}");
}

#[test]
fn azures_members_of_one_tier_without_a_label_are_warned_of() {
    let said = warnings(&[(r#""gpt-4o", "x""#, r#"{ backend = "a" }, { backend = "b", priority = 1 }"#)]);
    assert_eq!(said.len(), 1, "once for all models: {said:?}");
    assert!(said[0].contains("pools[0].members[0].backend: 'a', 'b' may share one quota for 'gpt-4o'"), "{said:?}");
    let forgotten = warnings(&[(r#""gpt-4o""#, &format!("{TWO}, {{ backend = \"c\" }}"))]);
    assert!(forgotten.len() == 1 && forgotten[0].contains("pools[0].members[2].backend: 'a', 'b', 'c'"), "{forgotten:?}");
}

#[test]
fn it_is_quiet_where_it_would_be_noise() {
    for members in [
        // Different tiers: the first one may be provisioned.
        r#"{ backend = "a" }, { backend = "b", priority = 2 }"#,
        r#"{ backend = "a", quota_pool = "own" }, { backend = "b", quota_pool = "own" }"#,
        r#"{ backend = "a" }, { backend = "b", weight = 0 }"#,
        r#"{ backend = "openai" }, { backend = "other" }"#,
        r#"{ backend = "a" }, { backend = "openai" }"#,
    ] {
        assert_eq!(warnings(&[(r#""gpt-4o""#, members)]), [""; 0], "{members}");
    }
    // Provisioned deployments.
    assert_eq!(warnings(&[(r#""ptu""#, r#"{ backend = "a" }, { backend = "b" }"#)]), [""; 0]);
}

#[test]
fn own_shares_nothing() {
    assert_eq!(labels(&[(r#""gpt-4o""#, r#"{ backend = "a", quota_pool = "own" }, { backend = "b", quota_pool = "own" }"#)]), [""; 0]);
}

#[test]
fn labels_that_are_too_wide_are_warned_of() {
    let said = warnings(&[(r#""gpt-4o", "x""#, TWO)]);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("puts 'gpt-4o', 'x' into one quota pool"), "{said:?}");
    let said = warnings(&[(r#""ptu""#, TWO)]);
    assert!(said.len() == 2 && said[0].contains("'a/ptu' is provisioned"), "{said:?}");
}
