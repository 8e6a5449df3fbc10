//! The names of OpenTelemetry's semantic conventions, for spans and for the prompt log's events. They are defined only
//! here, because they change.
//!
//! Source: semantic conventions v1.41, the last release whose text has the `gen_ai` names (all of them in development);
//! `http`, `url`, `server`, `error` and `service` are stable.

/// The event with prompt and answer.
pub const EVENT: &str = "gen_ai.client.inference.operation.details";

/// `chat`, `text_completion` and so on.
pub const OPERATION: &str = "gen_ai.operation.name";
/// The vendor of the model.
pub const PROVIDER: &str = "gen_ai.provider.name";
/// The model asked for.
pub const REQUEST_MODEL: &str = "gen_ai.request.model";
/// Whether a stream was asked for.
pub const REQUEST_STREAM: &str = "gen_ai.request.stream";
/// Most tokens of an answer.
pub const REQUEST_MAX_TOKENS: &str = "gen_ai.request.max_tokens";
/// The number of answers.
pub const REQUEST_CHOICES: &str = "gen_ai.request.choice.count";
/// The finish reasons.
pub const FINISH_REASONS: &str = "gen_ai.response.finish_reasons";
/// Time to a stream's first output, in seconds.
pub const FIRST_CHUNK: &str = "gen_ai.response.time_to_first_chunk";
/// All input tokens.
pub const INPUT_TOKENS: &str = "gen_ai.usage.input_tokens";
/// All output tokens.
pub const OUTPUT_TOKENS: &str = "gen_ai.usage.output_tokens";
/// Of the input: read from the provider's cache.
pub const CACHE_READ_TOKENS: &str = "gen_ai.usage.cache_read.input_tokens";
/// Of the input: written to the provider's cache.
pub const CACHE_CREATION_TOKENS: &str = "gen_ai.usage.cache_creation.input_tokens";
/// Of the output: reasoning.
pub const REASONING_TOKENS: &str = "gen_ai.usage.reasoning.output_tokens";
/// Instructions.
pub const SYSTEM_INSTRUCTIONS: &str = "gen_ai.system_instructions";
/// The prompt.
pub const INPUT_MESSAGES: &str = "gen_ai.input.messages";
/// The answer.
pub const OUTPUT_MESSAGES: &str = "gen_ai.output.messages";
/// Which of OpenAI's APIs.
pub const OPENAI_API: &str = "openai.api.type";

/// The method.
pub const METHOD: &str = "http.request.method";
/// The path's template.
pub const ROUTE: &str = "http.route";
/// The status.
pub const STATUS: &str = "http.response.status_code";
/// The host that a request is sent to.
pub const SERVER_ADDRESS: &str = "server.address";
/// Its port.
pub const SERVER_PORT: &str = "server.port";
/// The error: few different values.
pub const ERROR_TYPE: &str = "error.type";

/// The program.
pub const SERVICE_NAME: &str = "service.name";
/// Its version.
pub const SERVICE_VERSION: &str = "service.version";
/// The name of the process.
pub const SERVICE_INSTANCE: &str = "service.instance.id";

/// The request's id.
pub const REQUEST_ID: &str = "spillway.request.id";
/// The consumer.
pub const CONSUMER: &str = "spillway.consumer";
/// The pool.
pub const POOL: &str = "spillway.pool";
/// How a request ended.
pub const END: &str = "spillway.end";
/// The error code, if the gateway answered itself.
pub const CODE: &str = "spillway.code";
/// The result of the cache.
pub const CACHE: &str = "spillway.cache";
/// The number of attempts.
pub const ATTEMPTS: &str = "spillway.attempts";
/// The gateway's own time until the first output, in seconds.
pub const OVERHEAD: &str = "spillway.overhead";
/// The backend.
pub const BACKEND: &str = "spillway.backend";
/// The deployment there.
pub const DEPLOYMENT: &str = "spillway.deployment";
/// The tier.
pub const TIER: &str = "spillway.tier";
/// The location of the backend.
pub const LOCATION: &str = "spillway.location";
/// The number of the attempt in its request, from 1.
pub const ATTEMPT: &str = "spillway.attempt";
/// The outcome of an attempt.
pub const OUTCOME: &str = "spillway.outcome";
/// How long the request waited for a target before this attempt, in seconds.
pub const WAITED: &str = "spillway.waited";

/// Azure's models.
pub const AZURE: &str = "azure.ai.openai";
/// OpenAI's.
pub const OPENAI: &str = "openai";
/// Anthropic's.
pub const ANTHROPIC: &str = "anthropic";

/// The operation of an API, by its label; `None` if it doesn't call a model.
pub fn operation(api: &str) -> Option<&'static str> {
    match api {
        "completions" => Some("text_completion"),
        "embeddings" => Some("embeddings"),
        "images" | "audio" => Some("generate_content"),
        "chat" | "responses" | "messages" | "realtime" => Some("chat"),
        _ => None,
    }
}

/// Which of OpenAI's APIs it is, by its label.
pub fn openai_api(api: &str) -> Option<&'static str> {
    match api {
        "chat" => Some("chat_completions"),
        "responses" => Some("responses"),
        _ => None,
    }
}
