//! Imports of small sources, each modelled on a published one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod outputs;

use super::*;

const LISTING: (&str, &str) = ("listing.json", include_str!("fixtures/listing.json"));
const TEMPLATE: (&str, &str) = ("template.json", include_str!("fixtures/template.json"));
const BARE: (&str, &str) = ("bare.json", include_str!("fixtures/bare.json"));
const POLICY: (&str, &str) = ("policy.xml", include_str!("fixtures/policy.xml"));
const ENV: (&str, &str) = ("aca.env", include_str!("fixtures/aca.env"));
const ACA: (&str, &str) = ("aca.json", include_str!("fixtures/aca.json"));
const LITELLM: (&str, &str) = ("litellm.yaml", include_str!("fixtures/litellm.yaml"));

type Input = (&'static str, &'static str);

/// Every source that imports, by a name for files.
fn all() -> Vec<(&'static str, Source, Vec<Input>)> {
    vec![
        ("listing", Source::Apim, vec![LISTING]),
        ("listing-policy", Source::Apim, vec![LISTING, POLICY]),
        ("template", Source::Apim, vec![TEMPLATE]),
        ("template-policy", Source::Apim, vec![TEMPLATE, POLICY]),
        ("bare", Source::Apim, vec![BARE]),
        ("policy", Source::ApimPolicy, vec![POLICY]),
        ("aca-env", Source::AcaLb, vec![ENV]),
        ("aca-json", Source::AcaLb, vec![ACA]),
        ("litellm", Source::LiteLlm, vec![LITELLM]),
    ]
}

fn run(source: Source, inputs: &[(&str, &str)]) -> (toml::Table, Vec<Finding>) {
    let imported = import(source, inputs).unwrap();
    (imported.toml.parse().unwrap_or_else(|error| panic!("{error}\n{}", imported.toml)), imported.findings)
}

/// A value by a path such as `pools.0.name`.
fn at<'t>(table: &'t toml::Table, path: &str) -> Option<&'t toml::Value> {
    let mut parts = path.split('.');
    let mut value = table.get(parts.next()?)?;
    for part in parts {
        value = match value {
            toml::Value::Array(list) => list.get(part.parse::<usize>().ok()?)?,
            other => other.get(part)?,
        };
    }
    Some(value)
}

#[track_caller]
fn is(table: &toml::Table, path: &str, expected: &str) {
    let expected: toml::Table = format!("v = {expected}").parse().unwrap();
    assert_eq!(at(table, path), expected.get("v"), "{path} in {table:#?}");
}

#[track_caller]
fn found(findings: &[Finding], class: Class, place: &str, text: &str) {
    let all: Vec<String> = findings.iter().map(ToString::to_string).collect();
    let found =
        findings.iter().any(|finding| finding.class == class && finding.place.contains(place) && finding.to_string().contains(text));
    assert!(found, "no {class} finding at '{place}' with '{text}' in\n{}", all.join("\n"));
}

fn named<'t>(table: &'t toml::Table, list: &str, name: &str) -> &'t toml::Table {
    let list = table[list].as_array().unwrap();
    list.iter().map(|item| item.as_table().unwrap()).find(|item| item["name"].as_str() == Some(name)).unwrap()
}

#[test]
fn pools_of_api_management() {
    let (table, findings) = run(Source::Apim, &[LISTING]);
    let chat = named(&table, "pools", "chat");
    is(chat, "models", r#"["gpt4o-ptu"]"#);
    is(chat, "members.0", r#"{ backend = "ptu-sweden", priority = 1, weight = 100 }"#);
    is(chat, "members.1", r#"{ backend = "payg-france", priority = 2, weight = 70 }"#);
    is(chat, "members.2", r#"{ backend = "payg-west", priority = 2, weight = 1 }"#);
    assert_eq!(chat["members"].as_array().unwrap().len(), 3);
    found(&findings, Class::Approximate, "/value/6/properties/pool/services/2/weight", "not set, while other members have one");
    found(&findings, Class::Manual, "/value/6/properties/pool/services/3", "'gone' of 'chat' is in no file");
    is(named(&table, "backends", "payg-france"), "deployments", r#"{ gpt4o-ptu = "gpt-4o" }"#);
}

#[test]
fn breakers_of_api_management() {
    let (table, findings) = run(Source::Apim, &[LISTING]);
    let circuit = named(&table, "pools", "chat")["circuit"].as_table().unwrap();
    is(circuit, "failures", "3");
    is(circuit, "interval", r#""5m""#);
    is(circuit, "trip", r#""90s""#);
    is(circuit, "statuses", r#"[429, "500-599"]"#);
    is(circuit, "errors", r#"["connect", "tls", "reset", "timeout", "first_token", "idle"]"#);
    is(circuit, "honour_retry_after", "true");
    found(&findings, Class::Exact, "failureCondition/count", "circuit.failures = 3");
    found(&findings, Class::Unsupported, "errorReasons/2", "Weather");
    found(&findings, Class::Approximate, "/value/6/properties", "'payg-france' gets the circuit of 'ptu-sweden'");
    let debug = findings.iter().find(|finding| finding.to_string().contains("Some(") || finding.to_string().contains("None"));
    assert_eq!(debug, None, "findings are words");
}

#[test]
fn single_backends_of_api_management() {
    let (table, findings) = run(Source::Apim, &[LISTING]);
    let ptu = named(&table, "backends", "ptu-sweden");
    is(ptu, "kind", r#""azure-openai""#);
    is(ptu, "url", r#""https://contoso-ptu.openai.azure.com""#);
    is(ptu, "location", r#""swedencentral""#);
    is(ptu, "auth", r#"{ type = "managed-identity" }"#);
    is(named(&table, "backends", "payg-west"), "api_version", r#""2024-10-21""#);
    is(named(&table, "backends", "payg-west"), "auth.key", r#"{ env = "AOAI_WEST_KEY" }"#);
    is(named(&table, "backends", "payg-france"), "auth.key", r#"{ env = "PAYG_FRANCE_API_KEY" }"#);
    is(named(&table, "pools", "embeddings"), "models", r#"["text-embedding-3-small"]"#);
    found(&findings, Class::Manual, "/value/1/properties/credentials/header/api-key", "set PAYG_FRANCE_API_KEY");
    found(&findings, Class::Unsupported, "header/x-team", "is not sent");
    found(&findings, Class::Unsupported, "tls/validateCertificateName", "always checked");
    found(&findings, Class::Unsupported, "/value/0/properties/shiny", "is not known");
    found(&findings, Class::Unsupported, "/value/5/properties", "'billing' is in no pool");
    assert!(!findings.iter().any(|finding| finding.class == Class::Exact && finding.place.starts_with("listing.json#/value/5")));
}

#[test]
fn templates_and_their_loops() {
    let (table, findings) = run(Source::Apim, &[TEMPLATE]);
    is(named(&table, "backends", "first"), "url", r#""https://contoso-frc.openai.azure.com""#);
    is(named(&table, "backends", "second"), "url", r#""https://contoso-swe.openai.azure.com""#);
    is(named(&table, "backends", "first"), "deployments", r#"{ gpt-4o = "chat-frc" }"#);
    let both = named(&table, "pools", "both");
    is(both, "models", r#"["gpt-4o", "o3"]"#);
    is(both, "members.1", r#"{ backend = "second", priority = 1, weight = 1 }"#);
    found(&findings, Class::Unsupported, "/resources/2/properties/url", "depends on parameters('host')");
    found(&findings, Class::Unsupported, "/resources/2/properties/url", "az rest --method get");
    found(&findings, Class::Unsupported, "/resources/3/copy", "the loop 'regions' is not expanded");
    found(&findings, Class::Unsupported, "/resources/4/properties/pool/copy", "the loop 'services' is not expanded");
    let values = (
        "values.json",
        r#"{"$schema": "x/deploymentParameters.json#", "parameters": {"host": {"value": "contoso-uks.openai.azure.com"}}}"#,
    );
    let (table, _) = run(Source::Apim, &[TEMPLATE, values]);
    is(named(&table, "backends", "third"), "url", r#""https://contoso-uks.openai.azure.com""#);
}

#[test]
fn what_can_not_be_read_is_said() {
    let (table, findings) = run(Source::Apim, &[BARE]);
    is(&table, "pools.0.models", r#"["REPLACE-ME-alone"]"#);
    is(&table, "pools.0.circuit.failure_percent", "50");
    assert_eq!(at(&table, "pools.0.circuit.trip"), None);
    found(&findings, Class::Manual, "#/0/properties", "doesn't say which models");
    found(&findings, Class::Unsupported, "interval", "months or years");
    found(&findings, Class::Unsupported, "tripDuration", "is 0;");
}

#[test]
fn policies_are_applied_to_their_pools() {
    let (table, findings) = run(Source::Apim, &[LISTING, POLICY]);
    let chat = named(&table, "pools", "chat");
    is(chat, "retry.max_attempts", "3");
    is(chat, "retry.statuses", r#"[429, "500-599"]"#);
    is(chat, "timeouts.answer", r#""2m""#);
    is(chat, "limits.tokens_per_minute", "90000");
    assert!(!named(&table, "pools", "embeddings").contains_key("retry"));
    is(&table, "plugins.cache.exact.ttl", r#""2m""#);
    is(
        &table,
        "plugins.cache.semantic",
        r#"{ embeddings = "embeddings", threshold = 0.95, ttl = "2m", max_messages = 4, ignore_system = true }"#,
    );
    let safety = table["plugins"]["guard"]["content_safety"].as_table().unwrap();
    is(safety, "url", r#""https://contoso-safety.cognitiveservices.azure.com""#);
    is(safety, "categories", "{ hate = 3, self_harm = 1 }");
    is(safety, "auth.key", r#"{ env = "JUDGE_API_KEY" }"#);
    is(safety, "blocklists", r#"["swearing"]"#);
    let toml = import(Source::Apim, &[LISTING, POLICY]).unwrap().toml;
    assert!(toml.contains("# token_quota = { tokens = 1000000, period = \"month\" }"), "{toml}");
    found(&findings, Class::Approximate, "policy.xml:31 <retry> condition", "context.Response != null");
    found(&findings, Class::Approximate, "policy.xml:31 <retry> interval", "no wait");
    found(&findings, Class::Approximate, "<azure-openai-semantic-cache-lookup> score-threshold", "1 - distance");
    found(&findings, Class::Manual, "policy.xml:12 <llm-token-limit>", "counted by the expression");
    found(&findings, Class::Manual, "<choose>", "not imported");
    found(&findings, Class::Unsupported, "<frobnicate>", "not known");
    found(&findings, Class::Exact, "<set-header>", "managed-identity");
    found(&findings, Class::Approximate, "<rate-limit> calls", "requests_per_minute = 40");
}

#[test]
fn a_policy_alone_gets_backends_to_fill_in() {
    let (table, findings) = run(Source::ApimPolicy, &[POLICY]);
    is(named(&table, "backends", "chat"), "url", r#""https://replace-me-chat.invalid""#);
    found(&findings, Class::Manual, "policy.xml:4", "a URL to be replaced");
    let wide = r#"<policies><inbound><llm-semantic-cache-lookup score-threshold="0.8" embeddings-backend-id="e" /></inbound></policies>"#;
    let (table, findings) = run(Source::ApimPolicy, &[("wide.xml", wide)]);
    is(&table, "plugins.cache.semantic.dry_run", "true");
    is(&table, "plugins.cache.semantic.threshold", "0.85");
    found(&findings, Class::Manual, "score-threshold", "dry run");
}

#[test]
fn variables_of_the_container_apps_sample() {
    let (table, findings) = run(Source::AcaLb, &[ENV]);
    is(&table, "pools.0.members.0", r#"{ backend = "backend-1", priority = 1, weight = 1 }"#);
    is(&table, "pools.0.members.1", r#"{ backend = "backend-2", priority = 2, weight = 1 }"#);
    is(&table, "backends.0.auth.key", r#"{ env = "BACKEND_1_APIKEY" }"#);
    is(&table, "backends.1.auth.type", r#""auto""#);
    is(&table, "backends.1.deployments", r#"{ gpt4o-ptu = "gpt-4o" }"#);
    is(&table, "pools.0.circuit.statuses", r#"[429, "500-599"]"#);
    is(&table, "pools.0.timeouts.total", r#""15m""#);
    found(&findings, Class::Unsupported, "BACKEND_3_URL", "is not set");
    found(&findings, Class::Unsupported, "BACKEND_1_COLOUR", "not a variable of openai-aca-lb");
    let (table, findings) = run(Source::AcaLb, &[ACA]);
    is(&table, "backends.0.auth.key", r#"{ env = "BACKEND_1_APIKEY" }"#);
    found(&findings, Class::Manual, "BACKEND_2_URL", "add backend 2 by hand");
}

#[test]
fn a_litellm_proxy() {
    let (table, findings) = run(Source::LiteLlm, &[LITELLM]);
    let pool = &table["pools"][0].as_table().unwrap().clone();
    is(pool, "models", r#"["gpt-4o", "gpt-4"]"#);
    is(pool, "policy", r#""headroom""#);
    is(pool, "members.0", r#"{ backend = "contoso-ptu", priority = 1, weight = 1 }"#);
    is(pool, "members.1", r#"{ backend = "contoso-frc", priority = 2, weight = 7 }"#);
    is(pool, "members.2", r#"{ backend = "openai", priority = 2, weight = 3 }"#);
    is(pool, "members.4.priority", "3");
    is(pool, "retry.max_attempts", "3");
    is(pool, "circuit", r#"{ failures = 4, interval = "1m", first_trip = "30s", trip = "30s" }"#);
    is(pool, "timeouts", r#"{ answer = "90s", first_token = "90s" }"#);
    is(&table, "backends.0.deployments", r#"{ gpt-4o = "gpt4o-ptu", gpt-4 = "gpt4o-ptu" }"#);
    is(&table, "backends.0.api_version", r#""2024-10-21""#);
    is(&table, "backends.0.auth.key", r#"{ env = "AOAI_SWEDEN_KEY" }"#);
    is(named(&table, "pools", "mini"), "models", r#"["mini", "small"]"#);
    is(named(&table, "pools", "mini"), "members.1.weight", "2");
    is(&table, "plugins.cache.exact.ttl", r#""5m""#);
    found(&findings, Class::Manual, "model_list[1].litellm_params.api_key", "set GPT_4O_API_KEY");
    found(&findings, Class::Manual, "model_list[4].litellm_params.api_base", "MINI_BASE");
    found(&findings, Class::Unsupported, "model_list[6]", "the provider 'bedrock' is not supported");
    found(&findings, Class::Unsupported, "model_list[7]", "wildcards");
    found(&findings, Class::Unsupported, "fallbacks[0].gpt-4o[1]", "not translated");
    found(&findings, Class::Unsupported, "router_settings.mystery", "not known");
    found(&findings, Class::Manual, "general_settings.master_key", "keys new");
}

#[test]
fn what_litellm_has_in_two_places_is_not_lost() {
    let yaml = r#"
model_list:
  - { model_name: a, litellm_params: { model: openai/a, api_key: os.environ/K } }
  - { model_name: b, litellm_params: { model: openai/b, api_key: os.environ/K } }
  - { model_name: c, litellm_params: { model: openai/c, api_key: os.environ/K } }
router_settings: { num_retries: 1, fallbacks: [{ a: [b] }], stream_timeout: 20 }
litellm_settings: { num_retries: 5, timeout: 900, request_timeout: 30, fallbacks: [{ a: [b, c] }, { c: [a] }] }
"#;
    let (table, findings) = run(Source::LiteLlm, &[("c.yaml", yaml)]);
    let tiers = |name: &str| {
        let members = named(&table, "pools", name)["members"].as_array().unwrap();
        members.iter().map(|member| member["priority"].as_integer().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!((tiers("a"), tiers("b"), tiers("c")), (vec![1, 2, 3], vec![1], vec![1, 2]));
    is(named(&table, "pools", "a"), "retry.max_attempts", "2");
    is(named(&table, "pools", "a"), "timeouts", r#"{ answer = "15m", first_token = "20s", total = "15m" }"#);
    found(&findings, Class::Approximate, "litellm_settings.num_retries", "router_settings.num_retries' is set, too, and has priority");
    found(&findings, Class::Approximate, "litellm_settings.request_timeout", "litellm_settings.timeout' is set, too, and has priority");
    found(&findings, Class::Approximate, "litellm_settings.fallbacks[0].a", "have priority");
    found(&findings, Class::Exact, "litellm_settings.fallbacks[0].a[0]", "'b' is a fallback of 'a' already");
}

#[test]
fn claude_at_azure_is_asked_as_anthropic() {
    let yaml = r#"
model_list:
  - { model_name: claude, litellm_params: { model: azure_ai/claude-sonnet-4-5, api_base: "https://r.services.ai.azure.com/anthropic", api_key: os.environ/K } }
  - { model_name: opus, litellm_params: { model: azure_ai/claude-opus-4-1, api_base: "https://other.services.ai.azure.com/" } }
  - { model_name: mistral, litellm_params: { model: azure_ai/mistral, api_base: "https://r.services.ai.azure.com/" } }
  - { model_name: meta/llama-3, litellm_params: { model: openai/meta/llama-3, api_base: "https://vllm.example/v1" } }
"#;
    let (table, _) = run(Source::LiteLlm, &[("c.yaml", yaml)]);
    for (at, kind, url) in [
        (0, "anthropic", "https://r.services.ai.azure.com/anthropic"),
        (1, "anthropic", "https://other.services.ai.azure.com/anthropic"),
        (2, "openai", "https://r.services.ai.azure.com"),
    ] {
        is(&table, &format!("backends.{at}.kind"), &format!("\"{kind}\""));
        is(&table, &format!("backends.{at}.url"), &format!("\"{url}\""));
    }
    is(&table, "backends.1.auth.key", r#"{ env = "AZURE_AI_API_KEY" }"#);
    is(&table, "pools.3.models", r#"["meta/llama-3"]"#);
    is(&table, "backends.3.deployments", r#"{ "meta/llama-3" = "meta/llama-3" }"#);
}

#[test]
fn secrets_are_never_copied() {
    let secrets = [
        "fr-literal-key-5150",
        "safety-literal-key-8080",
        "template-literal-key-1234",
        "aca-literal-key-4711",
        "litellm-literal-key-9999",
        "redis-literal-password",
        "sk-literal-master-key",
        "literal-pw",
    ];
    for (name, source, inputs) in all() {
        let imported = import(source, &inputs).unwrap();
        let text = format!("{} {:?}", imported.toml, imported.findings);
        for secret in secrets {
            assert!(!text.contains(secret), "{name} has {secret}");
        }
    }
}

#[test]
fn names_with_quotes_of_both_kinds_stay_toml() {
    let env = "BACKEND_1_URL=https://x.openai.azure.com\nBACKEND_1_DEPLOYMENT_NAME=a\"b's\\c\n";
    let (table, _) = run(Source::AcaLb, &[("a.env", env)]);
    is(&table, "pools.0.models.0", r#""a\"b's\\c""#);
    is(&table, "backends.0.deployments", r#"{ "a\"b's\\c" = "a\"b's\\c" }"#);
}

#[test]
fn wrong_files_are_refused_with_their_place() {
    let refused = |source, name, text| import(source, &[(name, text)]).unwrap_err().to_string();
    assert!(refused(Source::Apim, "a.json", "{\n  \"value\": [,]}").starts_with("a.json:2:"));
    assert!(refused(Source::Apim, "a.xml", "<policies>\n<inbound></policies>").starts_with("a.xml:2:"));
    assert!(refused(Source::Apim, "a.json", "{}").contains("az rest"));
    assert!(
        refused(Source::AcaLb, "a.env", "BACKEND_1_URL=https://x.openai.azure.com\nhunter2")
            .starts_with("a.env:2: is not a NAME=value line")
    );
    assert!(!refused(Source::AcaLb, "a.env", "hunter2").contains("hunter2"));
    assert!(refused(Source::AcaLb, "a.env", "BACKEND_1_URL=ftp://x").contains("the scheme 'ftp'"));
    let yaml = refused(Source::LiteLlm, "a.yaml", "model_list:\n  - a: [hunter2\n");
    assert!(yaml.starts_with("a.yaml") && !yaml.contains("hunter2"), "{yaml}");
    assert!(refused(Source::LiteLlm, "a.yaml", "model_list: []").contains("model_list"));
    assert!(import(Source::LiteLlm, &[]).is_err());
}
