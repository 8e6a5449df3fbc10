//! A page: one document with all its scripts and styles, and a policy that allows nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderValue, StatusCode, header};
use ring::digest::{SHA256, digest};

use super::answer::{Answer, answer};

/// What pages have in common, and where it stands in each.
const PARTS: [(&str, &str); 3] = [
    ("<!--META-->\n", include_str!("page/meta.html")),
    ("<!--ICON-->\n", include_str!("page/icon.html")),
    ("<!--DIALOG-->\n", include_str!("page/dialog.html")),
];

/// A page with the parts that all pages have.
pub(super) fn with_parts(html: &str) -> String {
    PARTS.iter().fold(html.to_owned(), |html, (place, part)| html.replace(place, part))
}

/// A document, and its content security policy.
pub(super) struct Document {
    html: String,
    policy: String,
}

impl Document {
    /// Puts styles and scripts, in this order, into `html`, in place of `/*STYLE*/` and `/*SCRIPT*/`.
    pub(super) fn new(html: &str, styles: &[&str], scripts: &[&str]) -> Self {
        let (style, script) = (styles.join("\n"), scripts.join("\n"));
        let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(digest(&SHA256, text.as_bytes())));
        // Only scripts in the page itself run, and they may connect only to this listener.
        let policy = format!(
            "default-src 'none'; style-src {}; script-src {}; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            hash(&style),
            hash(&script)
        );
        Document { html: with_parts(html).replace("/*STYLE*/", &style).replace("/*SCRIPT*/", &script), policy }
    }

    /// The document as an answer.
    pub(super) fn answer(&self) -> Answer {
        let mut page = answer(StatusCode::OK, "text/html; charset=utf-8", self.html.clone().into_bytes());
        if let Ok(policy) = HeaderValue::from_str(&self.policy) {
            page.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
        }
        page
    }
}
