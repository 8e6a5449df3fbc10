//! `GET /api/audit`: the latest administrative acts.

use http::StatusCode;
use serde_json::json;

use super::answer::{Answer, json_answer, problem};
use super::parameter::parameter;
use super::state::Admin;
use crate::audit::AuditError;
use crate::ledger::usage::parse_time;

/// Acts in an answer: unless the request says so, and at most.
const ACTS: (usize, usize) = (100, 1000);

impl Admin {
    /// The latest acts: `?since=24h&limit=100`.
    pub(super) async fn audit(&self, query: &str) -> Answer {
        let now = self.gateway.clock.wall_millis();
        let since = parameter(query, "since").map(|text| parse_time(&text, now)).transpose();
        let limit = match parameter(query, "limit").map(|text| text.parse::<usize>()) {
            None => ACTS.0,
            Some(Ok(limit)) if (1..=ACTS.1).contains(&limit) => limit,
            Some(_) => return problem(StatusCode::BAD_REQUEST, "'limit' must be a number from 1 to 1000"),
        };
        let since = match since {
            Ok(since) => since.unwrap_or(0),
            Err(error) => return problem(StatusCode::BAD_REQUEST, &format!("'since': {error}")),
        };
        match self.gateway.audit.newest(since, limit).await {
            Ok(acts) => json_answer(StatusCode::OK, &json!({ "acts": acts })),
            Err(error @ AuditError::NoFolder) => problem(StatusCode::NOT_FOUND, &error.to_string()),
            Err(error) => problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        }
    }
}
