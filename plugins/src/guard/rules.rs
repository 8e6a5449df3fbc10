//! The guard's own rules: what a text must not contain, how long a prompt may be, which tools may be offered.

use std::borrow::Cow;

use regex::{RegexBuilder, RegexSet, RegexSetBuilder};

use super::{AnswerText, Finding, PromptText, tools};
use crate::escapes::{LEVELS, decoded};
use crate::visible::{has_tags, visible, with_tags};

/// A rule that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the rule '{name}' can't be used: {why}")]
pub struct GuardError {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: String,
}

/// Most memory of the compiled rules, in bytes: more is a mistake in the config.
const SIZE: usize = 10 << 20;

/// The rules.
#[derive(Debug, Clone)]
pub struct Rules {
    names: Vec<String>,
    patterns: RegexSet,
    /// Most tokens of a prompt.
    pub max_prompt_tokens: Option<u64>,
    /// The tools that may be offered; `None` for all.
    pub allowed_tools: Option<Vec<String>>,
}

impl PartialEq for Rules {
    fn eq(&self, other: &Self) -> bool {
        let parts = |rules: &Rules| (rules.max_prompt_tokens, rules.allowed_tools.clone());
        self.fingerprint() == other.fingerprint() && parts(self) == parts(other)
    }
}

impl Rules {
    /// From named regular expressions, and from words or phrases that must not occur as whole words, in upper or lower
    /// case (all under the name `words`).
    ///
    /// # Errors
    /// [`GuardError`] names the one that can't be used.
    pub fn new(
        patterns: &[(String, String)],
        words: &[String],
        max_prompt_tokens: Option<u64>,
        allowed_tools: Option<Vec<String>>,
    ) -> Result<Self, GuardError> {
        let words = words.iter().map(|word| ("words".to_owned(), whole_word(word)));
        let all: Vec<(String, String)> = patterns.iter().cloned().chain(words).collect();
        for (name, pattern) in &all {
            let wrong = |why: String| GuardError { name: name.clone(), why };
            let one = RegexBuilder::new(pattern).size_limit(SIZE).build().map_err(|error| wrong(error.to_string()))?;
            if one.is_match("") {
                return Err(wrong("it fits the empty text, and so every text".to_owned()));
            }
        }
        let patterns = RegexSetBuilder::new(all.iter().map(|(_, pattern)| pattern)).size_limit(SIZE).build();
        let patterns = patterns.map_err(|error| GuardError { name: "all".to_owned(), why: error.to_string() })?;
        Ok(Rules { names: all.into_iter().map(|(name, _)| name).collect(), patterns, max_prompt_tokens, allowed_tools })
    }

    /// A forbidden part of a text: as it is written, as a reader sees it, and with its hidden characters decoded; the same
    /// with its JSON escapes decoded.
    pub fn text(&self, text: &str) -> Option<Finding> {
        let levels = std::iter::successors(Some(Cow::Borrowed(text)), |outer| decoded(outer).map(Cow::Owned));
        levels.take(1 + LEVELS).find_map(|text| self.read(&text))
    }

    fn read(&self, text: &str) -> Option<Finding> {
        let found = self.written(text).or_else(|| match visible(text) {
            Cow::Borrowed(_) => None,
            Cow::Owned(seen) => self.written(&seen),
        });
        found.or_else(|| if has_tags(text) { self.written(&with_tags(text)) } else { None })
    }

    /// As it is, and with no marks around its words.
    fn written(&self, text: &str) -> Option<Finding> {
        self.matched(text).or_else(|| self.matched(&unmarked(text)?))
    }

    fn matched(&self, text: &str) -> Option<Finding> {
        if !self.patterns.is_match(text) {
            return None;
        }
        let first = self.patterns.matches(text).into_iter().next()?;
        Some(Finding::Denied(self.names.get(first).cloned().unwrap_or_default()))
    }

    /// The sources of the rules for texts.
    pub fn fingerprint(&self) -> (&[String], &[String]) {
        (&self.names, self.patterns.patterns())
    }

    /// Whether there are rules for texts.
    pub fn reads_texts(&self) -> bool {
        !self.names.is_empty()
    }

    /// What is not allowed in a request with this `body`.
    pub fn request(&self, asked: &PromptText, body: &[u8]) -> Option<Finding> {
        if let Some(limit) = self.max_prompt_tokens.filter(|limit| asked.tokens() > *limit) {
            return Some(Finding::TooLong { limit });
        }
        let refused = self.allowed_tools.as_ref().and_then(|allowed| tools::not_allowed(body, allowed));
        refused.map(Finding::Tool).or_else(|| if self.reads_texts() { asked.find(|text| self.text(text)) } else { None })
    }

    /// What is not allowed in the texts of an answer.
    pub fn answer(&self, said: &AnswerText) -> Option<Finding> {
        if self.reads_texts() { said.find(|text| self.text(text)) } else { None }
    }
}

/// A pattern for a whole word or phrase; its spaces match any white space.
fn whole_word(word: &str) -> String {
    let word = visible(word);
    let parts: Vec<String> = word.split_whitespace().map(regex::escape).collect();
    // Scripts without spaces have no word boundaries.
    let spaced = |c: char| {
        (c.is_alphanumeric() || c == '_') && !matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{2e80}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
    };
    // For regular expressions `_` is a letter, for readers it isn't: `_word_` is emphasis.
    let edge = |at: Option<char>| if at.is_some_and(spaced) { r"(?:\b|_)" } else { "" };
    format!("(?i){}{}{}", edge(word.trim().chars().next()), parts.join(r"\s+"), edge(word.trim().chars().next_back()))
}

/// The text with a space for each `_` at the edge of a word, as in `_emphasis_`: there `\b` sees no edge. `None` if there
/// is none.
fn unmarked(text: &str) -> Option<String> {
    let mut plain = String::new();
    let (mut done, mut at) = (0, 0);
    while let Some(found) = memchr::memchr(b'_', &text.as_bytes()[at..]) {
        let start = at + found;
        let rest = text[start..].trim_start_matches('_');
        at = text.len() - rest.len();
        let before = text[..start].chars().next_back();
        if !(before.is_some_and(char::is_alphanumeric) && rest.starts_with(char::is_alphanumeric)) {
            plain.push_str(&text[done..start]);
            plain.extend(std::iter::repeat_n(' ', at - start));
            done = at;
        }
    }
    plain.push_str(&text[done..]);
    Some(plain).filter(|_| done > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(patterns: &[(&str, &str)], words: &[&str]) -> Result<Rules, GuardError> {
        let patterns: Vec<_> = patterns.iter().map(|(name, pattern)| ((*name).to_owned(), (*pattern).to_owned())).collect();
        Rules::new(&patterns, &words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), None, None)
    }

    #[test]
    fn words_are_whole_and_know_no_case() {
        let rules = rules(&[], &["Project Heron", "c++", "größe", "秘密"]).unwrap();
        for text in ["about project  HERON?", "PROJECT\nheron", "I like C++!", "Die GRÖSSE? nein: die Größe", "这是秘密的事"] {
            assert!(rules.text(text).is_some(), "{text}");
        }
        for text in ["projectheron", "project herons", "heron project", "c+", ""] {
            assert_eq!(rules.text(text), None, "{text}");
        }
    }

    #[test]
    fn marks_of_emphasis_are_no_letters() {
        let rules = rules(&[("case-number", r"\bCN-[0-9]{6}\b")], &["Project Heron", "größe", "_own"]).unwrap();
        let words =
            ["_Project Heron_", "__project heron__", "the _GRÖSSE_? nein: _Größe_", "my_größe_file", "*_größe_*", "an _own", "__own__"];
        for text in words.into_iter().chain(["_CN-123456_", "__CN-123456__", "see _CN-123456_, please", "a ＿CN-123456＿", "_ _CN-123456"])
        {
            assert!(rules.text(text).is_some(), "{text}");
        }
        for text in ["_Project Herons_", "x_größer", "a_CN-123456_b", "_CN-1234567_", "_", "snake_case __init__"] {
            assert_eq!(rules.text(text), None, "{text}");
        }
    }

    #[test]
    fn escapes_hide_nothing() {
        let rules = rules(&[("case-number", r"\bCN-[0-9]{6}\b")], &["Project Heron", "größe"]).unwrap();
        let once = |text: &str| format!(r#"{{"q":"{text}"}}"#);
        let words = [r"gr\u00f6\u00DFe", r"project\nheron", r"\u0070ro\u200bject heron", r"\nCN-123456\t", r"\ufeff_CN-12345\u0036_"];
        for text in words.map(once).into_iter().chain([r"the \u0070roject heron".to_owned()]) {
            assert!(rules.text(&text).is_some(), "{text}");
            let twice = serde_json::json!([text]).to_string();
            assert!(rules.text(&twice).is_some(), "{twice}");
        }
        for text in [r"gr\u00f6\u00dfer", r"project\qheron", r"\", r"C:\projects\heron"] {
            assert_eq!(rules.text(text), None, "{text}");
        }
    }

    #[test]
    fn patterns_are_told_by_their_names() {
        let rules = rules(&[("case-number", r"\bCN-\d{6}\b"), ("swearing", "(?i)darn")], &[]).unwrap();
        assert_eq!(rules.text("see CN-123456"), Some(Finding::Denied("case-number".to_owned())));
        assert_eq!(rules.text("DARN"), Some(Finding::Denied("swearing".to_owned())));
        assert_eq!(rules.text("CN-12345"), None);
    }

    #[test]
    fn what_cant_be_used_is_named() {
        for (pattern, why) in [("(", "unclosed"), ("a*", "empty"), (r"(\w{1000}){1000}", "size")] {
            let error = rules(&[("odd", pattern)], &[]).unwrap_err();
            assert!(error.name == "odd" && error.why.contains(why), "{error}");
        }
    }
}
