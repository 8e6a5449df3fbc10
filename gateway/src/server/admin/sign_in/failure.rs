//! The page for somebody who could not sign in: what happened, and what to do.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode, header};
use ring::digest::{SHA256, digest};

use super::super::answer::{Answer, answer};
use super::super::document::with_parts;
use crate::html;
use crate::sign_in::{LackingToken, ReturnTo, SignInError};

static STYLE: LazyLock<String> =
    LazyLock::new(|| [include_str!("../page/css/base.css"), include_str!("../page/css/sign-in.css")].join("\n"));

/// Only the style in the page itself applies, nothing runs, and nothing is fetched.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    format!("default-src 'none'; style-src 'sha256-{hash}'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
});

static PAGE: LazyLock<String> = LazyLock::new(|| with_parts(include_str!("../page/sign-in.html")));

/// What the page says.
struct Words {
    status: StatusCode,
    title: &'static str,
    /// What happened.
    what: String,
    /// What the person can do.
    remedy: String,
    /// What the people who run the gateway can do.
    operator: Option<&'static str>,
}

/// The page, for the listener with this external base address and this first page.
pub(super) fn page(error: &SignInError, base: &str, first: ReturnTo) -> Answer {
    let words = words(error);
    let operator =
        words.operator.map_or_else(String::new, |text| format!("<h2>For the people who run this gateway</h2>\n<p>{}</p>", escaped(text)));
    let html = PAGE
        .replace("/*STYLE*/", STYLE.as_str())
        .replace("<!--TITLE-->", &escaped(words.title))
        .replace("<!--WHAT-->", &escaped(&words.what))
        .replace("<!--REMEDY-->", &escaped(&words.remedy))
        .replace("<!--OPERATOR-->", &operator)
        .replace("<!--BASE-->", &escaped(base))
        .replace("<!--FIRST-->", if first == ReturnTo::Status { "the status page" } else { "your page" })
        .replace("<!--RESULT-->", error.label());
    let mut page = answer(words.status, "text/html; charset=utf-8", html.into_bytes());
    let headers = page.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    page
}

fn words(error: &SignInError) -> Words {
    let again = "Sign in again.";
    let ask = "Ask the people who run this gateway.";
    let sentence = || format!("{}.", capitalised(&error.to_string()));
    let new = |status, title, remedy: &str, operator| Words { status, title, what: sentence(), remedy: remedy.to_owned(), operator };
    match error {
        SignInError::Busy => new(StatusCode::SERVICE_UNAVAILABLE, "Too many sign-ins", "Wait a few seconds, and reload this page.", None),
        SignInError::Random => new(StatusCode::INTERNAL_SERVER_ERROR, "Sign-in doesn't work", ask, None),
        SignInError::NotReady => new(
            StatusCode::SERVICE_UNAVAILABLE,
            "The issuer can't be reached",
            "Try again in a minute.",
            Some(
                "The gateway's log says why the issuer's metadata and keys can't be fetched. Check server.sign_in.issuer, the \
                  network, and that the metadata has an authorisation and a token endpoint.",
            ),
        ),
        SignInError::Unreachable(_) => new(
            StatusCode::GATEWAY_TIMEOUT,
            "The issuer doesn't answer",
            "Try again in a minute.",
            Some("The gateway itself must reach the issuer's token endpoint within five seconds: check the network and the proxy."),
        ),
        SignInError::NoLogin => new(
            StatusCode::BAD_REQUEST,
            "This sign-in is over",
            "A sign-in must be finished within ten minutes, in the browser that began it, and cookies must be allowed. Sign in again.",
            Some(
                "If this happens to everybody: browsers must reach the gateway over HTTPS at exactly server.sign_in.url, or they \
                  don't keep the cookie.",
            ),
        ),
        SignInError::State => new(
            StatusCode::BAD_REQUEST,
            "This answer is for another sign-in",
            "If you began in several tabs, only the last one counts. Sign in again.",
            None,
        ),
        SignInError::Again => new(StatusCode::BAD_REQUEST, "This sign-in is over", "If you are not signed in, sign in again.", None),
        SignInError::Answer(_) => new(StatusCode::BAD_REQUEST, "The answer can't be read", again, None),
        SignInError::Issuer => new(
            StatusCode::BAD_REQUEST,
            "The answer is from another issuer",
            "You may have followed a forged link. Begin on this gateway's own page.",
            None,
        ),
        SignInError::Refused(code) if code.code() == "access_denied" => new(
            StatusCode::FORBIDDEN,
            "The sign-in was refused",
            "You, or a rule of your organisation, refused the sign-in. Sign in again, or ask the people who run this gateway.",
            None,
        ),
        SignInError::Refused(_) => new(
            StatusCode::BAD_REQUEST,
            "The issuer refuses",
            ask,
            Some("The code says why. Often the redirect URI is not registered: it is server.sign_in.url with /sign-in/callback."),
        ),
        SignInError::Code(_) => new(
            StatusCode::BAD_REQUEST,
            "The sign-in took too long",
            "The issuer accepts its code only once and for a short time. Sign in again.",
            Some("If this happens to everybody: the redirect URI at the issuer must be server.sign_in.url with /sign-in/callback."),
        ),
        SignInError::Client(_) => new(
            StatusCode::BAD_GATEWAY,
            "The issuer doesn't know this gateway",
            ask,
            Some("Check server.sign_in.client_id and client_secret: a secret expires, and Entra shows its value only once."),
        ),
        SignInError::TokenAnswer(_) => new(StatusCode::BAD_GATEWAY, "The issuer's answer can't be used", ask, None),
        SignInError::Token(_) | SignInError::Nonce | SignInError::AuthorizedParty | SignInError::NoSubject => new(
            StatusCode::BAD_GATEWAY,
            "The issuer's token can't be accepted",
            "Sign in again. If that doesn't help, ask the people who run this gateway.",
            Some("Check server.sign_in.issuer and client_id, and this machine's clock."),
        ),
        SignInError::NoAuthTime | SignInError::NotFresh => not_fresh(error, sentence()),
        SignInError::NoRole(token) => no_role(token),
    }
}

fn not_fresh(error: &SignInError, what: String) -> Words {
    let operator = if *error == SignInError::NoAuthTime {
        "The issuer must put the claim 'auth_time' into the ID token (with Entra: Token configuration, Add optional claim, ID, auth_time). \
         Or let server.sign_in.reauthenticate_after be as long as 'session': then no change needs a fresh sign-in."
    } else {
        "The issuer must ask again when a sign-in has 'prompt=login' and 'max_age'. If it did: check this machine's clock, and that \
         server.sign_in.reauthenticate_after leaves enough time for a second factor."
    };
    Words {
        status: StatusCode::FORBIDDEN,
        title: "You must show again who you are",
        what,
        remedy:
            "Go back to the page: you are still signed in, but can't make this change. Try it again, and sign in with your password or \
                 second factor when the issuer asks."
                .to_owned(),
        operator: Some(operator),
    }
}

fn no_role(token: &LackingToken) -> Words {
    let roles = match &*token.roles {
        [] => "no app role".to_owned(),
        [one] => format!("the app role {one}"),
        several => format!("the app roles {}", several.join(", ")),
    };
    let groups = match (token.too_many_groups, token.groups) {
        (true, _) => "no groups, because you are in too many for a token".to_owned(),
        (false, 0) => "no groups".to_owned(),
        (false, 1) => "one group".to_owned(),
        (false, count) => format!("{count} groups"),
    };
    let operator = if token.too_many_groups {
        "Entra leaves the groups out if there are more than 200. Use app roles, or let the token have only groups that are assigned to \
         the application."
    } else {
        "A person needs one of the app roles or groups in [server.sign_in.roles], or 'everyone' must be set. If the token should have \
         groups: add the groups claim to the app registration."
    };
    Words {
        status: StatusCode::FORBIDDEN,
        title: "You have no role here",
        what: format!(
            "You are {} ({}). Your account is known, but this gateway lets in only some app roles and groups. Your token has {roles} \
             and {groups}.",
            token.name, token.subject
        ),
        remedy: "Ask the people who run this gateway for a role, and show them this page. Then sign in again.".to_owned(),
        operator: Some(operator),
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

fn escaped(text: &str) -> String {
    html::escaped(text).replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_is_text_on_the_page() {
        let token = LackingToken {
            name: "<script>alert(1)</script>".to_owned(),
            subject: "\"><img src=x>".to_owned(),
            roles: vec!["<b>".to_owned()],
            groups: 3,
            too_many_groups: false,
        };
        let page = page(&SignInError::NoRole(Box::new(token)), "https://gateway.example.com", ReturnTo::Status);
        let text = String::from_utf8(page.body().clone()).unwrap();
        assert!(!text.contains("<script") && !text.contains("<img") && !text.contains("<b>"), "{text}");
        assert!(text.contains("&lt;script&gt;") && text.contains("3 groups"));
        assert!(page.headers()["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'; style-src 'sha256-"));
    }

    #[test]
    fn too_many_groups_have_a_remedy_of_their_own() {
        let token = LackingToken { name: "Ada".into(), subject: "s".into(), roles: Vec::new(), groups: 0, too_many_groups: true };
        let text =
            String::from_utf8(page(&SignInError::NoRole(Box::new(token)), "https://gateway.example.com", ReturnTo::Status).into_body())
                .unwrap();
        assert!(text.contains("too many for a token") && text.contains("Use app roles"), "{text}");
    }
}
