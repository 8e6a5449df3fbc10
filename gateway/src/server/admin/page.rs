//! The status page: one document with all scripts and styles, built once.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode, header};
use ring::digest::{SHA256, digest};

use super::answer::{Answer, answer};

/// The document, and its content security policy.
struct Page {
    html: String,
    policy: String,
}

/// In this order.
const STYLES: [&str; 4] = [
    include_str!("page/css/base.css"),
    include_str!("page/css/flow.css"),
    include_str!("page/css/tables.css"),
    include_str!("page/css/rest.css"),
];

/// In this order: later ones use what earlier ones have.
const SCRIPTS: [&str; 17] = [
    include_str!("page/js/format.js"),
    include_str!("page/js/words.js"),
    include_str!("page/js/dom.js"),
    include_str!("page/js/rates.js"),
    include_str!("page/js/model.js"),
    include_str!("page/js/gateway.js"),
    include_str!("page/js/actions.js"),
    include_str!("page/js/header.js"),
    include_str!("page/js/flow-shape.js"),
    include_str!("page/js/flow.js"),
    include_str!("page/js/streaks.js"),
    include_str!("page/js/pools.js"),
    include_str!("page/js/consumers.js"),
    include_str!("page/js/failovers.js"),
    include_str!("page/js/config.js"),
    include_str!("page/js/who.js"),
    include_str!("page/js/page.js"),
];

static PAGE: LazyLock<Page> = LazyLock::new(|| {
    let (style, script) = (STYLES.join("\n"), SCRIPTS.join("\n"));
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes())));
    // Only scripts in the page itself run, and they may connect only to this listener.
    let policy = format!(
        "default-src 'none'; style-src {}; script-src {}; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
        hash(&style),
        hash(&script)
    );
    let html = include_str!("page/page.html").replace("/*STYLE*/", &style).replace("/*SCRIPT*/", &script);
    Page { html, policy }
});

pub(super) fn page() -> Answer {
    let mut page = answer(StatusCode::OK, "text/html; charset=utf-8", PAGE.html.clone().into_bytes());
    if let Ok(policy) = HeaderValue::from_str(&PAGE.policy) {
        page.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    page.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    page.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    page
}
