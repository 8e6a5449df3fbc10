//! The two cookies of sign-in.
//!
//! Both have the prefix `__Host-`: a browser accepts them only with `Secure`, for this host alone, and no other host or
//! subdomain can set them. `SameSite=Lax`, because the browser comes back from the issuer's site: with `Strict` it would
//! not send the login along, and a link to a page of one's own would find no session. What `Lax` lets through,
//! following a link, only reads; changes need a header that pages of other sites can't send.

use http::{HeaderValue, header};
use pingora::http::RequestHeader;

use crate::sign_in::LOGIN_LIFETIME;

/// The session.
const SESSION: &str = "__Host-spillway";
/// A login under way.
const LOGIN: &str = "__Host-spillway-sign-in";

const ATTRIBUTES: &str = "Path=/; Secure; HttpOnly; SameSite=Lax";

/// The session's token in a request's cookies.
pub(in crate::server::admin) fn session(head: &RequestHeader) -> Option<&str> {
    value(head, SESSION)
}

/// The sealed login in a request's cookies.
pub(super) fn login(head: &RequestHeader) -> Option<&str> {
    value(head, LOGIN)
}

/// Sets the session's token. Without `Max-Age`, so that closing the browser forgets it.
pub(super) fn set_session(token: &str) -> Option<HeaderValue> {
    secret(&format!("{SESSION}={token}; {ATTRIBUTES}"))
}

/// Sets the sealed login.
pub(super) fn set_login(sealed: &str) -> Option<HeaderValue> {
    secret(&format!("{LOGIN}={sealed}; {ATTRIBUTES}; Max-Age={LOGIN_LIFETIME}"))
}

/// Deletes the session's token.
pub(super) fn delete_session() -> HeaderValue {
    HeaderValue::from_static("__Host-spillway=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0")
}

/// Deletes the login.
pub(super) fn delete_login() -> HeaderValue {
    HeaderValue::from_static("__Host-spillway-sign-in=; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age=0")
}

fn secret(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// A cookie's value; `None` if there are two of that name.
fn value<'h>(head: &'h RequestHeader, name: &str) -> Option<&'h str> {
    // By bytes: another application's cookie on the same line may have any.
    let pairs = head.headers.get_all(header::COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    let mut found = pairs.filter_map(|pair| pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"="));
    let value = found.next().filter(|_| found.next().is_none())?;
    std::str::from_utf8(value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(cookies: &[&str]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        for cookie in cookies {
            head.append_header("cookie", *cookie).unwrap();
        }
        head
    }

    #[test]
    fn each_cookie_is_found_among_others_and_lines() {
        let both = head(&["a=b; __Host-spillway=token; c=d", "__Host-spillway-sign-in=sealed"]);
        assert_eq!((session(&both), login(&both)), (Some("token"), Some("sealed")));
        assert_eq!(session(&head(&["a=__Host-spillway=token", "__host-spillway=token"])), None);
    }

    #[test]
    fn of_two_with_one_name_none_is_taken() {
        assert_eq!(session(&head(&["__Host-spillway=one; __Host-spillway=two"])), None);
        assert_eq!(session(&head(&["__Host-spillway=one", "__Host-spillway=one"])), None);
    }

    #[test]
    fn a_cookie_is_not_shown_by_debug() {
        assert_eq!(format!("{:?}", set_session("token").unwrap()), "Sensitive");
    }
}
