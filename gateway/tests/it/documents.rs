//! What the documents show works.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use spillway::config::{Config, Secrets};

use crate::support::TestCa;

/// Blocks of TOML in a document.
fn blocks(text: &str) -> Vec<String> {
    text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_block_of_the_identity_page_is_a_config() {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/identity.md")).unwrap();
    let blocks = blocks(&page);
    assert!(blocks.len() >= 7);
    // The files that the page's TLS names.
    let directory = tempfile::tempdir().unwrap();
    let ca = TestCa::new("ca");
    let (certificate, key) = ca.host("localhost");
    for (name, text) in [
        ("tls.pem", certificate.pem()),
        ("tls.key", key.serialize_pem()),
        ("clients.pem", ca.pem.clone()),
        ("clients.crl", ca.revocations(&[])),
    ] {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    let folder = format!("{}/", directory.path().display());
    for block in blocks {
        let block = block.replace("/etc/spillway/", &folder);
        let mut text = "[server]\nlisten = [\"127.0.0.1:0\"]\n\n".to_owned() + &block;
        // What a block leaves out for brevity.
        if !text.contains("[[backends]]") {
            text += "\n[[backends]]\nname = \"a\"\nkind = \"openai\"\nurl = \"https://a.example\"\n";
        }
        if !text.contains("[[pools]]") {
            let names = text.split("[[backends]]\nname = \"").skip(1).map(|rest| rest.split('"').next().unwrap());
            let members: Vec<String> = names.map(|name| format!("{{ backend = \"{name}\" }}")).collect();
            text += &format!("\n[[pools]]\nname = \"p\"\nmodels = [\"m\"]\nmembers = [{}]\n", members.join(", "));
        }
        let secrets = Secrets::with_env(|name| match name {
            "REDIS_URL" => Some("redis://localhost".into()),
            _ => Some("secret".into()),
        });
        Config::parse(&text, Path::new("identity.toml"), &secrets).unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
}

#[test]
fn every_block_of_the_page_on_signing_in_is_a_config() {
    let page = std::fs::read_to_string(docs().join("sign-in.md")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("sign-in-secret"), "secret").unwrap();
    let folder = format!("{}/", directory.path().display());
    let blocks = blocks(&page);
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        let server = if block.contains("[server]") { "" } else { "[server]\nlisten = [\"127.0.0.1:0\"]\n\n" };
        let backend = "\n[[backends]]\nname = \"a\"\nkind = \"openai\"\nurl = \"https://a.example\"\n";
        let pool = "\n[[pools]]\nname = \"p\"\nmodels = [\"m\"]\nmembers = [{ backend = \"a\" }]\n";
        let text = format!("{server}{block}{backend}{pool}").replace("/etc/spillway/", &folder);
        let config = Config::parse(&text, Path::new("sign-in.toml"), &Secrets::with_env(|_| Some("secret".into())));
        assert!(config.unwrap_or_else(|error| panic!("{error}\n{text}")).server.sign_in.is_some());
    }
}

#[test]
fn every_block_of_the_pages_on_content_is_a_config() {
    for page in ["budgets", "content", "semantic-cache", "operating", "install", "capacity", "security", "shadow", "reports", "portal"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../docs/{page}.md"))).unwrap();
        let blocks = blocks(&text);
        for block in blocks {
            let backend = "[[backends]]\nname = \"a\"\nkind = \"openai\"\nurl = \"https://a.example\"\n\n";
            let pool = "[[pools]]\nname = \"p\"\nmodels = [\"m\"]\nmembers = [{ backend = \"a\" }]\n\n";
            let server = if block.contains("[server]") { "" } else { "[server]\nlisten = [\"127.0.0.1:0\"]\n\n" };
            let around = if block.contains("[[pools]]") { server.to_owned() } else { format!("{server}{backend}{pool}") };
            // The place that nodes share exists where the gateway runs.
            let text = (around + &block).replace("/mnt/usage/spillway", &std::env::temp_dir().display().to_string());
            Config::parse(&text, Path::new(page), &Secrets::with_env(|_| Some("secret".into())))
                .unwrap_or_else(|error| panic!("{error}\n{text}"));
        }
    }
}

fn docs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs")
}

/// The pages, by their file names.
fn pages() -> Vec<String> {
    let names = std::fs::read_dir(docs()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut pages: Vec<String> = names.filter(|name| name.ends_with(".md") && name != "README.md").collect();
    pages.sort();
    pages
}

/// The targets of the links of a text, without those of blocks of code.
fn links(text: &str) -> Vec<String> {
    let prose: String = text.split("```").step_by(2).collect();
    prose.split("](").skip(1).map(|rest| rest.split(')').next().unwrap().to_owned()).collect()
}

/// The anchor that a heading gets: small letters, blanks as `-`, no punctuation.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
}

#[test]
fn every_page_says_whom_it_serves_and_is_in_both_indexes() {
    let index = std::fs::read_to_string(docs().join("README.md")).unwrap();
    let readme = std::fs::read_to_string(docs().join("../README.md")).unwrap();
    assert!(pages().len() >= 19);
    for page in pages() {
        let text = std::fs::read_to_string(docs().join(&page)).unwrap();
        let first = text.lines().skip(1).find(|line| !line.is_empty()).unwrap();
        assert!(text.starts_with("# ") && first.starts_with("For "), "{page} begins with: {first}");
        assert!(links(&index).contains(&page), "docs/README.md doesn't name {page}");
        assert!(links(&readme).contains(&format!("docs/{page}")), "README.md doesn't name {page}");
    }
}

#[test]
fn links_within_the_documents_lead_somewhere() {
    let mut files: Vec<PathBuf> = pages().iter().map(|page| docs().join(page)).collect();
    files.extend(["README.md", "../README.md", "../CONTRIBUTING.md"].map(|name| docs().join(name)));
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for link in links(&text).into_iter().filter(|link| !link.contains("://")) {
            let (path, fragment) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link}", file.display());
            if !fragment.is_empty() {
                let there = std::fs::read_to_string(&target).unwrap();
                let mut headings = there.lines().filter_map(|line| line.strip_prefix('#')).map(|line| anchor(line.trim_start_matches('#')));
                assert!(headings.any(|heading| heading == fragment), "{}: {link}", file.display());
            }
        }
    }
}

#[test]
fn the_readme_has_the_picture_and_the_figures_of_the_page_on_performance() {
    let readme = std::fs::read_to_string(docs().join("../README.md")).unwrap();
    let page = std::fs::read_to_string(docs().join("performance.md")).unwrap();
    assert!(std::fs::read_to_string(docs().join("spillover.svg")).unwrap().starts_with("<svg "));
    let table = readme.split("| bare proxy |").nth(1).unwrap().split("\n\n").next().unwrap();
    let cells = table.split(['|', '\n']).map(str::trim).filter(|cell| cell.starts_with(|c: char| c.is_ascii_digit()) && *cell != "1");
    let figures: Vec<&str> = cells.collect();
    assert!(figures.len() >= 10, "{figures:?}");
    for figure in figures {
        assert!(page.contains(figure), "performance.md doesn't have {figure}");
    }
}

/// The names that begin with `spillway_`, where that follows `quote`.
fn metric_names(text: &str, quote: char) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    let before = format!("{quote}spillway_");
    text.split(&before).skip(1).map(|rest| format!("spillway_{}", rest.split(|c| !is_name(c)).next().unwrap())).collect()
}

#[test]
fn the_pages_name_every_metric_and_the_page_on_operating_no_other() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/telemetry/metrics");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let exported: BTreeSet<String> = files.flat_map(|path| metric_names(&std::fs::read_to_string(path).unwrap(), '"')).collect();
    assert!(exported.len() >= 100, "{exported:?}");
    let named = |page: &String| metric_names(&std::fs::read_to_string(docs().join(page)).unwrap(), '`');
    let anywhere: BTreeSet<String> = pages().iter().flat_map(named).collect();
    assert_eq!(exported.difference(&anywhere).collect::<Vec<_>>(), Vec::<&String>::new(), "no page names them");
    let operating = named(&"operating.md".to_owned());
    assert_eq!(operating.difference(&exported).collect::<Vec<_>>(), Vec::<&String>::new(), "not exported");
}

/// Rust files, and folders of them, directly below a folder: their names without the suffix.
fn modules(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut names: Vec<String> = entries
        .filter(|path| path.is_dir() || path.extension().is_some_and(|extension| extension == "rs"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| !["mod", "tests", "fixtures"].contains(&name.as_str()))
        .collect();
    names.sort();
    names
}

#[test]
fn the_request_path_page_names_every_stage() {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let page = std::fs::read_to_string(sources.join("../../docs/request-path.md")).unwrap();
    let separators = |c: char| c.is_whitespace() || "`(),:;".contains(c);
    let named: Vec<&str> = page.split(separators).filter(|word| word.ends_with(".rs") || word.ends_with('/')).collect();
    for name in named.iter().filter(|name| !name.contains("://") && **name != "gateway/src/") {
        assert!(sources.join(name).exists(), "the page names {name}, which is not there");
    }
    for module in modules(&sources.join("proxy")) {
        let (file, folder) = (format!("proxy/{module}.rs"), format!("proxy/{module}/"));
        assert!(named.iter().any(|name| **name == *file || name.starts_with(&folder)), "the page does not name proxy/{module}");
    }
    let plugins: Vec<&str> = page.split("plugins ").skip(1).collect();
    for name in plugins.iter().flat_map(|rest| rest.split_whitespace().next()) {
        let name = name.trim_matches(|c: char| !c.is_alphanumeric() && c != '_');
        let file = sources.join("../../plugins/src").join(name);
        assert!(file.is_dir() || file.with_extension("rs").exists(), "the page names the plugin {name}, which is not there");
    }
}
