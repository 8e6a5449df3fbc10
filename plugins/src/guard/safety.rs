//! The API of Azure AI Content Safety (REST API 2024-09-01): `text:analyze` and `text:shieldPrompt`.
//!
//! Source: learn.microsoft.com, "Content Safety REST API", operations "Text Operations – Analyze Text" and "Text
//! Operations – Detect Text Jailbreak" (`shieldPrompt`).

use serde::Deserialize;
use serde_json::json;

pub use super::category::Category;
use super::finding::Finding;

/// The API's version.
pub const VERSION: &str = "2024-09-01";
/// Most characters of a text.
pub const LONGEST: usize = 10_000;

/// Which checks are requested, and from which severity on content is blocked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Thresholds {
    /// The severity from which on a category is blocked; `None` doesn't request the category. In the order of
    /// [`Category::ALL`].
    pub blocked_from: [Option<u8>; 4],
    /// The scale has eight severities (0 to 7) instead of four (0, 2, 4, 6).
    pub eight: bool,
    /// Lists of terms at the service.
    pub blocklists: Vec<String>,
}

/// The service's answer can't be read.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// It is not valid JSON of the expected form.
    #[error("the answer can't be read: {0}")]
    Syntax(#[from] serde_json::Error),
    /// A requested category is missing.
    #[error("the answer doesn't contain '{0}'")]
    Missing(&'static str),
}

impl Thresholds {
    /// Whether there is nothing to check.
    pub fn is_empty(&self) -> bool {
        self.blocked_from.iter().all(Option::is_none) && self.blocklists.is_empty()
    }

    /// The body of `text:analyze`.
    pub fn question(&self, text: &str) -> Vec<u8> {
        let asked = Category::ALL.iter().zip(&self.blocked_from).filter(|(_, from)| from.is_some());
        let categories: Vec<&str> = asked.map(|(category, _)| category.wire()).collect();
        json!({
            "text": text,
            "categories": categories,
            "blocklistNames": self.blocklists,
            "haltOnBlocklistHit": false,
            "outputType": if self.eight { "EightSeverityLevels" } else { "FourSeverityLevels" },
        })
        .to_string()
        .into_bytes()
    }

    /// The finding in the answer, if any.
    ///
    /// # Errors
    /// [`AnswerError`]
    pub fn judge(&self, answer: &[u8]) -> Result<Option<Finding>, AnswerError> {
        let answer: Analysis = serde_json::from_slice(answer)?;
        if let Some(hit) = answer.blocklists.into_iter().flatten().next() {
            return Ok(Some(Finding::Blocklist(hit.name)));
        }
        for (category, _) in Category::ALL.iter().zip(&self.blocked_from).filter(|(_, from)| from.is_some()) {
            if !answer.categories.iter().any(|one| one.category == category.wire()) {
                return Err(AnswerError::Missing(category.label()));
            }
        }
        let blocked = |one: &&Severity| {
            let index = Category::ALL.iter().position(|category| category.wire() == one.category);
            index.and_then(|index| self.blocked_from[index]).is_some_and(|from| one.severity.unwrap_or(0) >= from)
        };
        let worst = answer.categories.iter().filter(blocked).max_by_key(|one| one.severity);
        Ok(worst.and_then(|one| Category::ALL.into_iter().find(|category| category.wire() == one.category)).map(Finding::Category))
    }
}

#[derive(Deserialize)]
struct Analysis {
    #[serde(rename = "blocklistsMatch")]
    blocklists: Option<Vec<Hit>>,
    #[serde(rename = "categoriesAnalysis")]
    categories: Vec<Severity>,
}

#[derive(Deserialize)]
struct Hit {
    #[serde(rename = "blocklistName")]
    name: String,
}

#[derive(Deserialize)]
struct Severity {
    category: String,
    severity: Option<u8>,
}

/// The body of `text:shieldPrompt` for texts of a person.
pub fn shield_prompt(text: &str) -> Vec<u8> {
    json!({ "userPrompt": text }).to_string().into_bytes()
}

/// The body of `text:shieldPrompt` for content from elsewhere.
pub fn shield_document(text: &str) -> Vec<u8> {
    json!({ "documents": [text] }).to_string().into_bytes()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shield {
    user_prompt_analysis: Option<Attack>,
    documents_analysis: Option<Vec<Attack>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attack {
    attack_detected: bool,
}

/// Whether the answer reports an attack.
///
/// # Errors
/// [`AnswerError`]
pub fn shield_judge(answer: &[u8]) -> Result<Option<Finding>, AnswerError> {
    let answer: Shield = serde_json::from_slice(answer)?;
    if answer.user_prompt_analysis.is_none() && answer.documents_analysis.is_none() {
        return Err(AnswerError::Missing("attacks"));
    }
    let attacks = answer.user_prompt_analysis.into_iter().chain(answer.documents_analysis.into_iter().flatten());
    Ok(attacks.into_iter().any(|attack| attack.attack_detected).then_some(Finding::Attack))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thresholds() -> Thresholds {
        Thresholds { blocked_from: [Some(2), None, Some(4), Some(6)], eight: false, blocklists: vec!["internal".to_owned()] }
    }

    #[test]
    fn it_asks_for_what_is_configured() {
        let asked: serde_json::Value = serde_json::from_slice(&thresholds().question("hi")).unwrap();
        assert_eq!(asked["categories"], json!(["Hate", "Sexual", "Violence"]));
        assert_eq!((&asked["outputType"], &asked["blocklistNames"]), (&json!("FourSeverityLevels"), &json!(["internal"])));
    }

    #[test]
    fn it_judges_by_the_thresholds() {
        let judged = |text: &str| thresholds().judge(text.as_bytes()).unwrap();
        // Three are asked for, so three are told.
        let one = |category: &str, severity: u8| {
            let result = |name: &str| json!({ "category": name, "severity": if name == category { severity } else { 0 } });
            let all: Vec<_> = ["Hate", "SelfHarm", "Sexual", "Violence"].into_iter().map(result).collect();
            json!({ "blocklistsMatch": [], "categoriesAnalysis": all }).to_string()
        };
        assert_eq!(judged(&one("Hate", 2)), Some(Finding::Category(Category::Hate)));
        assert_eq!(judged(&one("Hate", 0)), None);
        assert_eq!(judged(&one("Violence", 4)), None);
        assert_eq!(judged(&one("SelfHarm", 6)), None, "it isn't asked for");
        let listed =
            r#"{"blocklistsMatch":[{"blocklistName":"internal","blocklistItemId":"1","blocklistItemText":"x"}],"categoriesAnalysis":[]}"#;
        assert_eq!(judged(listed), Some(Finding::Blocklist("internal".to_owned())));
        for odd in ["{}", "[]", r#"{"categoriesAnalysis":[]}"#, r#"{"categoriesAnalysis":[{"category":"Hate","severity":0}]}"#] {
            assert!(thresholds().judge(odd.as_bytes()).is_err(), "{odd}");
        }
    }

    #[test]
    fn attacks_are_found_in_prompt_and_documents() {
        let result = |prompt: bool, document: bool| {
            let answer =
                json!({ "userPromptAnalysis": { "attackDetected": prompt }, "documentsAnalysis": [{ "attackDetected": document }] });
            shield_judge(answer.to_string().as_bytes()).unwrap()
        };
        assert_eq!(result(false, false), None);
        assert_eq!(result(true, false), Some(Finding::Attack));
        assert_eq!(result(false, true), Some(Finding::Attack));
        assert!(shield_judge(b"[]").is_err() && shield_judge(b"{}").is_err());
    }
}
