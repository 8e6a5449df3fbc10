//! Rows of Azure API Management's logs in Log Analytics: `ApiManagementGatewayLogs`, joined by `CorrelationId` with
//! `ApiManagementGatewayLlmLog`, which has the tokens.
//!
//! Columns as in <https://learn.microsoft.com/azure/azure-monitor/reference/tables/apimanagementgatewaylogs>: `TimeGenerated`,
//! `CorrelationId`, `ApimSubscriptionId`, `BackendId`, `BackendUrl`, `BackendResponseCode`, `ResponseCode`, `TotalTime` (ms; in
//! `AzureDiagnostics` `DurationMs`), `Cache`, `Url`; and
//! <https://learn.microsoft.com/azure/azure-monitor/reference/tables/apimanagementgatewayllmlog>: `CorrelationId`, `DeploymentName`,
//! `ModelName`, `PromptTokens`, `CompletionTokens`. A row that is already joined has all of them. The log has one backend per request:
//! the last one that was asked.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use spillway_plugins::tokens::Usage;

use super::foreign_row::{Row, last_part, time};
use super::records::{Record, count, number, text};

/// Most rows that wait for their other half; the oldest are used as they are.
const WAITING: usize = 100_000;

/// The tokens of a request.
#[derive(Debug, Clone)]
struct Tokens {
    models: Vec<String>,
    usage: Usage,
}

/// Joins the two tables.
#[derive(Debug, Default)]
pub(super) struct Join {
    /// Requests without tokens, by their correlation id.
    requests: HashMap<String, Row>,
    /// The same in the order in which they came; some are gone already.
    order: VecDeque<String>,
    /// Tokens without a request.
    tokens: HashMap<String, Tokens>,
    /// How many tokens had no place to wait.
    pub(super) unmatched: u64,
}

impl Join {
    /// Takes a row. Returns the request, if it is complete.
    ///
    /// # Errors
    /// What is wrong with the row.
    pub(super) fn take(&mut self, record: &Record) -> Result<Option<Row>, String> {
        let id = text(record, "CorrelationId").map(str::to_owned);
        let tokens = tokens(record);
        if record.get("ResponseCode").is_none_or(serde_json::Value::is_null) {
            let (Some(id), Some(tokens)) = (id, tokens) else {
                // Parts of prompts and answers are rows of the same table, without tokens.
                return match record.contains_key("SequenceNumber") {
                    true => Ok(None),
                    false => Err("it has neither a ResponseCode nor a CorrelationId with PromptTokens".to_owned()),
                };
            };
            if let Some(row) = self.requests.remove(&id) {
                return Ok(Some(with(row, tokens)));
            }
            match self.tokens.len() < WAITING {
                true => drop(self.tokens.insert(id, tokens)),
                false => self.unmatched += 1,
            }
            return Ok(None);
        }
        let row = request(record)?;
        let tokens = tokens.or_else(|| self.tokens.remove(id.as_ref()?));
        match (tokens, id) {
            (Some(tokens), _) => Ok(Some(with(row, tokens))),
            // Its tokens may still come.
            (None, Some(id)) if row.status.is_some_and(|status| status < 300) && !row.is_cached => {
                self.order.push_back(id.clone());
                self.requests.insert(id, row);
                Ok(None)
            }
            (None, _) => Ok(Some(row)),
        }
    }

    /// A request that doesn't wait for its tokens any longer: all, at the end.
    pub(super) fn ready(&mut self, is_over: bool) -> Option<Row> {
        while is_over || self.requests.len() > WAITING {
            let Some(id) = self.order.pop_front() else { break };
            if let Some(row) = self.requests.remove(&id) {
                return Some(row);
            }
        }
        if is_over {
            self.unmatched += self.tokens.drain().count() as u64;
        }
        None
    }
}

fn with(row: Row, tokens: Tokens) -> Row {
    let backend = row.backend.map(|(backend, deployment, status)| {
        let deployment = if deployment.is_empty() { tokens.models.first().cloned().unwrap_or_default() } else { deployment };
        (backend, deployment, status)
    });
    // The path names what the caller asked for.
    let models = row.models.into_iter().chain(tokens.models).collect();
    Row { models, usage: Some(tokens.usage), backend, ..row }
}

fn tokens(record: &Record) -> Option<Tokens> {
    let (input, output) = (count(record, "PromptTokens")?, count(record, "CompletionTokens").unwrap_or(0));
    // Joined rows of requests that failed have zeros.
    if input == 0 && output == 0 {
        return None;
    }
    let models = ["DeploymentName", "ModelName"].into_iter().filter_map(|name| text(record, name)).map(str::to_owned).collect();
    Some(Tokens { models, usage: Usage { input, output, ..Usage::default() } })
}

fn request(record: &Record) -> Result<Row, String> {
    let when = text(record, "TimeGenerated").or_else(|| text(record, "TimeGenerated [UTC]")).ok_or("it has no TimeGenerated")?;
    let at = time(when).ok_or_else(|| format!("TimeGenerated '{when}' is not a time"))?;
    let status_of = |name: &str| count(record, name).and_then(|status| u16::try_from(status).ok()).filter(|status| *status >= 100);
    let status = status_of("ResponseCode").ok_or("its ResponseCode is not a status")?;
    let answered = status_of("BackendResponseCode");
    let milliseconds = number(record, "TotalTime").or_else(|| number(record, "DurationMs"));
    let took = milliseconds.and_then(|milliseconds| Duration::try_from_secs_f64(milliseconds / 1e3).ok());
    let url = text(record, "BackendUrl").or_else(|| text(record, "Url")).unwrap_or_default();
    let in_path = |url: &str| Some(url.split_once("/deployments/")?.1.split(['/', '?']).next()?.to_owned());
    let asked = text(record, "Url").and_then(in_path).or_else(|| in_path(url));
    let deployment = in_path(url).or_else(|| text(record, "DeploymentName").map(str::to_owned)).unwrap_or_default();
    let backend = text(record, "BackendUrl").or_else(|| text(record, "BackendId")).map(str::to_owned);
    let mut models: Vec<String> = asked.into_iter().collect();
    models.extend(["DeploymentName", "ModelName"].into_iter().filter_map(|name| text(record, name)).map(str::to_owned));
    Ok(Row {
        at,
        models,
        consumer: text(record, "ApimSubscriptionId").map(|id| last_part(id).to_owned()),
        api: None,
        usage: None,
        took,
        backend: backend.zip(answered).map(|(backend, status)| (backend, deployment, status)),
        status: Some(status),
        is_limited: matches!(status, 403 | 429) && answered.is_none(),
        is_cached: text(record, "Cache").is_some_and(|cache| cache.eq_ignore_ascii_case("hit")),
        cost: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn record(value: &Value) -> Record {
        value.as_object().cloned().unwrap_or_default()
    }

    fn gateway(id: &str, status: u16, backend_status: Value) -> Value {
        json!({
            "TimeGenerated": "2026-11-01T08:00:00.1234567Z", "CorrelationId": id, "ResponseCode": status, "BackendResponseCode": backend_status,
            "BackendId": "ptu-sweden", "BackendUrl": "https://sweden.openai.azure.com/openai/deployments/gpt4o-ptu/chat/completions?api-version=1",
            "Url": "https://apim.example/openai/deployments/gpt-4o/chat/completions?api-version=1", "TotalTime": 2500,
            "ApimSubscriptionId": "/subscriptions/crm", "Cache": "none",
        })
    }

    fn llm(id: &str) -> Value {
        json!({ "CorrelationId": id, "SequenceNumber": 0, "DeploymentName": "gpt4o-ptu", "ModelName": "gpt-4o-2024-11-20", "PromptTokens": 900, "CompletionTokens": 80 })
    }

    #[test]
    fn both_tables_are_joined_in_any_order() {
        let mut join = Join::default();
        assert_eq!(join.take(&record(&gateway("a", 200, json!(200)))).unwrap(), None);
        let row = join.take(&record(&llm("a"))).unwrap().unwrap();
        assert_eq!(join.take(&record(&llm("b"))).unwrap(), None);
        assert_eq!(join.take(&record(&gateway("b", 200, json!(200)))).unwrap().unwrap(), row);
        let mut joined = gateway("c", 200, json!(200));
        joined.as_object_mut().unwrap().extend(record(&llm("c")));
        let of_one_row = join.take(&record(&joined)).unwrap().unwrap();
        assert_eq!((of_one_row.usage, &of_one_row.backend), (row.usage, &row.backend));
        assert_eq!(row.models, ["gpt-4o", "gpt4o-ptu", "gpt-4o-2024-11-20"]);
        assert_eq!((row.usage.unwrap().input, row.consumer.as_deref(), row.took), (900, Some("crm"), Some(Duration::from_millis(2500))));
        let (backend, deployment, status) = row.backend.unwrap();
        assert!(backend.starts_with("https://sweden.openai.azure.com/") && deployment == "gpt4o-ptu" && status == 200);
        assert_eq!((join.ready(true), join.unmatched), (None, 0));
    }

    #[test]
    fn refusals_have_no_tokens_and_gaps_are_counted() {
        let mut join = Join::default();
        let by_backend = join.take(&record(&gateway("a", 429, json!(429)))).unwrap().unwrap();
        assert!(by_backend.usage.is_none() && !by_backend.is_limited);
        let by_policy = join.take(&record(&gateway("b", 429, Value::Null))).unwrap().unwrap();
        assert!(by_policy.is_limited && by_policy.backend.is_none());
        assert_eq!(join.take(&record(&gateway("c", 200, json!(200)))).unwrap(), None);
        assert_eq!(join.take(&record(&llm("nowhere"))).unwrap(), None);
        assert_eq!(join.take(&record(&json!({ "CorrelationId": "a", "SequenceNumber": 1, "RequestMessages": "..." }))).unwrap(), None);
        assert!(join.take(&record(&json!({ "Level": 4 }))).is_err());
        let late = join.ready(true).unwrap();
        assert_eq!((late.status, late.usage), (Some(200), None));
        assert_eq!((join.ready(true), join.unmatched), (None, 1));
    }
}
