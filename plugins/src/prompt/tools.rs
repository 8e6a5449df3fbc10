//! The names of the tools that a request offers.

use std::borrow::Cow;

use crate::json::Item;
use crate::offered::LISTS;

/// Of `tools`, the older `functions`, Anthropic's `mcp_servers`, Azure's `data_sources` and chat's
/// `web_search_options`.
pub(super) fn names(body: Item<'_>) -> Vec<Cow<'_, str>> {
    let mut names = Vec::new();
    // Most requests have none of them.
    if !body.members().any(|(name, _)| LISTS.contains(&name.as_ref()) || name == "web_search_options") {
        return names;
    }
    for list in LISTS {
        add(body.get(list), &mut names);
    }
    if body.get("web_search_options").is_object() {
        names.push(Cow::Borrowed("web_search"));
    }
    names
}

/// A function counts by its name; any other tool by its kind, and by its name, too. A tool with neither has an empty
/// name, which no list of allowed tools contains.
fn add<'t>(list: Item<'t>, names: &mut Vec<Cow<'t, str>>) {
    for tool in list.items() {
        let within = |part: &str| tool.get(part).get("name").text();
        let own = |name: &str| tool.get(name).text();
        let name = within("function").or_else(|| within("custom")).or_else(|| own("name"));
        let kind = own("type").filter(|kind| !matches!(kind.as_ref(), "function" | "custom"));
        if name.is_none() && kind.is_none() {
            names.push(Cow::Borrowed(""));
        }
        names.extend(kind.into_iter().chain(name));
        // A namespace has tools of its own.
        add(tool.get("tools"), names);
    }
}
