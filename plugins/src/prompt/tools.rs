//! The names of the tools that a request offers.

use serde_json::{Map, Value};

/// Of `tools`, the older `functions`, Anthropic's `mcp_servers` and chat's `web_search_options`.
pub(super) fn names(body: &Map<String, Value>) -> Vec<String> {
    let mut names = Vec::new();
    for list in ["tools", "functions", "mcp_servers"] {
        add(body.get(list), &mut names);
    }
    if body.get("web_search_options").is_some_and(Value::is_object) {
        names.push("web_search".to_owned());
    }
    names
}

fn add(list: Option<&Value>, names: &mut Vec<String>) {
    for tool in list.and_then(Value::as_array).into_iter().flatten() {
        let within = |part: &str| tool.get(part).and_then(|part| part.get("name")).and_then(Value::as_str);
        let own = |name: &str| tool.get(name).and_then(Value::as_str);
        let name = within("function").or_else(|| within("custom")).or_else(|| own("name")).or_else(|| own("type"));
        names.extend(name.map(str::to_owned));
        // A namespace has tools of its own.
        add(tool.get("tools"), names);
    }
}
