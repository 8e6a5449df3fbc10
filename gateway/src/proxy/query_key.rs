//! A key in the query is moved to its header before anything reads the request. So it is an API key like any other, and
//! is never passed on, cached or logged.

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, Uri};
use pingora::http::RequestHeader;
use spillway_plugins::query::{WithoutKeys, without_keys};

/// `ocp-apim-subscription-key`
const HEADER: HeaderName = HeaderName::from_static("ocp-apim-subscription-key");

/// The query without its keys, if it has one.
pub(super) fn found(head: &RequestHeader) -> Option<WithoutKeys> {
    head.uri.query().and_then(without_keys)
}

/// Moves the keys.
///
/// # Errors
/// If the rest can't be written in a request line.
pub(super) fn to_header(head: &mut RequestHeader, WithoutKeys { query, keys }: WithoutKeys) -> Result<(), http::Error> {
    let path = head.uri.path();
    let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let mut parts = head.uri.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target)?);
    head.set_uri(Uri::from_parts(parts)?);
    for key in keys {
        // A key that can't be written in a header is invalid; the request must not look like one without a key.
        let mut value = HeaderValue::from_bytes(&key).unwrap_or(HeaderValue::from_static("?"));
        value.set_sensitive(true);
        let _ = head.append_header(HEADER, value);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_leaves_the_query() {
        for (target, left, keys) in [
            ("/v1/models?subscription-key=k", "/v1/models", vec!["k"]),
            ("/v1/models?a=b&Subscription-Key=k%2B&subscription-key=j", "/v1/models?a=b", vec!["k+", "j"]),
            ("/v1/models?subscription-key=%0a", "/v1/models", vec!["?"]),
            ("/v1/models?a=b", "/v1/models?a=b", vec![]),
        ] {
            let mut head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
            if let Some(found) = found(&head) {
                to_header(&mut head, found).unwrap();
            }
            assert_eq!((head.uri.to_string().as_str(), head.raw_path()), (left, left.as_bytes()));
            let found: Vec<&str> = head.headers.get_all(HEADER).iter().map(|value| value.to_str().unwrap()).collect();
            assert_eq!(found, keys, "{target}");
        }
    }
}
