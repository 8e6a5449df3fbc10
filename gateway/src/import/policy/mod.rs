//! Policies of API Management: their literal parts.

mod apply;
mod condition;
mod element;
mod limits;
mod plugins;
mod raw;
mod wishes;

use roxmltree::Document;

pub(super) use apply::{apply, stand_in};
use element::Element;
pub(super) use wishes::Wishes;
use wishes::{Target, Wish};

use super::draft::{DraftAuth, Millis};
use super::error::ImportError;
use super::finding::Findings;
use super::names::{last_part, named_value, scope, variable};

pub(super) fn read(file: &str, text: &str, wishes: &mut Wishes, findings: &mut Findings) -> Result<(), ImportError> {
    let text = raw::escaped(text.trim_start_matches('\u{feff}'));
    let document = Document::parse(&text).map_err(|error| ImportError::Unreadable {
        place: format!("{file}:{}:{}", error.pos().row, error.pos().col),
        problem: format!("is not a policy: {error}"),
        remedy: "give the whole policy, from <policies> to </policies>, as the portal's editor shows it".to_owned(),
    })?;
    let root = Element { node: document.root_element(), file };
    let mut wish = Wish { file: file.to_owned(), ..Wish::default() };
    let sections = ["inbound", "backend", "outbound", "on-error"];
    if root.name() == "policies" || root.name() == "fragment" {
        for child in root.children() {
            if sections.contains(&child.name()) {
                child.children().iter().for_each(|element| self::element(element, &mut wish, findings));
            } else {
                element(&child, &mut wish, findings);
            }
        }
    } else {
        element(&root, &mut wish, findings);
    }
    wishes.0.push(wish);
    Ok(())
}

fn element(element: &Element<'_, '_>, wish: &mut Wish, findings: &mut Findings) {
    match element.name() {
        "base" => {}
        "authentication-managed-identity" => identity(element, wish, findings),
        "set-backend-service" => target(element, wish, findings),
        "retry" => retry(element, wish, findings),
        "forward-request" => forward(element, wish, findings),
        "azure-openai-token-limit" | "llm-token-limit" => limits::tokens(element, wish, findings),
        "rate-limit" | "rate-limit-by-key" => limits::requests(element, wish, findings),
        "limit-concurrency" => {
            limits::concurrency(element, wish, findings);
            element.children().iter().for_each(|child| self::element(child, wish, findings));
        }
        "azure-openai-semantic-cache-lookup" | "llm-semantic-cache-lookup" => plugins::lookup(element, wish, findings),
        "azure-openai-semantic-cache-store" | "llm-semantic-cache-store" => plugins::store(element, wish, findings),
        "llm-content-safety" => plugins::safety(element, wish, findings),
        "set-header" => header(element, wish, findings),
        "azure-openai-emit-token-metric" | "llm-emit-token-metric" => findings.approximate(
            element.place(),
            "Spillway's own metrics and ledger",
            "tokens are always counted by consumer, model and backend; other dimensions can be ledger.tags",
        ),
        "validate-jwt" | "validate-azure-ad-token" => findings.manual(
            element.place(),
            "",
            "set [plugins.auth.jwt]: issuer (https://login.microsoftonline.com/TENANT/v2.0), audiences, and consumers for the applications",
        ),
        "choose" => findings.manual(
            element.place(),
            "",
            "conditions are C# and are not run: the policies inside were not imported; see pools, consumers[].pools and roles",
        ),
        "quota" | "quota-by-key" => {
            findings.manual(
                element.place(),
                "",
                "Spillway's quotas count tokens or money, not calls: see token_quota and budget in limits",
            );
        }
        "check-header" | "ip-filter" | "cors" => {
            findings.unsupported(element.place(), "belongs in front of Spillway: into a firewall or a load balancer");
        }
        "set-variable"
        | "trace"
        | "log-to-eventhub"
        | "emit-metric"
        | "set-query-parameter"
        | "rewrite-uri"
        | "set-body"
        | "return-response" => {
            findings.manual(element.place(), "", "is not imported: check whether you need it");
        }
        other => findings.unsupported(element.place(), format!("<{other}> is not known to this import and was left out")),
    }
}

fn identity(element: &Element<'_, '_>, wish: &mut Wish, findings: &mut Findings) {
    let resource = element.literal("resource", findings);
    let client_id = element.literal("client-id", findings);
    element.unknown(&["resource", "client-id", "output-token-variable-name", "ignore-error"], findings);
    findings.manual(
        element.place(),
        "auth = { type = \"managed-identity\" } of the backends that have no credentials of their own",
        "the identity is now that of the machine that Spillway runs on: give it the role Cognitive Services OpenAI User",
    );
    wish.auth = wish.auth.take().or(Some(DraftAuth::ManagedIdentity { client_id, scope: scope(resource.as_deref()) }));
}

fn target(element: &Element<'_, '_>, wish: &mut Wish, findings: &mut Findings) {
    element.unknown(&["backend-id", "base-url"], findings);
    if let Some(id) = element.literal("backend-id", findings) {
        findings.exact(element.at("backend-id"), format!("this policy applies to pool '{id}'"));
        wish.targets.push((element.at("backend-id"), Target::Backend(last_part(&id).to_owned())));
    } else if let Some(url) = element.literal("base-url", findings) {
        wish.targets.push((element.at("base-url"), Target::Url(url)));
    }
}

fn retry(element: &Element<'_, '_>, wish: &mut Wish, findings: &mut Findings) {
    if let Some(count) = element.positive("count", findings) {
        let attempts = count.saturating_add(1).min(100);
        findings.approximate(
            element.at("count"),
            format!("retry.max_attempts = {attempts}"),
            "the first attempt counts, too; moves away from a throttled target don't",
        );
        wish.retry.max_attempts = Some(attempts);
    }
    let condition = element.attribute("condition").unwrap_or_default();
    match condition::read(condition) {
        Some(read) => {
            let became = format!("retry.statuses = {}", super::write::statuses_text(&read.statuses));
            if read.unread.is_empty() {
                findings.exact(element.at("condition"), became);
            } else {
                let unread = read.unread.join("; ");
                findings.approximate(element.at("condition"), became, format!("left out, because it is not about the status: {unread}"));
            }
            wish.retry.statuses = Some(read.statuses);
        }
        None => findings.manual(
            element.at("condition"),
            "retry.statuses: Spillway's default",
            format!("the statuses can't be read from {condition}: set retry.statuses by hand"),
        ),
    }
    match element.attribute("interval").map(str::trim) {
        None | Some("0") => {}
        Some(interval) => findings.approximate(
            element.at("interval"),
            "no wait",
            format!("is {interval}: the next attempt goes to another member at once; if all are throttled, retry.wait applies"),
        ),
    }
    for name in ["delta", "max-interval", "first-fast-retry"] {
        if element.attribute(name).is_some() {
            findings.approximate(element.at(name), "no wait", "there is no pause between attempts");
        }
    }
    element.unknown(&["count", "condition", "interval", "delta", "max-interval", "first-fast-retry"], findings);
    element.children().iter().for_each(|child| self::element(child, wish, findings));
}

fn forward(element: &Element<'_, '_>, wish: &mut Wish, findings: &mut Findings) {
    if let Some(seconds) = element.positive("timeout", findings) {
        let answer = Millis(seconds.min(315_360_000) * 1_000);
        findings.approximate(
            element.at("timeout"),
            format!("timeouts.answer = \"{answer}\""),
            "for plain answers; streams have first_token and idle",
        );
        wish.answer = Some(answer);
    }
    // Requests are kept for retries, answers are streamed, redirects are not followed.
    let known = ["timeout", "buffer-request-body", "buffer-response", "follow-redirects", "http-version", "fail-on-error-status-code"];
    element.unknown(&known, findings);
    if element.attribute("buffer-response").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        findings.approximate(element.at("buffer-response"), "", "streams are sent on as they arrive");
    }
    if element.attribute("follow-redirects").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
        findings.unsupported(element.at("follow-redirects"), "redirects are sent on to the caller");
    }
}

fn header(element: &Element<'_, '_>, wish: &mut Wish, findings: &mut Findings) {
    let name = element.attribute("name").unwrap_or_default().to_owned();
    let value = element.children().first().map(Element::text).unwrap_or_default();
    let credential = ["api-key", "authorization", "x-api-key"].contains(&name.to_ascii_lowercase().as_str());
    let removes = element.attribute("exists-action").is_some_and(|action| action == "delete");
    if credential && removes {
        findings.exact(element.place(), "callers' credentials are never sent to backends");
    } else if credential && value.starts_with('@') && matches!(wish.auth, Some(DraftAuth::ManagedIdentity { .. })) {
        findings.exact(element.place(), "part of auth.type = \"managed-identity\"");
    } else if credential {
        let key = named_value(&value).map_or_else(|| "BACKEND_API_KEY".to_owned(), |named| variable(&named, ""));
        findings.manual(
            element.place(),
            format!("key = {{ env = \"{key}\" }} of the backends that have no credentials of their own"),
            format!("set {key} to the value of this header; secrets are not copied"),
        );
        wish.auth = wish.auth.take().or(Some(DraftAuth::ApiKey(key)));
    } else {
        findings.manual(
            element.place(),
            "",
            format!("set '{name}' in pools[].transform, request_headers or response_headers, if it is needed"),
        );
    }
}
