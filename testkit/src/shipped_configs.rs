//! The whole configs that the project ships, and those of its documents, as they are used: nothing is left to fill in.

use std::path::{Path, PathBuf};

/// The folder of the whole project.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What `deploy/azure/spillway.toml` leaves to its template, with examples.
const PLACEHOLDERS: [(&str, &str); 10] = [
    ("@FIRST_URL@", "https://first.openai.azure.com"),
    ("@SECOND_URL@", "https://second.openai.azure.com"),
    ("@FIRST_LOCATION@", "swedencentral"),
    ("@SECOND_LOCATION@", "francecentral"),
    ("@MODEL@", "gpt-4o"),
    ("@PTU@", "gpt4o-ptu"),
    ("@PAYG@", "gpt4o-payg"),
    ("@CLIENT_ID@", "00000000-0000-0000-0000-000000000000"),
    ("@TENANT@", "00000000-0000-0000-0000-000000000000"),
    ("@AUDIENCE@", "api://spillway"),
];

/// Two regions behind callers with keys.
const POOLS: &str = r#"
[[backends]]
name = "a"
kind = "azure-openai"
url = "https://a.openai.azure.com"
location = "swedencentral"

[[backends]]
name = "b"
kind = "azure-openai"
url = "https://b.openai.azure.com"
location = "francecentral"

[[pools]]
name = "chat"
models = ["gpt-4o"]
members = [{ backend = "a" }, { backend = "b", priority = 2 }]

[[consumers]]
name = "c"
keys = [{ sha256 = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" }]
"#;

/// Each with its name and its text. What a page of the docs is not about, and leaves out, is added.
pub fn all() -> Vec<(String, String)> {
    let conf = ["entra", "example", "metering", "minimal", "spillway"].map(|name| format!("conf/{name}.toml"));
    let deploy = ["debian", "azure"].map(|name| format!("deploy/{name}/spillway.toml"));
    let filled = |text: String| PLACEHOLDERS.iter().fold(text, |text, (name, value)| text.replace(name, value));
    let files = conf.into_iter().chain(deploy).map(|name| {
        let text = filled(read(&name));
        (name, text)
    });
    let pages = ["capacity", "semantic-cache", "install"].map(|page| {
        let name = format!("docs/{page}.md");
        let text = read(&name);
        let block =
            text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap_or_else(|| panic!("{name} has no config"));
        let server = if block.contains("[server]") { "" } else { "[server]\nlisten = [\"127.0.0.1:0\"]\n" };
        let pools = if block.contains("[[pools]]") { "" } else { POOLS };
        (name, format!("{server}{block}{pools}"))
    });
    files.chain(pages).collect()
}
