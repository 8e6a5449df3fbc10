use std::collections::VecDeque;
use std::path::Path;

use super::resource::read;
use super::*;
use crate::config::{Config, Secrets};

/// Answers from a list.
struct Answering {
    lines: VecDeque<&'static str>,
    asked: Vec<String>,
}

impl Answering {
    fn new(lines: &[&'static str]) -> Self {
        Answering { lines: lines.iter().copied().collect(), asked: Vec::new() }
    }
}

impl Ask for Answering {
    fn line(&mut self, question: &str, _default: Option<&str>) -> Result<Option<String>, InitError> {
        self.asked.push(question.to_owned());
        Ok(self.lines.pop_front().map(str::to_owned))
    }

    fn secret(&mut self, question: &str) -> Result<Option<String>, InitError> {
        self.line(question, None)
    }

    fn again(&mut self, error: &InitError) -> bool {
        self.asked.push(format!("! {error}"));
        true
    }
}

fn places() -> Places {
    Places { config: "/e/spillway.toml".into(), state: "/e/state".into(), credentials: "/e/credentials".into() }
}

const KEY: &str = "{ sha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\" }";

fn parsed(text: &str) -> Config {
    let folder = tempfile::tempdir().unwrap();
    for name in ["contoso-ptu", "contoso-frc", "contoso", "contoso-2", "ptu", "main", "overflow", "overflow-2"] {
        std::fs::write(folder.path().join(name), "k").unwrap();
    }
    let credentials = folder.path().to_owned();
    let secrets = Secrets::with_env(move |_| Some(credentials.clone().into_os_string()));
    Config::parse(text, Path::new("spillway.toml"), &secrets).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn flags() -> Given {
    Given {
        resource: Some("contoso-ptu".into()),
        deployment: Some("gpt4o-ptu".into()),
        model: Some("gpt-4o".into()),
        ptu: Some(100),
        overflow: vec!["contoso-frc=gpt4o-payg".into(), "contoso-sdc".into()],
        managed_identity: true,
        consumer: Some("crm-bot".into()),
        yes: true,
        ..Given::default()
    }
}

#[test]
fn flags_alone_make_a_config_without_a_warning() {
    let mut nobody = Answering::new(&[]);
    let answers = complete(flags(), &mut nobody).unwrap();
    assert!(nobody.asked.is_empty());
    let text = config(&answers, &places(), KEY, "2026-11-30");
    let config = parsed(&text);
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let urls: Vec<String> = config.backends.iter().map(|backend| backend.endpoint.as_ref().unwrap().authority.clone()).collect();
    assert_eq!(urls, ["contoso-ptu.openai.azure.com", "contoso-frc.openai.azure.com", "contoso-sdc.openai.azure.com"]);
    let deployments: Vec<&str> = config.backends.iter().map(|backend| backend.deployment("gpt-4o")).collect();
    assert_eq!(deployments, ["gpt4o-ptu", "gpt4o-payg", "gpt-4o"]);
    let priorities: Vec<u32> = config.pools[0].members.iter().map(|member| member.priority).collect();
    assert_eq!(priorities, [1, 2, 3]);
    assert!(config.backends[0].ptu.contains_key("gpt4o-ptu") && config.backends[1].ptu.is_empty());
    assert!(config.plugins.auth.required && &*config.consumers[0].name == "crm-bot");
}

#[test]
fn what_is_commented_out_works_once_it_is_not() {
    let mut given = flags();
    given.resource = Some("http://127.0.0.1:9101".into());
    let text = config(&complete(given, &mut Answering::new(&[])).unwrap(), &places(), KEY, "2026-11-30");
    // TLS needs files, which this test doesn't have.
    let (tls, rest) = (text.find("# [server.tls]").unwrap(), text.find("\n# The provisioned").unwrap());
    let text = text[..tls].to_owned() + &text[rest..];
    let opened: String = text
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.contains(" = ") => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    for key in ["\nauth = { type = \"managed-identity\" }", "\nprices = ", "\nlimits = "] {
        assert!(opened.contains(key), "{opened}");
    }
    parsed(&opened);
}

#[test]
fn questions_ask_for_what_is_missing_and_again_after_a_bad_answer() {
    let mut ask =
        Answering::new(&["con toso", "contoso", "gpt-4o", "", "many", "0", "contoso=gpt-4o-2", "", "no", "first-key", "second-key", ""]);
    let answers = complete(Given::default(), &mut ask).unwrap();
    assert_eq!((answers.model.as_str(), answers.ptu, answers.login, answers.consumer.as_str()), ("gpt-4o", None, Login::Keys, "app"));
    let names: Vec<(&str, &str)> = answers.upstreams.iter().map(|one| (one.name.as_str(), one.deployment.as_str())).collect();
    assert_eq!(names, [("contoso", "gpt-4o"), ("contoso-2", "gpt-4o-2")]);
    let complaints: Vec<&String> = ask.asked.iter().filter(|asked| asked.starts_with('!')).collect();
    assert!(complaints.len() == 2 && complaints[0].contains("--resource: 'con toso'") && complaints[1].contains("--ptu: 'many'"));
    let answers = complete(Given::default(), &mut Answering::new(&["contoso", "gpt-4o", "", "0", "", "no", "first-key", ""])).unwrap();
    let text = config(&answers, &places(), KEY, "2026-11-30");
    assert!(!text.contains("first-key") && !format!("{answers:?}").contains("first-key"));
    parsed(&text);
}

#[test]
fn an_error_names_the_flag() {
    let error = |change: &dyn Fn(&mut Given), lines: &[&'static str]| {
        let mut given = flags();
        change(&mut given);
        complete(given, &mut Answering::new(lines)).unwrap_err().to_string()
    };
    for (message, expected) in [
        (error(&|given| given.resource = None, &[]), "--resource is missing"),
        (error(&|given| given.deployment = None, &[]), "--deployment is missing"),
        (error(&|given| (given.resource, given.yes) = (None, false), &[]), "give --resource, or --yes"),
        (
            error(&|given| given.resource = Some("http://contoso.openai.azure.com".into()), &[]),
            "--resource: 'http://contoso.openai.azure.com' is not encrypted",
        ),
        (error(&|given| given.overflow = vec!["a b".into()], &[]), "--overflow: 'a b' is not the name of a resource"),
        (error(&|given| given.model = Some("some-model".into()), &[]), "--ptu: what a PTU takes is not known for 'some-model'"),
        (error(&|given| given.consumer = Some("../crm".into()), &[]), "--consumer: '../crm' is not the name of an application"),
        (error(&|given| given.keys = vec!["contoso-ptu".into()], &[]), "--managed-identity: give either this or --key-file"),
        (
            error(&|given| (given.managed_identity, given.keys) = (false, vec!["contoso".into()]), &[]),
            "--key-file: there is no resource 'contoso' here (known: contoso-ptu, ",
        ),
    ] {
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_resource_is_a_name_a_host_or_a_url() {
    for (text, url, label, local) in [
        ("contoso", "https://contoso.openai.azure.com", Some("contoso"), false),
        ("Contoso.services.ai.azure.com", "https://Contoso.services.ai.azure.com", Some("contoso"), false),
        ("https://contoso.openai.azure.com/", "https://contoso.openai.azure.com", Some("contoso"), false),
        ("http://127.0.0.1:9101", "http://127.0.0.1:9101", None, true),
        ("http://[::1]:9101", "http://[::1]:9101", None, true),
        ("http://localhost:9101", "http://localhost:9101", None, true),
        ("https://10.0.0.4", "https://10.0.0.4", None, false),
    ] {
        let resource = read(text).unwrap();
        assert_eq!((resource.url.as_str(), resource.label.as_deref(), resource.local), (url, label, local));
    }
    for bad in [
        "",
        "-x",
        ".x",
        "a b",
        "ftp://a",
        "https://",
        "https://a@b",
        "https://a?b",
        "a\nb",
        "https://a\"b",
        "a=",
        "a=b/c",
        "http://10.0.0.4",
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
}

#[test]
fn the_drop_in_names_every_credential() {
    let text = drop_in(&["contoso-ptu", "contoso-frc"], "/etc/spillway/credentials");
    assert!(text.contains("\n[Service]\nLoadCredential=contoso-ptu:/etc/spillway/credentials/contoso-ptu\nLoadCredential=contoso-frc:"));
}
