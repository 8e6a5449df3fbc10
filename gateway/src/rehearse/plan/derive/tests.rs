use std::path::Path;

use super::*;
use crate::config::Secrets;

const SERVER: &str = "[server]\nlisten = [\"127.0.0.1:0\"]\n";
const THREE_TIERS: &str = r#"
[[backends]]
name = "ptu"
kind = "azure-openai"
url = "https://ptu.openai.azure.com"
location = "swedencentral"
auth = { type = "api-key", key = { env = "PTU_KEY" } }
[[backends]]
name = "paid"
kind = "azure-openai"
url = "https://paid.openai.azure.com"
location = "swedencentral"
auth = { type = "managed-identity" }
[[backends]]
name = "far"
kind = "openai"
url = "http://10.0.0.1:8000"
[[backends]]
name = "unused"
kind = "openai"
url = "https://unused.example.com"
location = "nowhere"
[[pools]]
name = "chat"
models = ["gpt-4o"]
members = [{ backend = "ptu", priority = 1 }, { backend = "paid", priority = 2 }, { backend = "far", priority = 2 }, { backend = "unused", priority = 3, weight = 0 }]
"#;

fn derived(text: &str) -> Faults {
    let text = format!("{SERVER}{text}");
    let config = Config::parse(&text, Path::new("c.toml"), &Secrets::stand_ins()).unwrap_or_else(|error| panic!("{error}"));
    faults(&config, &Lines::new(&text))
}

fn names(faults: &Faults, kind: FaultKind) -> Vec<&str> {
    faults.all.iter().filter(|fault| fault.kind == kind).map(|fault| fault.what.as_str()).collect()
}

#[test]
fn every_member_tier_location_and_credential_has_its_faults() {
    let faults = derived(THREE_TIERS);
    assert_eq!(names(&faults, FaultKind::Throttled), ["ptu", "paid", "far"]);
    assert_eq!(names(&faults, FaultKind::Refused), ["paid", "far"], "tier 1 has one member");
    assert_eq!(names(&faults, FaultKind::TierOut), ["tier 1 of chat", "tier 2 of chat"], "a member of weight 0 makes no tier");
    assert_eq!(names(&faults, FaultKind::LocationOut), ["swedencentral"]);
    assert_eq!(names(&faults, FaultKind::DnsGone), ["ptu", "paid"], "an address needs no DNS");
    assert_eq!(names(&faults, FaultKind::TlsBroken), ["ptu", "paid"]);
    assert_eq!(names(&faults, FaultKind::KeyRevoked), ["ptu"]);
    assert_eq!(names(&faults, FaultKind::RoleMissing), ["paid"]);
    assert_eq!(names(&faults, FaultKind::Silence), ["tier 1 of chat"]);
    let location = faults.all.iter().find(|fault| fault.kind == FaultKind::LocationOut).unwrap();
    assert_eq!((&*location.backends, &*location.pools), (&[0, 1][..], &[0][..]));
}

#[test]
fn a_fault_of_a_lower_tier_is_met_because_the_tiers_above_are_full() {
    let faults = derived(THREE_TIERS);
    let of = |kind: FaultKind, what: &str| faults.all.iter().find(|fault| fault.kind == kind && fault.what == what).unwrap().full.clone();
    assert_eq!(of(FaultKind::Throttled, "ptu"), Vec::<usize>::new());
    assert_eq!(of(FaultKind::Throttled, "paid"), [0]);
    assert_eq!(of(FaultKind::TierOut, "tier 2 of chat"), Vec::<usize>::new(), "nobody would be left");
    assert_eq!(of(FaultKind::RoleMissing, "paid"), [0]);
    assert_eq!(of(FaultKind::LocationOut, "swedencentral"), Vec::<usize>::new());
}

#[test]
fn the_tiers_above_are_not_full_if_only_members_with_the_same_quota_would_be_left() {
    let labelled = THREE_TIERS.replace("\"paid\", priority = 2", "\"paid\", priority = 2, quota_pool = \"q\"");
    let labelled = labelled.replace("\"far\", priority = 2", "\"far\", priority = 2, quota_pool = \"q\"");
    let faults = derived(&labelled);
    assert!(faults.all.iter().filter(|fault| fault.kind == FaultKind::Throttled).all(|fault| fault.full.is_empty()));
}

#[test]
fn a_fault_names_the_line_that_it_touches() {
    let faults = derived(THREE_TIERS);
    let of = |kind: FaultKind, what: &str| faults.all.iter().find(|fault| fault.kind == kind && fault.what == what).unwrap();
    assert_eq!(of(FaultKind::Throttled, "paid").place.key, "pools[0].members[1]");
    let text = format!("{SERVER}{THREE_TIERS}");
    let line = text.lines().nth(of(FaultKind::KeyRevoked, "ptu").place.line.unwrap() - 1).unwrap();
    assert_eq!(line, "[[backends]]");
}

#[test]
fn what_does_not_apply_says_why() {
    let faults = derived(THREE_TIERS);
    let reason = |kind: FaultKind| faults.not_applicable.iter().find(|not| not.kind == kind).map_or("", |not| &not.reason);
    assert!(reason(FaultKind::RedisGone).contains("[redis]"));
    assert!(reason(FaultKind::LedgerFull).contains("state_dir"));
    assert!(reason(FaultKind::CallerIssuerGone).contains("[plugins.auth.jwt]"));
    assert!(reason(FaultKind::Flood).contains("[[consumers]]"));
    // Each kind is one or the other.
    for kind in FaultKind::ALL.into_iter().filter(|kind| *kind != FaultKind::None) {
        assert_ne!(names(&faults, kind).is_empty(), reason(kind).is_empty(), "{kind}");
    }
}

#[test]
fn one_resource_behind_two_names_shares_a_quota() {
    let twice = THREE_TIERS.replace("https://paid.", "https://PTU.");
    let faults = derived(&twice);
    assert_eq!(names(&faults, FaultKind::SharedQuota), ["ptu and paid"]);
    let shared = faults.all.iter().find(|fault| fault.kind == FaultKind::SharedQuota).unwrap();
    let targets: Vec<String> = shared.targets.iter().map(ToString::to_string).collect();
    assert_eq!(targets, ["paid/gpt-4o", "ptu/gpt-4o"]);
    let labelled = THREE_TIERS.replace("\"paid\", priority = 2", "\"paid\", priority = 2, quota_pool = \"q\"");
    let labelled = labelled.replace("\"far\", priority = 2", "\"far\", priority = 2, quota_pool = \"q\"");
    assert_eq!(names(&derived(&labelled), FaultKind::SharedQuota), ["quota pool q"]);
}
