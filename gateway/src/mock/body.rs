//! What the mock reads of a request's body: a few numbers and short texts, however long the body is.

use spillway_plugins::fnv::fnv1a;
use spillway_plugins::json::{JsonError, Kind, Reader, Value};
use spillway_plugins::service_tier::ServiceTier;

use super::prompt_cache::add_beginnings;

/// The members that count as the prompt.
const PROMPT: [&str; 5] = ["messages", "input", "prompt", "system", "instructions"];
/// Most inputs of one request for embeddings, as at OpenAI.
const INPUTS: usize = 2048;
/// Longest text that is decoded, and longest instructions that are repeated in the answer.
const REPEATED: usize = 16 * 1024;

/// A request's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Body {
    /// `model`
    pub model: Option<String>,
    /// Whether there are `messages`.
    pub has_messages: bool,
    /// `stream`
    pub stream: bool,
    /// `stream_options.include_usage`
    pub include_usage: bool,
    /// `n`
    pub choices: u64,
    /// The completion cap, under any of its names.
    pub completion_cap: Option<u64>,
    /// Tokens of the prompt, estimated.
    pub prompt_tokens: u64,
    /// `service_tier`
    pub service_tier: Option<ServiceTier>,
    /// Those of them that the deployment had cached.
    pub cached_tokens: u64,
    /// A number for each of the prompt's beginnings that may be cached.
    pub beginnings: Vec<u64>,
    /// `instructions`, if they are a short text.
    pub instructions: Option<String>,
    /// `dimensions` of embeddings.
    pub dimensions: usize,
    /// `encoding_format` is `base64`.
    pub base64: bool,
    /// A number for each text to embed; `None` if there are too many.
    pub inputs: Option<Vec<u64>>,
}

impl Default for Body {
    fn default() -> Self {
        Body {
            model: None,
            has_messages: false,
            stream: false,
            include_usage: false,
            choices: 1,
            completion_cap: None,
            prompt_tokens: PROMPT.len() as u64,
            service_tier: None,
            cached_tokens: 0,
            beginnings: Vec::new(),
            instructions: None,
            dimensions: 1536,
            base64: false,
            inputs: Some(vec![fnv1a(*b"null")]),
        }
    }
}

impl Body {
    /// Reads a body.
    ///
    /// # Errors
    /// If it is not a JSON object.
    pub fn read(text: &[u8]) -> Result<Body, JsonError> {
        let mut body = Body::default();
        let mut caps = [None; 3];
        let mut prompt_bytes = 0;
        let mut reader = Reader::new(text);
        reader.object(|name, value| match name {
            "model" => body.model = value.as_str(text).map(Into::into),
            "stream" => body.stream = value.as_bool(text) == Some(true),
            "stream_options" => body.include_usage = includes_usage(text, &value),
            "service_tier" => body.service_tier = value.as_str(text).and_then(|tier| ServiceTier::read(&tier)),
            "n" => body.choices = value.as_u64(text).unwrap_or(1),
            "max_completion_tokens" => caps[0] = value.as_u64(text),
            "max_output_tokens" => caps[1] = value.as_u64(text),
            "max_tokens" => caps[2] = value.as_u64(text),
            "dimensions" => {
                body.dimensions = value.as_u64(text).and_then(|number| usize::try_from(number).ok()).unwrap_or(1536).clamp(1, 4096)
            }
            "encoding_format" => body.base64 = value.as_str(text).as_deref() == Some("base64"),
            name if PROMPT.contains(&name) => {
                body.has_messages |= name == "messages";
                // A missing member counts as `null`.
                body.prompt_tokens += (length(value.bytes(text)) / 4).saturating_sub(1);
                add_beginnings(&mut body.beginnings, prompt_bytes, value.bytes(text));
                prompt_bytes += value.range.len();
                match name {
                    "instructions" if value.range.len() <= REPEATED => body.instructions = value.as_str(text).map(Into::into),
                    "input" => body.inputs = inputs(text, &value),
                    _ => {}
                }
            }
            _ => {}
        })?;
        reader.end()?;
        body.completion_cap = caps.into_iter().flatten().next();
        Ok(body)
    }
}

fn includes_usage(text: &[u8], options: &Value) -> bool {
    let mut includes = false;
    if options.kind == Kind::Object {
        // The text was parsed before, so this can't fail.
        let _ = Reader::within(text, options).object(|name, value| {
            if name == "include_usage" {
                includes = value.as_bool(text) == Some(true);
            }
        });
    }
    includes
}

/// A number for each text, or list of tokens, to embed.
fn inputs(text: &[u8], input: &Value) -> Option<Vec<u64>> {
    // Decoding a long text would need as much memory again.
    let short = |value: &Value| (value.range.len() <= REPEATED).then(|| value.as_str(text)).flatten();
    let number = |value: &Value| fnv1a(short(value).as_deref().map_or(value.bytes(text), str::as_bytes).iter().copied());
    let (mut numbers, mut count, mut many) = (Vec::new(), 0, true);
    if input.kind == Kind::Array {
        let _ = Reader::within(text, input).array(|one| {
            // A list of tokens is one text.
            many &= matches!(one.kind, Kind::String | Kind::Array);
            count += 1;
            if count <= INPUTS {
                numbers.push(number(&one));
            }
        });
    }
    match () {
        () if input.kind != Kind::Array || !many => Some(vec![number(input)]),
        () => Some(numbers).filter(|_| count <= INPUTS),
    }
}

/// The length of a JSON text without white space between its parts.
fn length(text: &[u8]) -> u64 {
    let (mut string, mut escaped) = (false, false);
    let mut counts = |byte: &&u8| {
        let counts = string || !byte.is_ascii_whitespace();
        string ^= **byte == b'"' && !escaped;
        escaped = string && **byte == b'\\' && !escaped;
        counts
    };
    text.iter().filter(|byte| counts(byte)).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_members_are_read() {
        let text = br#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"n":3,"max_tokens":7,"max_output_tokens":5,
            "messages":[ { "role" : "user", "content": "a b\" c" } ], "instructions": "be kind"}"#;
        let body = Body::read(text).unwrap();
        let compact = r#"[{"role":"user","content":"a b\" c"}]"#.len() as u64 / 4 + r#""be kind""#.len() as u64 / 4 + 3;
        assert_eq!((body.stream, body.include_usage, body.choices, body.completion_cap), (true, true, 3, Some(5)));
        assert_eq!((body.model.as_deref(), body.instructions.as_deref(), body.prompt_tokens), (Some("m"), Some("be kind"), compact));
        assert_eq!(Body::read(b"{}").unwrap(), Body::default());
        assert!(Body::read(b"[]").is_err() && Body::read(b"{} x").is_err());
    }

    #[test]
    fn inputs_are_counted_before_vectors_are_made() {
        let inputs = |input: &str| Body::read(format!("{{\"input\":{input}}}").as_bytes()).unwrap().inputs.map(|inputs| inputs.len());
        assert_eq!(inputs("\"a\""), Some(1));
        assert_eq!(inputs("[\"a\",\"b\"]"), Some(2));
        assert_eq!(inputs("[1,2,3]"), Some(1));
        assert_eq!(inputs("[[1,2],[3]]"), Some(2));
        assert_eq!(inputs(&format!("[{}\"a\"]", "\"a\",".repeat(INPUTS))), None);
        assert_eq!(inputs(&format!("[{}\"a\"]", "\"a\",".repeat(INPUTS - 1))), Some(INPUTS));
    }
}
