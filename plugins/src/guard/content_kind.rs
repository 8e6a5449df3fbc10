//! The places in a request that are known to contain no text. This is the only list of such places: everything else is
//! read.

use crate::api::Api;

/// How the content of an object or array is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentKind {
    /// The body itself.
    Top,
    /// Messages, or the items of a response's input.
    Messages,
    /// Separate texts: several inputs of one request.
    Inputs,
    /// A structure that the API defines: a message, a part, a tool.
    Form,
    /// Settings of the API: short words, which are not texts.
    Settings,
    /// Settings of Azure's data sources. They include credentials.
    Sources,
    /// The caller's own structure: arguments, schemas, documents. Names count as texts here, too.
    Own,
    /// An unknown structure within a message: read like [`ContentKind::Own`], and as a part of the message.
    Unknown,
    /// Contains no text.
    Silent,
}

/// The kind of a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaf {
    /// A text that the model reads together with its neighbours.
    Said,
    /// Possibly such a text.
    Perhaps,
    /// A text that is read separately.
    Alone,
    /// The role of a message.
    Role,
    /// The type of a part.
    Type,
    /// The type of a value in a schema.
    SchemaType,
    /// A name, an id or a word of the API.
    Word,
    /// An address, or encoded bytes after a scheme.
    Address,
    /// Encoded bytes, if the part's type says so; otherwise a text.
    Bytes,
    /// Encoded bytes.
    Sealed,
    /// Not a text.
    Silent,
}

/// The place of a member's value, and its kind if it is a string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spot {
    pub(super) place: ContentKind,
    pub(super) leaf: Leaf,
    /// Whether the caller chose the member's name: then the name counts as a text.
    pub(super) named: bool,
}

impl Spot {
    const fn known(place: ContentKind, leaf: Leaf) -> Self {
        Spot { place, leaf, named: false }
    }
}

/// Members of the body that a model reads and that can't be read here: texts in another form.
pub(super) const SEALED: [&str; 6] = ["prompt_embeds", "input_embeds", "prompt_token_ids", "input_ids", "token_ids", "prompt_tokens"];

/// Names with a meaning in a schema: they are not texts.
const SCHEMA: [&str; 24] = [
    "type",
    "properties",
    "required",
    "items",
    "enum",
    "const",
    "description",
    "title",
    "default",
    "examples",
    "anyOf",
    "oneOf",
    "allOf",
    "not",
    "format",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "additionalProperties",
    "$defs",
];

/// The place of a member's value, from the place of the member.
pub(super) fn spot(api: Api, at: ContentKind, name: &str) -> Spot {
    match at {
        ContentKind::Silent => Spot::known(ContentKind::Silent, Leaf::Silent),
        ContentKind::Settings => setting(name),
        ContentKind::Own => {
            let leaf = if name == "type" { Leaf::SchemaType } else { Leaf::Alone };
            Spot { place: at, leaf, named: !SCHEMA.contains(&name) }
        }
        ContentKind::Unknown => Spot { place: at, leaf: Leaf::Perhaps, named: true },
        ContentKind::Top => top(api, name),
        ContentKind::Sources => match name {
            "parameters" => Spot::known(ContentKind::Sources, Leaf::Alone),
            "type" | "role_information" => form(at, name),
            "authentication" | "embedding_dependency" => Spot::known(ContentKind::Silent, Leaf::Silent),
            _ => Spot { place: ContentKind::Sources, leaf: Leaf::Alone, named: !is_word(name) },
        },
        ContentKind::Messages | ContentKind::Inputs | ContentKind::Form => form(at, name),
    }
}

fn top(api: Api, name: &str) -> Spot {
    match name {
        "messages" => Spot::known(ContentKind::Messages, Leaf::Said),
        "input" if matches!(api, Api::Responses | Api::Chat | Api::Messages) => Spot::known(ContentKind::Messages, Leaf::Said),
        // A stored prompt has an id and variables.
        "prompt" if api == Api::Responses => Spot::known(ContentKind::Form, Leaf::Alone),
        "input" | "prompt" => Spot::known(ContentKind::Inputs, Leaf::Alone),
        // The caller's identity and labels: models don't get them.
        "metadata" | "user" | "safety_identifier" | "prompt_cache_key" | "logit_bias" => Spot::known(ContentKind::Silent, Leaf::Silent),
        "model"
        | "models"
        | "fallbacks"
        | "voice"
        | "service_tier"
        | "truncation"
        | "include"
        | "modalities"
        | "size"
        | "quality"
        | "style"
        | "background"
        | "moderation"
        | "output_format"
        | "response_format_type"
        | "encoding_format"
        | "reasoning_effort"
        | "verbosity"
        | "inference_geo"
        | "prompt_cache_retention"
        | "previous_response_id"
        | "stream_format" => Spot::known(ContentKind::Settings, Leaf::Word),
        "reasoning" | "thinking" | "stream_options" | "audio" | "tool_choice" | "function_call" | "web_search_options" | "conversation"
        | "container" | "context_management" | "output_config" | "thread" | "diagnostics" => Spot::known(ContentKind::Settings, Leaf::Word),
        "data_sources" => Spot::known(ContentKind::Sources, Leaf::Alone),
        _ => form(ContentKind::Top, name),
    }
}

/// Members of settings. Some of them are texts that a model reads, or structures with such texts: the form of an answer,
/// instructions for a summary, a place to search from.
fn setting(name: &str) -> Spot {
    match name {
        "schema" | "json_schema" | "instructions" | "system" | "prompt" | "user_location" | "messages" | "content" | "text"
        | "description" => form(ContentKind::Form, name),
        // A word (`mp3`), or a schema.
        "format" => Spot::known(ContentKind::Form, Leaf::Word),
        _ => Spot { place: ContentKind::Settings, leaf: Leaf::Word, named: !is_word(name) },
    }
}

/// Members of a structure, by name only: dialects take them from one another, without contradictions.
fn form(at: ContentKind, name: &str) -> Spot {
    match name {
        "content" | "text" | "refusal" | "thinking" | "reasoning_content" | "reasoning" | "summary" | "transcript" | "output"
        | "instructions" | "system" | "suffix" | "stdout" | "stderr" | "input_text" | "output_text" | "role_information" => {
            Spot::known(ContentKind::Form, Leaf::Said)
        }
        "role" => Spot::known(ContentKind::Own, Leaf::Role),
        "type" => Spot::known(ContentKind::Own, Leaf::Type),
        "id"
        | "tool_call_id"
        | "tool_use_id"
        | "call_id"
        | "item_id"
        | "file_id"
        | "file_ids"
        | "vector_store_ids"
        | "container_id"
        | "skill_id"
        | "approval_request_id"
        | "encrypted_index"
        | "model"
        | "status"
        | "phase"
        | "detail"
        | "media_type"
        | "mime_type"
        | "cache_control"
        | "syntax"
        | "require_approval"
        | "server_label"
        | "connector_id"
        | "prompt_cache_breakpoint"
        | "version"
        | "execution"
        | "ttl" => Spot::known(ContentKind::Settings, Leaf::Word),
        // Credentials for tool servers. Neither a model nor a service needs them.
        "authorization" | "authorization_token" | "headers" => Spot::known(ContentKind::Silent, Leaf::Silent),
        "url" | "image_url" | "file_url" | "audio_url" | "video_url" | "server_url" | "file_data" => {
            Spot::known(ContentKind::Form, Leaf::Address)
        }
        "data" | "result" => Spot::known(ContentKind::Form, Leaf::Bytes),
        "encrypted_content" | "signature" | "b64_json" | "partial_image_b64" => Spot::known(ContentKind::Form, Leaf::Sealed),
        "name" | "title" | "context" | "description" | "server_description" | "code" | "arguments" | "filename" | "query" | "reason"
        | "definition" | "cited_text" | "document_title" | "file_name" | "logs" | "error" | "action" | "actions" | "operation"
        | "queries" | "command" | "commands" | "patch" | "diff" | "path" => {
            let place = if matches!(name, "arguments" | "action" | "actions" | "operation" | "error") {
                ContentKind::Own
            } else {
                ContentKind::Form
            };
            Spot::known(place, Leaf::Alone)
        }
        // The input of a call: an object, or a text.
        "input" => Spot::known(ContentKind::Own, Leaf::Alone),
        "parameters" | "schema" | "input_schema" | "output_schema" | "input_examples" | "variables" => {
            Spot::known(ContentKind::Own, Leaf::Alone)
        }
        "tools" | "functions" | "function" | "custom" | "tool_calls" | "function_call" | "mcp_servers" | "response_format"
        | "json_schema" | "format" | "grammar" | "prediction" | "source" | "citations" | "annotations" | "input_audio" | "audio"
        | "file" | "outputs" | "results" | "outcome" | "filters" | "tool_configuration" | "user_location" | "allowed_tools" | "caller" => {
            Spot::known(ContentKind::Form, Leaf::Alone)
        }
        // Unknown, so it is read.
        _ if at == ContentKind::Form || at == ContentKind::Messages => {
            Spot { place: ContentKind::Unknown, leaf: Leaf::Perhaps, named: true }
        }
        _ => Spot { place: ContentKind::Own, leaf: Leaf::Alone, named: !KNOWN_TOP.contains(&name) },
    }
}

/// Members of the body whose values are read and whose names are defined by the API.
const KNOWN_TOP: [&str; 18] = [
    "stop",
    "stop_sequences",
    "documents",
    "chat_template",
    "chat_template_kwargs",
    "stream",
    "temperature",
    "top_p",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n",
    "seed",
    "store",
    "parallel_tool_calls",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
];

/// Whether a string can be a name, an id or a word of an API: it has no spaces, and only letters of our alphabet.
pub(super) fn is_word(text: &str) -> bool {
    text.len() <= 256 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether a string is an address, or encoded bytes after a scheme.
pub(super) fn is_address(text: &str) -> bool {
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    matches!(scheme, "http" | "https" | "data" | "gs" | "s3" | "file" | "azureblob") && text.bytes().all(|byte| byte.is_ascii_graphic())
        || is_encoded(text)
}

/// Whether a string is encoded bytes: long, and only with characters of base64.
pub(super) fn is_encoded(text: &str) -> bool {
    text.len() >= SHORTEST && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_\r\n".contains(&byte))
}

/// The shortest string that may count as encoded bytes by its characters. Reading bytes as text does no harm.
const SHORTEST: usize = 256;
