use std::path::Path;

use super::*;

const EXAMPLE: &str = include_str!("../../../conf/example.toml");

fn parse(text: &str) -> Result<Config, Vec<String>> {
    let secrets = Secrets::with_env(|name| (name == "AOAI_FRANCE_KEY").then(|| "k".into()));
    Config::parse(text, Path::new("t.toml"), &secrets).map_err(|error| error.to_string().lines().map(str::to_owned).collect())
}

fn minimal(extra: &str) -> String {
    format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n\n[[backends]]\nname = \"a\"\nkind = \"openai\"\nurl = \"http://localhost:9\"\n\n[[pools]]\nname = \"p\"\nmodels = [\"m\"]\nmembers = [{{ backend = \"a\" }}]\n{extra}"
    )
}

#[test]
fn the_example_passes() {
    let config = parse(EXAMPLE).unwrap();
    assert_eq!(config.pools[0].circuit.trip, Duration::from_secs(60));
    assert_eq!(config.backends[0].deployment("gpt-4o"), "gpt4o-ptu");
    assert_eq!(config.backends[0].deployment("gpt-4o-mini"), "gpt-4o-mini");
    let semantic = config.plugins.cache.unwrap().semantic.unwrap();
    assert_eq!((semantic.model.as_str(), semantic.threshold), ("text-embedding-3-small", 0.95));
    assert_eq!(config.plugins.prompt_log.unwrap().path, Path::new("logs/prompts.jsonl"));
}

#[test]
fn a_missing_variable_is_named_with_its_place() {
    let secrets = Secrets::with_env(|_| None);
    let error = Config::parse(EXAMPLE, Path::new("t.toml"), &secrets).unwrap_err().to_string();
    assert_eq!(error, "t.toml:31:28: backends[2].auth.key: the environment variable AOAI_FRANCE_KEY is not set");
}

#[test]
fn every_error_is_reported_with_its_place() {
    let text = minimal(
        "[pools.retry]\nmax_atempts = 3\nwait = \"5 weeks\"\n\n[pools.circuit]\nstatuses = [99]\nerrors = [\"conect\"]\n\n[[consumers]]\nname = \"c\"\nmodels = [\"n\"]\nkeys = [{ sha256 = \"abc\" }]\n\n[pluggins]\n",
    );
    let problems = parse(&text).unwrap_err();
    let starts = [
        "t.toml:14:1: pools[0].retry.max_atempts: unknown key; did you mean 'max_attempts'?",
        "t.toml:15:8: pools[0].retry.wait: invalid value: string \"5 weeks\", expected a duration such as",
        "t.toml:18:13: pools[0].circuit.statuses[0]: invalid value: integer `99`, expected an HTTP status",
        "t.toml:19:11: pools[0].circuit.errors[0]: unknown value 'conect'; did you mean 'connect'? (known: connect, tls, ",
        "t.toml:23:11: consumers[0].models[0]: unknown model (in no pool) 'n'",
        "t.toml:24:11: consumers[0].keys[0].sha256: a SHA-256 in hexadecimal has 64 digits",
        "t.toml:26:2: pluggins: unknown key; did you mean 'plugins'?",
    ];
    assert_eq!(problems.len(), starts.len(), "{problems:#?}");
    for (problem, start) in problems.iter().zip(starts) {
        assert!(problem.starts_with(start), "{problem}\n  expected {start}");
    }
}

#[test]
fn meaning_is_checked() {
    let cases = [
        ("[pools.timeouts]\nfirst_token = \"2m\"\ntotal = \"1m\"", "can never apply"),
        (
            "policy = \"lest-requests\"",
            "pools[0].policy: unknown value 'lest-requests'; did you mean 'least-requests'? (known: weighted, least-requests, ",
        ),
        ("[pools.retry]\nwait = \"20m\"", "no request can ever wait that long"),
        ("[traces]\notlp = { url = \"collector:4318\" }", "not an http:// or https:// URL"),
        ("[traces]\nsample = 2.0\notlp = { url = \"http://collector:4318\" }", "traces.sample: must be from 0 to 1"),
        ("[traces]\notlp = { url = \"http://collector:4318\", headers = { x = { env = \"AOAI_FRANCE_KEY\" } } }", "not an https:// URL"),
        ("[[backends]]\nname = \"b\"\nkind = \"azure-openai\"\nurl = \"https://10.0.0.1\"", "needs a host name to verify"),
        ("[[backends]]\nname = \"b\"\nkind = \"openai\"", "needs a 'url'"),
        ("[[backends]]\nname = \"b\"\nkind = \"openai\"\nurl = \"ftp://x\"", "does not begin with https:// or http://"),
        (
            "[[backends]]\nname = \"b\"\nkind = \"openai\"\nurl = \"https://x\"\nauth = { type = \"api-key\", key = \"sk-1\" }",
            "must not be written in this file",
        ),
        (
            "[[backends]]\nname = \"b\"\nkind = \"openai\"\nurl = \"https://x\"\nauth = { type = \"api-key\", key = { file = \"/nonexistent\" } }",
            "can't read /nonexistent",
        ),
        ("[[backends]]\nname = \"a\"\nkind = \"mock\"", "names must differ"),
        ("[[pools]]\nname = \"q\"\nmodels = [\"m\"]\nmembers = [{ backend = \"a\" }]", "served by pool 'p' already"),
        ("[[pools]]\nname = \"q\"\nmodels = [\"n\"]\nmembers = [{ backend = \"aa\" }]", "unknown backend 'aa'; did you mean 'a'?"),
        ("[[pools]]\nname = \"q\"\nmodels = [\"n\"]\nmembers = [{ backend = \"a\", weight = 0 }]", "every real member has weight 0"),
        (
            "[[pools]]\nname = \"q\"\nmodels = [\"n\"]\nmembers = [{ backend = \"a\", service_tier = \"flex\" }, { backend = \"a\", service_tier = \"flex\" }]",
            "'a' is a member of this pool already; it can be one again only with another 'service_tier'",
        ),
        (
            "[[backends]]\nname = \"b\"\nkind = \"anthropic\"\nurl = \"https://x\"\n[[pools]]\nname = \"q\"\nmodels = [\"n\"]\nmembers = [{ backend = \"b\", service_tier = \"flex\" }]",
            "has an effect only at backends of kind azure-openai or openai",
        ),
        ("[[pools]]\nname = \"q\"\nmodels = [\"n\"]\nmembers = [{ backend = \"a\", service_tier = \"fast\" }]", "unknown value 'fast'"),
        (
            "[[backends]]\nname = \"b\"\nkind = \"openai\"\nurl = \"https://x\"\nprices = { m = { usd_per_hour = 1.0, flex = { input = 1.0 } } }",
            "needs prices per million tokens beside it",
        ),
        (
            "[[backends]]\nname = \"b\"\nkind = \"openai\"\nurl = \"https://x\"\nprices = { m = { input = 1.0, flex = {} } }",
            "backends[1].prices.m.flex: is empty",
        ),
        (
            "[[backends]]\nname = \"b\"\nkind = \"openai\"\nurl = \"https://x\"\nprices = { m = { input = 1.0, priority = { input = -1.0 } } }",
            "backends[1].prices.m.priority.input: must be a number that is not negative",
        ),
        (
            "[[consumers]]\nname = \"c\"\n[consumers.limits]\ntokens_per_minute = 1\ntoken_quota = { tokens = 100_000, period = \"month\" }",
            "can never apply",
        ),
        ("[[consumers]]\nname = \"c\"\n[consumers.limits]\nrequests_per_minute = 0", "0 would refuse everything"),
        ("[plugins.auth]\nrequired = true", "no caller could be accepted"),
        ("[log]\nlevel = \"debgu\"", "unknown level 'debgu'; did you mean 'debug'?"),
        ("[log]\nlevel = \"warn,spilway=debug\"", "'spilway' is no crate that logs here; did you mean 'spillway'?"),
        ("[log]\naccess = \"/nonexistent/dir/access.log\"", "the folder of"),
        ("[[backends]]\nname = \"b\"\nkind = \"openai\"\nurl = \"https://x:99999\"", "no valid port"),
        (
            "[[backends]]\nname = \"b\"\nkind = \"openai\"\nurl = \"https://x\"\ndeployments = { \"gpt-4.1\" = \"d\" }",
            "t.toml:17:17: backends[1].deployments.gpt-4.1: model 'gpt-4.1' is in no pool",
        ),
        ("[plugins.cache]\nexact = {}\nsemantic = { embeddings = \"x\" }", "unknown pool 'x'"),
        ("[plugins.cache]\nsemantic = { embeddings = \"p\" }", "needs 'exact'"),
        (
            "[[plugins.request_rules]]\nmodels = [\"m\", \"n\"]\nmax_tools = 1",
            "t.toml:14:16: plugins.request_rules[0].models[1]: unknown model (in no pool) 'n'",
        ),
        (
            "[[consumers]]\nname = \"crm\"\n[[plugins.request_rules]]\nconsumers = [\"crn\"]\nmax_tools = 1",
            "plugins.request_rules[0].consumers[0]: unknown consumer 'crn'; did you mean 'crm'?",
        ),
        ("[[plugins.request_rules]]", "t.toml:13:1: plugins.request_rules[0]: bounds nothing"),
    ];
    for (extra, expected) in cases {
        let problems = parse(&minimal(extra)).expect_err(extra);
        assert!(problems.len() == 1 && problems[0].contains(expected), "{extra}\n{problems:#?}");
    }
}

#[test]
fn provisioned_throughput_is_checked() {
    const GROUP: &str = "\n[[groups]]\nname = \"g\"\nlimits = { requests_per_minute = 9 }";
    let with = |ptu: &str| format!("[[backends]]\nname = \"b\"\nkind = \"openai\"\nurl = \"https://x\"\nptu = {{ {ptu} }}");
    for (extra, expected) in [
        (with("d = { units = 0, model = \"gpt-5.1\" }"), "backends[1].ptu.d.units: must be from 1 to"),
        (with("d = { units = 50 }"), "what a PTU takes is not known for 'd'; set 'model', or 'tokens_per_minute' instead"),
        (with("d = { units = 50, tokens_per_minute = 5, model = \"gpt-5.1\" }"), "give either 'units' or 'tokens_per_minute'"),
        (with("d = { tokens_per_minute = 0 }"), "backends[1].ptu.d.tokens_per_minute: must be from 1 to"),
        (with("d = { output_ratio = -1.0 }"), "backends[1].ptu.d.output_ratio: must be from 0.1 to 100"),
        (with("d = { depth = \"0s\" }"), "backends[1].ptu.d.depth: must be longer than 0"),
        (with("d = { shares = [{ consumer = \"nobody\", percent = 10 }] }"), "shares[0].consumer: unknown consumer 'nobody'"),
        (with("d = { shares = [{ class = \"batch\", percent = 60 }, { class = \"standard\", percent = 60 }] }"), "add up to 120 percent"),
        (with("d = { shares = [{ percent = 60 }] }"), "give one of 'consumer', 'group' and 'class'"),
        (with("d = { shares = [{ class = \"batch\", percent = 6 }, { class = \"batch\", percent = 6 }] }"), "has a share already"),
        (with("d = { cost = \"by-share\" }"), "backends[1].ptu.d.cost: needs 'shares'"),
        (with("d = { cost = \"by-share\", shares = [{ class = \"batch\", percent = 6 }] }"), "shares[0].class: a class can't pay"),
        (
            with("d = { cost = \"by-share\", shares = [{ group = \"g\", percent = 6 }] }") + GROUP,
            "shares[0].group: 'g' has no consumer that could pay",
        ),
        (
            with("d = { cost = \"by-share\", shares = [{ group = \"g\", percent = 6 }] }") + GROUP,
            "no price per hour to divide: set backends.prices.d.usd_per_hour",
        ),
        ("prefer = \"savings\"".to_owned(), "pools[0].prefer: has an effect only with spill = \"ahead\""),
        ("spill = \"ahed\"".to_owned(), "pools[0].spill: unknown value 'ahed'; did you mean 'ahead'?"),
        ("[[consumers]]\nname = \"c\"\ndeadline = \"0s\"".to_owned(), "consumers[0].deadline: must be longer than 0"),
    ] {
        let problems = parse(&minimal(&extra)).expect_err(&extra);
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{extra}: {problems:#?}");
    }
    let warnings = |extra: &str| parse(&minimal(extra)).unwrap().warnings.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(warnings("spill = \"ahead\"").iter().any(|warning| warning.contains("no member has provisioned throughput")));
    let few = with("d = { units = 5, model = \"gpt-5.1\" }");
    assert!(warnings(&few).iter().any(|warning| warning.contains("Azure sells at least 15 PTUs of 'gpt-5.1'")));
}

#[test]
fn what_was_cut_out_neither_hides_nor_shifts_the_rest() {
    let text = minimal("[[backends]]\nname = \"b\"\nkind = \"opnai\"\nurl = \"http://x\"\n\n[[backends]]\nname = \"c\"\nkind = \"openai\"\nurl = \"x\"\n\n[pools.retry]\nstatuses = [9999, 500, \"5xx\"]\n").replace("listen = [\"127.0.0.1:0\"]", "listen = \"127.0.0.1:0\"");
    let problems =
        parse(&text.replace("[pools.retry]", "[[pools]]\nname = \"q\"\nmodels = [\"n\"]\nmembers = [{ backend = \"zz\" }]\n[pools.retry]"))
            .unwrap_err();
    let keys: Vec<&str> =
        problems.iter().map(|problem| problem.splitn(4, ':').nth(3).unwrap().split(": ").next().unwrap().trim()).collect();
    let expected = [
        "server.listen",
        "backends[1].kind",
        "backends[2].url",
        "pools[1].members[0].backend",
        "pools[1].retry.statuses[0]",
        "pools[1].retry.statuses[2]",
    ];
    assert_eq!(keys, expected, "{problems:#?}");
    assert!(problems[0].ends_with("expected a list"), "{}", problems[0]);
}

#[test]
fn a_broken_backend_is_one_error_not_two() {
    let text = minimal(
        "[[backends]]\nname = \"b\"\nurl = \"http://x\"\n\n[[pools]]\nname = \"q\"\nmodels = [\"n\"]\nmembers = [{ backend = \"b\" }]",
    );
    assert_eq!(parse(&text).unwrap_err(), ["t.toml:13:1: backends[1]: 'kind' is missing"]);
}

#[test]
fn syntax_errors_have_a_place() {
    let problems = parse("[server]\nlisten = [\n").unwrap_err();
    assert!(problems[0].starts_with("t.toml:") && problems[0].contains("not valid TOML"), "{problems:?}");
    assert!(parse("").unwrap_err()[0].contains("server.listen: at least one address is needed"));
}

#[test]
fn urls_are_roots() {
    let prefix = |url: &str| parse(&minimal("").replace("http://localhost:9", url)).unwrap().backends[0].endpoint.clone().unwrap();
    for (url, expected) in [
        ("https://x/v1", ""),
        ("https://x/openai/v1/", ""),
        ("https://x/openai", ""),
        ("https://x/anthropic/v1", ""),
        ("https://x/team/v1", "/team"),
        ("https://x", ""),
    ] {
        assert_eq!(prefix(url).prefix, expected, "{url}");
    }
    let plain = prefix("http://localhost:1234");
    assert_eq!((plain.tls, plain.host.as_str(), plain.port, plain.authority.as_str()), (false, "localhost", 1234, "localhost:1234"));
}

#[test]
fn the_schema_knows_every_key_of_the_example() {
    let schema = Config::schema().to_value().to_string();
    for line in EXAMPLE.lines().filter_map(|line| line.split_once(" = ")).filter(|(key, _)| !key.contains(['#', '"', '{'])) {
        assert!(schema.contains(&format!("\"{}\"", line.0.trim())), "{}", line.0);
    }
}

#[test]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == reference::markdown(), "docs/configuration.md is out of date: run `make docs`");
}

#[test]
fn a_state_dir_that_can_be_no_folder_is_refused_at_its_line() {
    let with = |path: &str| parse(&minimal("").replacen("[server]\n", &format!("[server]\nstate_dir = \"{path}\"\n"), 1));
    for (path, expected) in [
        ("", "t.toml:2:1: server.state_dir: is empty, which would be the folder that the gateway is started in"),
        (" ", "server.state_dir: is empty"),
        ("/proc/version", "server.state_dir: '/proc/version' is, or is below, a file: name a folder"),
        ("/proc/version/state", "is, or is below, a file"),
    ] {
        let problems = with(path).unwrap_err();
        assert!(problems.len() == 1 && problems[0].contains(expected), "{path}: {problems:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    assert!(with(folder.path().to_str().unwrap()).is_ok());
    assert!(with(folder.path().join("not/there/yet").to_str().unwrap()).is_ok(), "the gateway makes it");
    let access = parse(&minimal("[log]\naccess = \"\"")).unwrap_err();
    assert!(access[0].contains("log.access: is empty: write \"stdout\""), "{access:?}");
}

#[test]
fn a_mirror_that_other_machines_reach_is_a_warning() {
    let warnings = |address: &str| {
        let text = format!("[shadow]\nlisten = [\"{address}\"]\n{}", minimal(""));
        parse(&text).unwrap().warnings.iter().map(ToString::to_string).filter(|warning| warning.contains("shadow.listen[0]")).count()
    };
    assert_eq!((warnings("127.0.0.1:8081"), warnings("[::1]:8081"), warnings("0.0.0.0:8081"), warnings("10.0.0.4:8081")), (0, 0, 1, 1));
    let sized = |size: &str| parse(&format!("[shadow]\nlisten = [\"127.0.0.1:0\"]\nmax_body = \"{size}\"\n{}", minimal("")));
    assert!(sized("32MiB").is_ok() && sized("33MiB").unwrap_err().iter().any(|problem| problem.contains("at most 32MiB")));
}

/// What is wrong with these groups and consumers, without the place.
fn of_tree(text: &str) -> Vec<String> {
    match parse(&minimal(text)) {
        Ok(config) => config.warnings.iter().map(|warning| format!("{warning}")).filter(|text| text.contains("groups[")).collect(),
        Err(problems) => problems,
    }
}

#[test]
fn a_tree_of_groups_is_read_with_periods_zones_and_guarantees() {
    let text = r#"
[[groups]]
name = "acme"
limits = { tokens_per_minute = 1000, token_quota = [{ tokens = 500, period = "day", time_zone = "europe/berlin" }, { tokens = 9000, period = "month" }], budget = { usd = 10.0, period = "minute" } }
[[groups]]
name = "search"
parent = "acme"
guaranteed = "20%"
borrow = false
limits = { request_quota = { requests = 7, period = "week" } }
[[groups]]
name = "web"
parent = "search"
[[consumers]]
name = "c"
group = "web"
[[consumers]]
name = "d"
group = "acme"
guaranteed = { tokens_per_minute = 800, token_quota = { tokens = 7200, period = "month" } }
"#;
    let config = parse(&(minimal(text) + "[prices]\nunknown = \"free\"\n")).unwrap();
    let [acme, search, web] = &config.groups[..] else { panic!() };
    let windows: Vec<String> = acme.rules.windows.iter().map(|window| format!("{} {}", window.limit, window.calendar)).collect();
    let dollar = spillway_plugins::prices::Money::USD.0;
    assert_eq!(windows, ["500 day (Europe/Berlin)", "9000 month", &format!("{} minute", 10 * dollar)]);
    let shown: Vec<_> = acme.rules.guaranteed.iter().map(|one| (one.child.as_str(), one.amounts.as_slice())).collect();
    assert_eq!(shown[0], ("group 'search'", [200, 100, 1800, 2 * dollar].as_slice()));
    assert_eq!(shown[1], ("consumer 'd'", [800, 0, 7200, 0].as_slice()));
    assert_eq!((search.rules.tokens_per_minute, search.rules.windows.len()), (Some(200), 4), "it may not borrow");
    let path: Vec<&str> = lineage(&config.groups, config.consumers[0].group).map(|(_, group)| &*group.name).collect();
    assert_eq!((path, web.rules.is_empty()), (vec!["web", "search", "acme"], true));
}

#[test]
fn a_tree_that_cannot_work_is_refused_at_its_line() {
    let org = "[[groups]]\nname = \"org\"\nlimits = { tokens_per_minute = 100 }\n";
    let child = |name: &str, more: &str| format!("[[groups]]\nname = \"{name}\"\nparent = \"org\"\n{more}\n");
    let deep: String = (0..6).map(|at| format!("[[groups]]\nname = \"g{at}\"\nparent = \"g{}\"\n", at + 1)).collect();
    let cases: Vec<(String, &str)> = vec![
        (org.to_owned() + "[[groups]]\nname = \"a\"\nparent = \"orf\"\n", "t.toml:18:1: groups[1].parent: unknown group 'orf'; did you mean 'org'?"),
        (
            "[[groups]]\nname = \"a\"\nparent = \"b\"\n[[groups]]\nname = \"b\"\nparent = \"a\"\n".into(),
            "t.toml:15:1: groups[0].parent: goes in a circle: 'a' in 'b' in 'a'; one of these groups must have no parent, or another one",
        ),
        (deep.replace("parent = \"g6\"\n", ""), "groups[0].parent: is too deep: with a consumer, 'g0' in 'g1' in 'g2' in 'g3' in 'g4' in 'g5' would be 7 nodes"),
        (
            org.to_owned() + &child("a", "guaranteed = \"60%\"") + &child("b", "guaranteed = { tokens_per_minute = 41 }") + &child("c", "guaranteed = \"30%\""),
            "t.toml:23:1: groups[2].guaranteed: group 'org' has 100 tokens_per_minute, and guarantees 131: 60 to group 'a', 41 to group 'b', 30 to group 'c'; guarantee less, or raise the limit of 'org'",
        ),
        (org.to_owned() + &child("a", "guaranteed = { budget = { usd = 1.0, period = \"day\" } }"), "groups[1].guaranteed.budget: group 'org' has no budget per day in UTC of which something could be guaranteed; it has tokens_per_minute"),
        (
            "[[groups]]\nname = \"org\"\nlimits = { token_quota = [{ tokens = 9, period = \"month\", time_zone = \"Europe/Berlin\" }, { tokens = 9, period = \"day\" }] }\n".to_owned()
                + &child("a", "guaranteed = { token_quota = { tokens = 1, period = \"month\" } }"),
            "group 'org' has no token_quota per month in UTC of which something could be guaranteed; it has token_quota per month in Europe/Berlin, token_quota per day in UTC: write the same period and time_zone",
        ),
        (org.to_owned() + &child("a", "guaranteed = \"lots\""), "'lots' is no percentage; write one from more than 0 to 100, such as \"20%\", or a table"),
        (org.to_owned() + &child("a", "guaranteed = \"0.5%\""), "is less than one of the 100 tokens_per_minute of group 'org'"),
        (org.to_owned() + &child("a", "guaranteed = 3"), "expected a percentage such as \"20%\", or a table with amounts"),
        (org.to_owned() + &child("a", "borrow = false"), "groups[1].borrow: has an effect only with 'guaranteed'"),
        (
            org.to_owned() + &child("a", "guaranteed = \"5%\"\nborrow = false\nlimits = { shadow = true }"),
            "t.toml:20:1: groups[1].borrow: makes what is guaranteed its own limits, and with 'limits.shadow = true' those refuse nothing",
        ),
        ("[[groups]]\nname = \"a\"\nguaranteed = \"5%\"\n".into(), "groups[0].guaranteed: is a part of the limits of its parent, and it has none"),
        ("[[groups]]\nname = \"a\"\n[[consumers]]\nname = \"c\"\ngroup = \"a\"\nguaranteed = \"5%\"\n".into(), "is a part of the limits of group 'a', which has none"),
        (
            "[[groups]]\nname = \"a\"\nlimits = { token_quota = { tokens = 1, period = \"day\", time_zone = \"Europe/Berlim\" } }\n".into(),
            "token_quota.time_zone: unknown time zone (of the IANA database) 'Europe/Berlim'; did you mean 'Europe/Berlin'?",
        ),
        (
            "[[groups]]\nname = \"a\"\nlimits = { token_quota = [{ tokens = 1, period = \"minute\" }] }\n".into(),
            "groups[0].limits.token_quota[0].period: use tokens_per_minute instead",
        ),
        (
            "[[groups]]\nname = \"a\"\nlimits = { request_quota = [{ requests = 1, period = \"day\" }, { requests = 2, period = \"day\" }] }\n".into(),
            "groups[0].limits.request_quota[1]: 'groups[0].limits.request_quota[0]' is for the same period already",
        ),
        ("[[groups]]\nname = \"a\"\nlimits = { token_quota = 5 }\n".into(), "expected a table, or a list of tables"),
        ("[[groups]]\nname = \"a\"\nlimits = { token_quota = { token = 5, period = \"day\" } }\n".into(), "unknown key; did you mean 'tokens'?"),
    ];
    for (text, expected) in cases {
        let found = of_tree(&text);
        assert!(found.iter().any(|problem| problem.contains(expected)), "{text}\n{found:#?}\nexpected {expected}");
    }
    let uncovered = org.to_owned()
        + &child("a", "limits = { tokens_per_minute = 50 }")
        + "[[groups]]\nname = \"b\"\nparent = \"a\"\nguaranteed = \"50%\"\n";
    let warning =
        "groups[2].guaranteed: group 'a' guarantees 25 tokens_per_minute, but itself has only 0 of them guaranteed by group 'org'";
    assert!(of_tree(&uncovered).iter().any(|found| found.contains(warning)), "{:?}", of_tree(&uncovered));
    let unreached =
        org.to_owned() + &child("a", "limits = { tokens_per_minute = 101, token_quota = [{ tokens = 9_000_000, period = \"day\" }] }");
    let expected = [
        "groups[0].name: no consumer is in group 'org' or below it: it has no effect",
        "groups[1].name: no consumer is in group 'a' or below it: it has no effect",
        "groups[1].limits.tokens_per_minute: tokens_per_minute never applies: group 'org' allows 100; make it smaller, or leave it out",
    ];
    assert_eq!(of_tree(&unreached.replace("9_000_000", "100")), expected);
}

/// A config with this `[server.sign_in]`, whose first line is line 14.
fn signing_in(changed: &str, by: &str) -> Result<Config, Vec<String>> {
    let table = "[server.sign_in]\nissuer = \"https://id.example.com\"\nclient_id = \"app\"\nclient_secret = { env = \"AOAI_FRANCE_KEY\" }\n\
                 url = \"https://gateway.example.com/\"\nroles = { operator = [\"Ops\"] }\n";
    assert!(table.contains(changed), "{changed}");
    parse(&minimal(&format!("\n{}", table.replace(changed, by))))
}

#[test]
fn sign_in_has_defaults_and_a_base_address_without_a_slash() {
    let rules = signing_in("", "").unwrap().server.sign_in.unwrap();
    assert_eq!((rules.session, rules.idle), (Duration::from_secs(8 * 3600), Duration::from_secs(1800)));
    assert_eq!(
        (rules.url.as_str(), rules.origin(), rules.scopes.as_str()),
        ("https://gateway.example.com", "https://gateway.example.com", "openid profile")
    );
    assert_eq!(rules.issuer.discovery, "https://id.example.com/.well-known/openid-configuration");
    let below = signing_in("gateway.example.com/", "example.com:8443/gateway").unwrap().server.sign_in.unwrap();
    assert_eq!(
        (below.origin(), SignInRules::redirect_uri(&below.url).as_str()),
        ("https://example.com:8443", "https://example.com:8443/gateway/sign-in/callback")
    );
    let short = signing_in("roles", "session = \"10m\"\nroles").unwrap().server.sign_in.unwrap();
    assert_eq!(short.idle, Duration::from_secs(600), "never idle for longer than it lasts");
}

#[test]
fn the_highest_role_counts_and_everybody_may_have_one() {
    let rules = signing_in("{ operator = [\"Ops\"] }", "{ operator = [\"Ops\"], viewer = [\"group-1\"] }\neveryone = \"member\"").unwrap();
    let rules = rules.server.sign_in.unwrap();
    let role = |roles: &[&str], groups: &[&str]| {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        rules.role_of(&owned(roles), &owned(groups)).map(Role::label)
    };
    assert_eq!(role(&["Ops"], &["group-1"]), Some("operator"));
    assert_eq!(role(&["x"], &["group-1"]), Some("viewer"));
    assert_eq!(role(&["ops", "Ops "], &["group-10"]), Some("member"));
    assert_eq!(signing_in("", "").unwrap().server.sign_in.unwrap().role_of(&[], &[]), None);
}

#[test]
fn mistakes_in_sign_in_are_named_with_their_place() {
    for (changed, by, problem) in [
        ("{ operator = [\"Ops\"] }", "{}", "t.toml:19:1: server.sign_in.roles: no person could sign in"),
        ("[\"Ops\"]", "[\"Ops\", \"Ops\"]", "t.toml:19:30: server.sign_in.roles.operator[1]: 'Ops' is listed twice"),
        (
            "[\"Ops\"]",
            "[\"Ops\"], viewer = [\"Ops\"]",
            "t.toml:19:41: server.sign_in.roles.viewer[0]: 'Ops' is listed twice, first under 'operator'",
        ),
        ("[\"Ops\"]", "[\" \"]", "t.toml:19:23: server.sign_in.roles.operator[0]: must be an app role"),
        ("{ operator", "{ operators", "server.sign_in.roles.operators: unknown key; did you mean 'operator'?"),
        ("https://gateway", "http://gateway", "t.toml:18:1: server.sign_in.url: 'http://gateway.example.com/' is not an https:// URL"),
        ("gateway.example.com/", "user@gateway.example.com", "server.sign_in.url: must be an address without user"),
        ("gateway.example.com/", "gateway.example.com/?a=b", "server.sign_in.url: must be an address without user"),
        ("gateway.example.com/", "Gateway.example.com", "server.sign_in.url: write the host in lower case"),
        ("gateway.example.com/", "gateway.example.com/sign-in/callback", "server.sign_in.url: write the base address only"),
        ("https://id", "http://id", "t.toml:15:1: server.sign_in.issuer: 'http://id.example.com' is not an https:// URL"),
        ("id.example.com", "login.microsoftonline.com/common/v2.0", "server.sign_in.issuer: 'common' lets in accounts of any organisation"),
        ("\"app\"", "\"\"", "t.toml:16:1: server.sign_in.client_id: must be the application's id"),
        ("AOAI_FRANCE_KEY", "NOT_THERE", "server.sign_in.client_secret: the environment variable NOT_THERE is not set"),
        ("roles", "scopes = [\"profile\"]\nroles", "server.sign_in.scopes: 'openid' is missing"),
        ("roles", "scopes = [\"openid\", \"a b\"]\nroles", "server.sign_in.scopes[1]: 'a b' is not a scope"),
        ("roles", "session = \"30d\"\nroles", "server.sign_in.session: must be from 1m to 7d"),
        ("roles", "session = \"10m\"\nidle = \"11m\"\nroles", "server.sign_in.idle: must not be longer than 'session'"),
        ("roles", "idle = \"0s\"\nroles", "server.sign_in.idle: must be longer than 0"),
        ("roles", "everyone = \"operator\"\nroles", "server.sign_in.everyone: unknown value 'operator'"),
    ] {
        let problems = signing_in(changed, by).unwrap_err();
        assert!(problems.iter().any(|found| found.contains(problem)), "{problem} not in {problems:#?}");
    }
}

#[test]
fn a_listener_for_other_machines_needs_a_token_or_sign_in() {
    let open = |text: String| text.replace("listen = [", "admin = \"0.0.0.0:9090\"\nlisten = [");
    let problems = parse(&open(minimal(""))).unwrap_err();
    assert!(problems[0].contains("set admin_token or [server.sign_in]"), "{problems:?}");
    let table = "\n[server.sign_in]\nissuer = \"https://id.example.com\"\nclient_id = \"app\"\nurl = \"https://g.example\"\neveryone = \"member\"\n";
    assert!(parse(&open(minimal(table))).is_ok());
}

#[test]
fn owners_and_their_page_are_checked_where_they_are_written() {
    let sign_in = "\n[server.sign_in]\nissuer = \"https://id.example.com\"\nclient_id = \"app\"\nurl = \"https://admin.example.com\"\neveryone = \"member\"\n";
    let with = |portal: &str, rest: &str| minimal(&format!("{sign_in}\n[server.portal]\n{portal}\n\n{rest}"));
    for (portal, rest, line, key, text) in [
        ("listen = \"0.0.0.0:8444\"", "", 21, "server.portal.listen", "needs 'url'"),
        ("url = \"https://ai.example.com\"", "", 21, "server.portal.url", "there is no 'listen'"),
        ("listen = \"8444\"\nurl = \"https://ai.example.com\"", "", 21, "server.portal.listen", "is not an address with a port"),
        ("listen = \"127.0.0.1:9090\"\nurl = \"https://ai.example.com\"", "", 21, "server.portal.listen", "another listener"),
        ("listen = \"0.0.0.0:8444\"\nurl = \"http://ai.example.com\"", "", 22, "server.portal.url", "is not an https:// URL"),
        ("listen = \"0.0.0.0:8444\"\nurl = \"https://AI.example.com\"", "", 22, "server.portal.url", "in lower case"),
        ("gateway_url = \"https://x.example.com/?a=b\"", "", 21, "server.portal.gateway_url", "without user, query"),
        ("contact = \" \"", "", 21, "server.portal.contact", "one line of 1 to 200"),
        ("", "[[consumers]]\nname = \"c\"\nowners = [\"a\", \" b\"]", 25, "consumers[0].owners[1]", "begin or end with a space"),
        ("", "[[consumers]]\nname = \"c\"\nowners = [\"a\", \"a\"]", 25, "consumers[0].owners[1]", "'a' is listed twice"),
        (
            "",
            "[[groups]]\nname = \"g\"\nowners = [\"\"]\nlimits = { requests_per_minute = 1 }",
            25,
            "groups[0].owners[0]",
            "must not be empty",
        ),
        (
            "",
            "[[consumers]]\nname = \"c\"\nowners = [\"a\"]\nissued_keys = { max = 0 }",
            26,
            "consumers[0].issued_keys.max",
            "leave 'owners' out",
        ),
        (
            "",
            "[[consumers]]\nname = \"c\"\nowners = [\"a\"]\nissued_keys = { max_lifetime = \"0s\" }",
            26,
            "consumers[0].issued_keys.max_lifetime",
            "longer than 0",
        ),
    ] {
        let problems = parse(&with(portal, rest)).unwrap_err();
        let [problem] = problems.as_slice() else { panic!("{problems:#?}") };
        assert!(
            problem.starts_with(&format!("t.toml:{line}:")) && problem.contains(&format!(": {key}: ")) && problem.contains(text),
            "{problem}"
        );
    }
    let problems = parse(&minimal("\n[server.portal]\ncontact = \"x\"\n")).unwrap_err();
    assert!(problems[0].contains("server.portal: needs [server.sign_in]"), "{problems:?}");
    let consumer = "[[consumers]]\nname = \"c\"\nkeys = []\nowners = [\"a\"]\n";
    let warnings = |text: &str| parse(text).unwrap().warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    assert!(warnings(&minimal(consumer)).contains("consumers[0].owners: has an effect only with [server.sign_in]"));
    let text = warnings(&minimal(&format!("{sign_in}\n{consumer}")));
    assert!(text.contains("only with server.state_dir") && text.contains("server.portal.gateway_url: isn't set"), "{text}");
    let unused = minimal("[[consumers]]\nname = \"c\"\nissued_keys = { max = 1 }\n");
    assert!(warnings(&unused).contains("consumers[0].issued_keys: has an effect only for owners"));
    let config = parse(&with("listen = \"127.0.0.1:8444\"\nurl = \"http://localhost:8444/\"", consumer)).unwrap();
    assert_eq!(config.server.portal.listener.unwrap().url, "http://localhost:8444");
    assert_eq!(config.consumers[0].issued_keys, IssuedKeyRules { max: 5, max_lifetime: Duration::from_secs(90 * 86_400) });
}
