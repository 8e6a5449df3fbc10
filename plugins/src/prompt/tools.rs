//! The names of the tools that a request offers.

use serde_json::{Map, Value};

/// Of `tools`, the older `functions`, Anthropic's `mcp_servers`, Azure's `data_sources` and chat's
/// `web_search_options`.
pub(super) fn names(body: &Map<String, Value>) -> Vec<String> {
    let mut names = Vec::new();
    for list in ["tools", "functions", "mcp_servers", "data_sources"] {
        add(body.get(list), &mut names);
    }
    if body.get("web_search_options").is_some_and(Value::is_object) {
        names.push("web_search".to_owned());
    }
    names
}

/// A function counts by its name; any other tool by its kind, and by its name, too. A tool with neither has an empty
/// name, which no list of allowed tools contains.
fn add(list: Option<&Value>, names: &mut Vec<String>) {
    for tool in list.and_then(Value::as_array).into_iter().flatten() {
        let within = |part: &str| tool.get(part).and_then(|part| part.get("name")).and_then(Value::as_str);
        let own = |name: &str| tool.get(name).and_then(Value::as_str);
        let name = within("function").or_else(|| within("custom")).or_else(|| own("name"));
        let kind = own("type").filter(|kind| !matches!(*kind, "function" | "custom"));
        if name.is_none() && kind.is_none() {
            names.push(String::new());
        }
        names.extend(kind.into_iter().chain(name).map(str::to_owned));
        // A namespace has tools of its own.
        add(tool.get("tools"), names);
    }
}
