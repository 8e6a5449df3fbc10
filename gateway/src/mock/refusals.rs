//! The answers of faults that refuse a request, in Azure's words.

use http::StatusCode;
use serde_json::{Value, json};

use super::fault::MockFault;

/// Status and body; `None` for faults of another kind.
pub(super) fn of(fault: MockFault) -> Option<(StatusCode, Value)> {
    let plain = |code: &str, message: &str| json!({ "error": { "code": code, "message": message } });
    let (status, body) = match fault {
        MockFault::Status(401) => (401, plain("401", KEY)),
        MockFault::Status(403) => (403, plain("PermissionDenied", ROLE)),
        MockFault::Status(status) => (status, plain(&status.to_string(), FAILED)),
        MockFault::ThrottleSilently => (429, plain("429", FULL)),
        MockFault::ContentFilter => {
            let result = json!({ "hate": { "filtered": false, "severity": "safe" }, "violence": { "filtered": true, "severity": "high" } });
            let inner = json!({ "code": "ResponsibleAIPolicyViolation", "content_filter_result": result });
            (
                400,
                json!({ "error": { "code": "content_filter", "message": FILTERED, "type": null, "param": "prompt", "status": 400, "innererror": inner } }),
            )
        }
        MockFault::TooLong => {
            let code = "context_length_exceeded";
            (400, json!({ "error": { "code": code, "message": LONG, "type": "invalid_request_error", "param": "messages" } }))
        }
        _ => return None,
    };
    Some((StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), body))
}

const KEY: &str = "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active subscription and use a correct regional API endpoint for your resource.";
const ROLE: &str = "The principal lacks the required data action `Microsoft.CognitiveServices/accounts/OpenAI/deployments/chat/completions/action` to perform this operation.";
const FAILED: &str = "The server had an error while processing your request. Sorry about that!";
const FULL: &str = "Requests to the ChatCompletions_Create Operation under Azure OpenAI API have exceeded the call rate limit of your current OpenAI pricing tier.";
const FILTERED: &str =
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your prompt and retry.";
const LONG: &str = "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. Please reduce the length of the messages.";
