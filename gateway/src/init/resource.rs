//! A resource as people name it: `contoso`, `contoso.openai.azure.com` or a URL, with its deployment after `=`.

use core::net::IpAddr;

use http::Uri;

use crate::safe_url::is_this_machine;

/// A resource and, if given, its deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource {
    /// The root URL.
    pub url: String,
    /// The first label of its host name; `None` if the host is an address or `localhost`.
    pub label: Option<String>,
    /// Whether it is on this machine: then it is an imitation, to which no identity is sent.
    pub local: bool,
    /// Its deployment.
    pub deployment: Option<String>,
}

/// Reads a resource.
///
/// # Errors
/// What is wrong with the text, and what is expected.
pub fn read(text: &str) -> Result<Resource, String> {
    let (place, deployment) = match text.split_once('=') {
        Some((place, deployment)) => (place, Some(name(deployment, "a deployment")?)),
        None => (text, None),
    };
    let expected = "expected the name of an Azure OpenAI resource, such as contoso, or a URL, such as https://contoso.openai.azure.com";
    let url = match place {
        _ if place.contains("://") => place.trim_end_matches('/').to_owned(),
        _ if place.contains('.') => format!("https://{}", place.trim_end_matches('/')),
        _ => format!("https://{}.openai.azure.com", name(place, "a resource").map_err(|problem| format!("{problem}; {expected}"))?),
    };
    let uri: Uri = url.parse().map_err(|_| format!("'{place}' is not a URL; {expected}"))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let known_scheme = matches!(uri.scheme_str(), Some("https" | "http"));
    if host.is_empty() || !known_scheme || place.contains(['@', '?', '#', '"', '\\']) {
        return Err(format!("'{place}' is not a URL of a resource; {expected}"));
    }
    let address = host.parse::<IpAddr>().ok();
    let local = is_this_machine(host);
    if uri.scheme_str() == Some("http") && !local {
        return Err(format!("'{place}' is not encrypted: http:// is for an imitation on this machine only; write https://"));
    }
    // The first label becomes a name in the config and of a file.
    if address.is_none() && !host.split('.').all(|label| name(label, "a host").is_ok()) {
        return Err(format!("'{place}' has no host name; {expected}"));
    }
    let label = (address.is_none() && !local).then(|| host.split('.').next().unwrap_or(host).to_ascii_lowercase());
    Ok(Resource { url, label, local, deployment })
}

/// A name that is safe in a file name, a unit, a path and the config.
///
/// # Errors
/// What is wrong with it.
pub fn name(text: &str, what: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if text.is_empty() || text.starts_with(['.', '-']) || text.len() > 64 || !text.chars().all(plain) {
        return Err(format!(
            "'{}' is not the name of {what}: expected 1 to 64 letters, digits, '-', '_' and '.', not beginning with '.' or '-'",
            text.escape_debug()
        ));
    }
    Ok(text.to_owned())
}
