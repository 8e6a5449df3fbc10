//! What a URL shows of a backend: its kind, its root, its deployment.

use super::draft::DraftKind;

/// The parts of a backend's URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// `None` if the URL doesn't show it.
    pub(super) kind: Option<DraftKind>,
    pub(super) root: String,
    pub(super) host: String,
    pub(super) deployment: Option<String>,
    /// Whether the path is that of Azure OpenAI, and not of another service at the same host.
    pub(super) names_openai: bool,
    pub(super) api_version: Option<String>,
    /// The rest behind the root, which was left out.
    pub(super) left_out: Option<String>,
}

const AZURE_HOSTS: [&str; 10] = [
    ".openai.azure.com",
    ".openai.azure.us",
    ".openai.azure.cn",
    ".cognitiveservices.azure.com",
    ".cognitiveservices.azure.us",
    ".cognitiveservices.azure.cn",
    ".services.ai.azure.com",
    ".services.ai.azure.us",
    ".api.cognitive.microsoft.com",
    ".privatelink.openai.azure.com",
];

/// Hosts of other Azure AI services, unless the path contains OpenAI.
pub(super) fn may_be_content_safety(host: &str) -> bool {
    host.contains(".cognitiveservices.azure.") || host.ends_with(".api.cognitive.microsoft.com") || host.contains(".services.ai.azure.")
}

/// # Errors
/// What is wrong with the URL.
pub(super) fn take_apart(url: &str) -> Result<Address, String> {
    let url = url.trim();
    let (scheme, rest) = url.split_once("://").ok_or("doesn't begin with https:// or http://")?;
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "https" && scheme != "http" {
        return Err(format!("has the scheme '{scheme}'; a backend needs https or http"));
    }
    let rest = rest.split('#').next().unwrap_or("");
    let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
    let (authority, path) = rest.split_once('/').map_or((rest, ""), |(authority, path)| (authority, path));
    if authority.contains('@') {
        return Err("has a user name or password in it; use 'auth'".to_owned());
    }
    if authority.is_empty() || !authority.chars().all(|c| c.is_ascii_alphanumeric() || "-._:[]".contains(c)) {
        return Err("has no valid host name".to_owned());
    }
    let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host).to_ascii_lowercase();
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    let position = |name: &str| parts.iter().position(|part| part.eq_ignore_ascii_case(name));
    let deployment = position("deployments").and_then(|at| parts.get(at + 1)).map(|name| (*name).to_owned());
    let known = ["openai", "anthropic", "deployments", "v1", "models"];
    let end = parts.iter().position(|part| known.iter().any(|name| part.eq_ignore_ascii_case(name))).unwrap_or(parts.len());
    // Anthropic's API at another host has this path.
    let mut kept = if parts.get(end).is_some_and(|part| part.eq_ignore_ascii_case("anthropic")) { end + 1 } else { end };
    let mut left_out = None;
    if position("openai").is_none() && position("deployments").is_none() && parts[kept..].len() > 1 {
        left_out = Some(parts[kept..].join("/"));
    }
    let api = ["chat", "completions", "responses", "embeddings", "messages"];
    if end == parts.len()
        && let Some(at) = parts.iter().position(|part| api.contains(part))
    {
        kept = at;
        left_out = Some(parts[at..].join("/"));
    }
    let mut root = format!("{scheme}://{authority}");
    for part in &parts[..kept] {
        root.push('/');
        root.push_str(part);
    }
    let api_version = query.split('&').find_map(|pair| pair.strip_prefix("api-version=")).filter(|version| !version.is_empty());
    let azure = AZURE_HOSTS.iter().any(|end| host.ends_with(end)) || position("deployments").is_some() || position("openai").is_some();
    let kind = match host.as_str() {
        _ if position("anthropic").is_some() => Some(DraftKind::Anthropic),
        "api.anthropic.com" => Some(DraftKind::Anthropic),
        "api.openai.com" => Some(DraftKind::OpenAi),
        _ if azure => Some(DraftKind::Azure),
        _ => None,
    };
    let names_openai = position("openai").is_some() || deployment.is_some();
    Ok(Address { kind, root, host, deployment, names_openai, api_version: api_version.map(str::to_owned), left_out })
}

/// Whether a version is the name of Azure's undated API.
pub(super) fn is_undated(version: &str) -> bool {
    ["v1", "latest", "preview"].iter().any(|name| version.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anthropics_api_keeps_the_place_it_stands_at() {
        for (url, root, left_out) in [
            ("https://r.services.ai.azure.com/anthropic", "https://r.services.ai.azure.com/anthropic", None),
            ("https://r.services.ai.azure.com/anthropic/v1/messages/", "https://r.services.ai.azure.com/anthropic", Some("v1/messages")),
            ("https://api.anthropic.com/v1", "https://api.anthropic.com", None),
        ] {
            let address = take_apart(url).unwrap();
            assert_eq!((address.kind, address.root.as_str(), address.left_out.as_deref()), (Some(DraftKind::Anthropic), root, left_out));
        }
    }
}
