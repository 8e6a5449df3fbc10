//! Names that are valid in a config.

/// `text` as a name: no spaces and no control characters.
pub(super) fn name(text: &str) -> String {
    let name: String = text.trim().chars().map(|c| if c.is_whitespace() || c.is_control() { '-' } else { c }).collect();
    if name.is_empty() { "unnamed".to_owned() } else { name }
}

/// `wanted`, with a number added if it is in use.
pub(super) fn unused(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
    if !taken(wanted) {
        return wanted.to_owned();
    }
    (2..u32::MAX).map(|number| format!("{wanted}-{number}")).find(|name| !taken(name)).unwrap_or_else(|| wanted.to_owned())
}

/// The environment variable for a secret of `owner`, such as `PTU_SWEDEN_API_KEY`.
pub(super) fn variable(owner: &str, what: &str) -> String {
    let mut name: String =
        owner.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect::<String>().replace("__", "_");
    if name.starts_with(|c: char| c.is_ascii_digit()) || name.is_empty() {
        name.insert(0, '_');
    }
    if !what.is_empty() {
        name.push('_');
        name.push_str(what);
    }
    name
}

/// The last part of a resource's id or name.
pub(super) fn last_part(id: &str) -> &str {
    id.trim_end_matches('/').rsplit('/').next().unwrap_or(id)
}

/// A model name that nobody uses, if the source has none.
pub(super) fn placeholder_model(pool: &str) -> String {
    format!("REPLACE-ME-{}", name(pool))
}

/// A host that doesn't exist.
pub(super) fn placeholder_url(what: &str) -> String {
    let label: String = what.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    format!("https://replace-me-{}.invalid", label.trim_matches('-'))
}

/// The scope of a token for a resource; `None` for the default, `https://cognitiveservices.azure.com`.
pub(super) fn scope(resource: Option<&str>) -> Option<String> {
    let resource = resource?.trim_end_matches('/').trim_end_matches("/.default");
    (resource != "https://cognitiveservices.azure.com").then(|| format!("{resource}/.default"))
}

/// The name in `{{name}}`, alone or after `Bearer`: a named value of Azure API Management.
pub(super) fn named_value(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("{{")?;
    let (name, _) = rest.split_once("}}")?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}
