//! Which headers travel, in both directions.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use pingora::http::{RequestHeader, ResponseHeader};

/// Fields that belong to one connection (RFC 9110, 7.6.1), or that we make ourselves.
const HOP_BY_HOP: [&str; 10] = [
    "connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade",
    "http2-settings",
];

/// Fields of a caller that never reach an upstream: credentials, what addresses or scopes an
/// account, what says where the caller is, and what the gateway sets itself.
const CALLER_ONLY: [&str; 22] = [
    "authorization", "api-key", "x-api-key", "cookie", "host", "content-length", "expect", "accept-encoding", "openai-organization", "openai-project",
    "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-real-ip", "via", "x-original-url", "x-rewrite-url",
    "x-http-method-override", "x-request-id", "ocp-apim-subscription-key",
];

/// Prefixes of the same kind. Azure's spillover header would let a caller choose a deployment.
const CALLER_ONLY_PREFIXES: [&str; 3] = ["x-spillway-", "x-ms-spillover-", "cf-"];

/// Fields of an upstream that mean its own host, not us.
const UPSTREAM_ONLY: [&str; 7] = ["set-cookie", "alt-svc", "strict-transport-security", "x-request-id", "server", "nel", "report-to"];

fn nominated(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(header::CONNECTION).into_iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(',')).map(str::trim)
}

/// Whether a caller's field goes upstream.
pub fn goes_upstream(name: &HeaderName, nominated: &[&str]) -> bool {
    let name = name.as_str();
    !HOP_BY_HOP.contains(&name)
        && !CALLER_ONLY.contains(&name)
        && !CALLER_ONLY_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        && !nominated.iter().any(|other| other.eq_ignore_ascii_case(name))
}

/// Copies what goes upstream from a caller's head.
pub fn copy_upstream(caller: &RequestHeader, request: &mut RequestHeader) {
    let nominated: smallvec::SmallVec<[&str; 4]> = nominated(&caller.headers).collect();
    for (name, value) in &caller.headers {
        if goes_upstream(name, &nominated) {
            let _ = request.append_header(name.clone(), value.clone());
        }
    }
}

/// Removes from a head what must not go upstream (Pingora's own loop starts from a copy).
pub fn strip_caller(request: &mut RequestHeader) {
    let names: Vec<HeaderName> = request
        .headers
        .keys()
        .filter(|name| {
            let name = name.as_str();
            CALLER_ONLY.contains(&name) && name != "content-length" || CALLER_ONLY_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        })
        .cloned()
        .collect();
    for name in names {
        request.remove_header(&name);
    }
}

/// The head for the caller from an upstream's head. `chunked` if its body has no known length.
///
/// # Errors
/// If the upstream's status is none.
pub fn for_caller(upstream: &ResponseHeader, request_id: &HeaderValue, chunked: bool) -> pingora::Result<Box<ResponseHeader>> {
    let mut head = ResponseHeader::build_no_case(upstream.status, Some(upstream.headers.len() + 6))?;
    let nominated: smallvec::SmallVec<[&str; 4]> = nominated(&upstream.headers).collect();
    for (name, value) in &upstream.headers {
        let text = name.as_str();
        let travels = !HOP_BY_HOP.contains(&text)
            && !UPSTREAM_ONLY.contains(&text)
            && !text.starts_with("x-spillway-")
            && !nominated.iter().any(|other| other.eq_ignore_ascii_case(text));
        if travels {
            head.append_header(name.clone(), value.clone())?;
        }
    }
    if chunked {
        head.remove_header(&header::CONTENT_LENGTH);
        head.insert_header(header::TRANSFER_ENCODING, "chunked")?;
    }
    head.insert_header("x-request-id", request_id.clone())?;
    Ok(Box::new(head))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_hops_and_our_own_stay_here() {
        let mut caller = RequestHeader::build("POST", b"/", None).unwrap();
        for (name, value) in [
            ("authorization", "Bearer x"), ("api-key", "x"), ("x-api-key", "x"), ("cookie", "x"), ("x-spillway-debug", "x"),
            ("x-ms-spillover-deployment", "x"), ("connection", "close, X-Secret"), ("x-secret", "x"), ("te", "trailers"), ("host", "evil"),
            ("x-forwarded-host", "evil"), ("expect", "100-continue"), ("content-type", "application/json"), ("openai-beta", "a"), ("x-custom", "1"),
        ] {
            caller.append_header(name, value).unwrap();
        }
        let mut request = RequestHeader::build("POST", b"/", None).unwrap();
        copy_upstream(&caller, &mut request);
        let names: Vec<&str> = request.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-type", "openai-beta", "x-custom"]);
    }

    #[test]
    fn an_upstream_speaks_for_itself_only() {
        let mut upstream = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [("set-cookie", "a"), ("alt-svc", "h3"), ("connection", "keep-alive"), ("x-request-id", "theirs"), ("content-type", "text/plain"), ("x-spillway-backend", "forged"), ("content-length", "3")] {
            upstream.append_header(name, value).unwrap();
        }
        let head = for_caller(&upstream, &HeaderValue::from_static("ours"), false).unwrap();
        let pairs: Vec<(&str, &str)> = head.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(pairs, [("content-type", "text/plain"), ("content-length", "3"), ("x-request-id", "ours")]);
    }
}
