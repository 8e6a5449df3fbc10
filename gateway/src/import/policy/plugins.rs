//! Policies that become plugins: the semantic cache and Content Safety.

use super::element::Element;
use super::wishes::{Lookup, Wish};
use crate::import::draft::{Millis, Safety};
use crate::import::finding::Findings;

/// Below this similarity, answers to different questions are likely.
const LEAST: u32 = 8_500;

pub(super) fn lookup(element: &Element<'_, '_>, wish: &mut Wish, findings: &mut Findings) {
    let Some(backend) = element.literal("embeddings-backend-id", findings) else { return };
    let mut dry_run = false;
    let threshold = match element.attribute("score-threshold").and_then(|text| text.parse::<f64>().ok()).filter(|d| (0.0..=1.0).contains(d))
    {
        Some(distance) => {
            // Between 0 and 1, so nothing is lost.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            let similarity = ((1.0 - distance) * 10_000.0).round() as u32;
            dry_run = similarity < LEAST;
            if dry_run {
                findings.manual(
                    element.at("score-threshold"),
                    format!("threshold = 0.{LEAST}, dry_run = true"),
                    format!(
                        "with a distance of {distance}, quite different questions would count as the same: look at the dry run's log lines, choose a \
                         threshold (cosine similarity), then remove dry_run"
                    ),
                );
            } else {
                findings.approximate(
                    element.at("score-threshold"),
                    format!("threshold = {:.4}", 1.0 - distance),
                    "API Management's score is a distance (less is nearer), Spillway's threshold the similarity, 1 - distance; try it with dry_run",
                );
            }
            similarity.max(LEAST)
        }
        None => {
            findings.manual(element.at("score-threshold"), "threshold = 0.95", "is not a literal number from 0 to 1");
            9_500
        }
    };
    let max_messages = element.positive("max-message-count", findings);
    if let Some(most) = max_messages {
        findings.approximate(element.at("max-message-count"), format!("max_messages = {most}"), "counted without instructions");
    }
    let ignore_system = element.attribute("ignore-system-messages").is_some_and(|text| text.eq_ignore_ascii_case("true"));
    if let Some(text) = element.attribute("ignore-system-messages") {
        findings.exact(element.at("ignore-system-messages"), format!("ignore_system = {}", text.to_ascii_lowercase()));
    }
    if element.attribute("embeddings-backend-auth").is_some() {
        findings.approximate(element.at("embeddings-backend-auth"), "the 'auth' of the backend for embeddings", "as for every backend");
    }
    let children = element.children();
    for child in &children {
        let text: String = child.text().chars().filter(|c| !c.is_whitespace()).collect();
        if child.name() == "vary-by" && ["@(context.Subscription.Id)", "@(context.Subscription?.Id)"].contains(&text.as_str()) {
            findings.exact(child.place(), "each consumer has its own answers, unless consumers share a cache.namespace");
        } else {
            findings.manual(
                child.place(),
                "",
                "answers are separate for each consumer, and for everything that changes an answer; no further key is possible",
            );
        }
    }
    if children.is_empty() {
        findings.approximate(
            element.place(),
            "each consumer has its own answers",
            "there is no vary-by: to share answers among consumers, give them the same cache.namespace",
        );
    }
    let known = ["score-threshold", "embeddings-backend-id", "embeddings-backend-auth", "ignore-system-messages", "max-message-count"];
    element.unknown(&known, findings);
    wish.lookup = Some(Lookup { place: element.place(), backend, threshold, dry_run, max_messages, ignore_system });
}

pub(super) fn store(element: &Element<'_, '_>, wish: &mut Wish, findings: &mut Findings) {
    wish.stored = element.positive("duration", findings).map(|seconds| Millis(seconds.min(315_360_000) * 1_000));
    if let Some(ttl) = wish.stored {
        findings.exact(element.at("duration"), format!("plugins.cache.semantic.ttl = \"{ttl}\""));
    }
    element.unknown(&["duration"], findings);
}

pub(super) fn safety(element: &Element<'_, '_>, wish: &mut Wish, findings: &mut Findings) {
    if wish.safety.is_some() {
        return findings.manual(element.place(), "", "a second check in one policy: Spillway has one; add its categories by hand");
    }
    let Some(backend) = element.literal("backend-id", findings) else { return };
    let mut safety = Safety::default();
    if let Some(shield) = element.literal("shield-prompt", findings) {
        safety.prompt_shield = shield.eq_ignore_ascii_case("true");
        findings.exact(element.at("shield-prompt"), format!("prompt_shield = {}", safety.prompt_shield));
    }
    for child in element.children() {
        match child.name() {
            "categories" => {
                safety.eight = child.literal("output-type", findings).is_some_and(|kind| kind.eq_ignore_ascii_case("EightSeverityLevels"));
                child.children().iter().for_each(|category| self::category(category, &mut safety, findings));
            }
            "blocklists" => {
                for id in child.children() {
                    if id.text().trim().starts_with('@') {
                        findings.manual(id.place(), "", "a blocklist named by an expression: add it to blocklists by hand");
                    } else {
                        findings.exact(id.place(), "plugins.guard.content_safety.blocklists");
                        safety.blocklists.push(id.text().trim().to_owned());
                    }
                }
            }
            other => findings.unsupported(child.place(), format!("<{other}> is not known to this import")),
        }
    }
    if safety.categories.is_empty() && safety.blocklists.is_empty() && !safety.prompt_shield {
        findings.approximate(element.place(), "each category is blocked from severity 4 on", "no category is named");
    }
    if let Some(answers) = element.attribute("enforce-on-completions") {
        findings.manual(element.at("enforce-on-completions"), "", format!("is {answers}: set plugins.guard.answers to check answers, too"));
    }
    element.unknown(&["backend-id", "shield-prompt", "enforce-on-completions"], findings);
    findings.approximate(
        element.place(),
        "plugins.guard.content_safety",
        "it checks the requests of all consumers, in every pool; consumers[].guard = false exempts one",
    );
    wish.safety = Some((element.place(), backend, safety));
}

fn category(element: &Element<'_, '_>, safety: &mut Safety, findings: &mut Findings) {
    let Some(name) = element.literal("name", findings) else { return };
    let known = match name.to_ascii_lowercase().as_str() {
        "hate" => "hate",
        "selfharm" => "self_harm",
        "sexual" => "sexual",
        "violence" => "violence",
        _ => return findings.unsupported(element.place(), format!("there is no category '{name}'")),
    };
    let Some(threshold) = element.literal("threshold", findings).and_then(|text| text.parse::<u64>().ok()) else {
        return findings.manual(element.place(), "", "the threshold is not a number: set it by hand in content_safety.categories");
    };
    let bounded = threshold.clamp(1, if safety.eight { 7 } else { 6 });
    let became = format!("content_safety.categories.{known} = {bounded}");
    if bounded == threshold {
        findings.exact(element.place(), became);
    } else {
        findings.approximate(element.place(), became, format!("{threshold} is outside of the scale"));
    }
    safety.categories.insert(known, bounded);
}
