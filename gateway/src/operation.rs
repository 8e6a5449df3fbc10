//! Parses the request line: which API, in which dialect, for which model.

use std::borrow::Cow;

use http::Method;
use spillway_plugins::api::{Api, Dialect, Part};
use spillway_plugins::objects::is_name;

/// Why a request line is not a known operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperationError {
    /// No such path.
    UnknownPath {
        /// The path.
        path: String,
    },
    /// The path needs another method.
    WrongMethod {
        /// The methods that the path allows.
        allowed: &'static str,
    },
    /// It would make a client secret.
    NoSecrets,
}

/// What a caller wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// `GET …/models`
    ListModels(Dialect),
    /// `GET …/models/{id}`
    GetModel(Dialect, String),
    /// `GET /v1/usage`: the caller's own usage.
    Usage,
    /// A request to a model.
    Inference(Inference),
    /// A request about something that a backend stores.
    Object(ObjectOperation),
}

/// A request about something that a backend stores.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectOperation {
    /// Its kind.
    pub api: Api,
    /// The dialect of the request.
    pub dialect: Dialect,
    /// The path below the API's root, such as `responses/resp_1/cancel`.
    pub path: String,
    /// The object's name in the path; `None` if the request creates one.
    pub name: Option<String>,
    /// The model, where the path names it (Azure's Node client does for batches).
    pub model: Option<String>,
}

/// A request to a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inference {
    /// The operation.
    pub api: Api,
    /// Which sub-operation, if it is not the answer itself.
    pub part: Option<Part>,
    /// The dialect of the request.
    pub dialect: Dialect,
    /// The model's name, where the URL has it.
    pub model: Option<String>,
}

/// The dialect of errors for a path, known even for unknown paths.
pub fn dialect_of(path: &str) -> Dialect {
    if path.starts_with("/openai/") {
        Dialect::Azure
    } else if path.starts_with("/anthropic/") || rooted(path).starts_with("/v1/messages") {
        Dialect::Anthropic
    } else {
        Dialect::OpenAi
    }
}

/// The path with one `/v1`, where a base URL has it twice or not at all.
fn rooted(path: &str) -> Cow<'_, str> {
    let below = path.strip_prefix("/v1").filter(|below| below.starts_with("/v1/"));
    match below {
        Some(below) => below.into(),
        None if path.starts_with("/v1/") || path.starts_with("/openai/") => path.into(),
        None => format!("/v1{path}").into(),
    }
}

/// For a path with nothing at it: the path that a client with the right base URL would have asked for, if there is one.
pub fn meant(path: &str) -> Option<String> {
    let meant = rooted(path);
    let is_there = |method: &Method| !matches!(read(method, &meant, None), Err(OperationError::UnknownPath { .. }));
    (meant != path && is_there(&Method::POST)).then(|| meant.into_owned())
}

/// The path without the extra slashes that come from base URLs that end in a slash: double ones at the root of an API,
/// and one at the end.
fn tidied(path: &str) -> Option<String> {
    let mut rest = path.trim_start_matches('/');
    let mut tidy = String::with_capacity(path.len());
    for root in ["openai", "anthropic", "v1"] {
        if let Some(below) = rest.strip_prefix(root).filter(|below| below.starts_with('/')) {
            tidy.push('/');
            tidy.push_str(root);
            rest = below.trim_start_matches('/');
        }
    }
    tidy.push('/');
    tidy.push_str(rest.strip_suffix('/').unwrap_or(rest));
    (tidy != path && tidy.len() > 1).then_some(tidy)
}

/// Reads the request line. Paths are plain: nothing is decoded, so that no two readers can disagree on what a path
/// means. Extra slashes from base URLs are ignored, but not in paths of stored objects, where a name could contain
/// them.
///
/// # Errors
/// 404 for unknown paths, 405 for a wrong method.
pub fn read(method: &Method, path: &str, query: Option<&str>) -> Result<Operation, OperationError> {
    let Some(tidy) = tidied(path) else { return read_exact(method, path, query) };
    match read_exact(method, &tidy, query) {
        Ok(Operation::Object(_)) | Err(OperationError::UnknownPath { .. } | OperationError::WrongMethod { .. }) => {
            Err(OperationError::UnknownPath { path: path.to_owned() })
        }
        read => read,
    }
}

fn read_exact(method: &Method, path: &str, query: Option<&str>) -> Result<Operation, OperationError> {
    let dialect = dialect_of(path);
    let not_found = || OperationError::UnknownPath { path: path.to_owned() };
    let below = match dialect {
        Dialect::Azure => path.strip_prefix("/openai/v1/").or_else(|| path.strip_prefix("/openai/")),
        Dialect::OpenAi => path.strip_prefix("/v1/"),
        Dialect::Anthropic => path.strip_prefix("/anthropic/v1/").or_else(|| path.strip_prefix("/v1/")),
    };
    let below = below.ok_or_else(not_found)?;
    if below == "models" || below.starts_with("models/") {
        let id = below.strip_prefix("models/");
        return match (method, id.map(model_name)) {
            (&Method::GET | &Method::HEAD, None) => Ok(Operation::ListModels(dialect)),
            (&Method::GET | &Method::HEAD, Some(Some(id))) => Ok(Operation::GetModel(dialect, id)),
            (&Method::GET | &Method::HEAD, Some(None)) => Err(not_found()),
            _ => Err(OperationError::WrongMethod { allowed: "GET, HEAD" }),
        };
    }
    if path == "/v1/usage" {
        return if method == Method::GET { Ok(Operation::Usage) } else { Err(OperationError::WrongMethod { allowed: "GET" }) };
    }
    let (operation, model) = match below.strip_prefix("deployments/").filter(|_| !path.starts_with("/openai/v1/")) {
        Some(rest) => {
            let (deployment, operation) = deployment(rest).ok_or_else(not_found)?;
            (operation, Some(deployment))
        }
        None => (below, None),
    };
    if let Some((api, part)) = Part::from_operation(operation).filter(|(api, _)| (*api == Api::Messages) == (dialect == Dialect::Anthropic))
    {
        return match method {
            &Method::POST => Ok(Operation::Inference(Inference { api, part: Some(part), dialect, model })),
            _ => Err(OperationError::WrongMethod { allowed: "POST" }),
        };
    }
    if dialect != Dialect::Anthropic && SECRETS.contains(&operation) {
        return Err(OperationError::NoSecrets);
    }
    if let Some(object) = object(method, operation, dialect, model.clone())? {
        return Ok(Operation::Object(object));
    }
    let api = Api::from_operation(operation)
        .filter(|api| !api.is_about_objects() && (*api == Api::Messages) == (dialect == Dialect::Anthropic))
        .ok_or_else(not_found)?;
    let allowed = if api == Api::Realtime { "GET" } else { "POST" };
    if method.as_str() != allowed {
        return Err(OperationError::WrongMethod { allowed });
    }
    let model = model.or_else(|| parameter(query, "model").or_else(|| parameter(query, "deployment")).filter(|_| api == Api::Realtime));
    Ok(Operation::Inference(Inference { api, part: None, dialect, model }))
}

/// Paths that make secrets for sockets that bypass the gateway, and such calls themselves.
const SECRETS: [&str; 5] = [
    "realtime/client_secrets",
    "realtime/sessions",
    "realtime/transcription_sessions",
    "realtime/calls",
    "realtime/translations/client_secrets",
];

/// A deployment's name and the operation, from the text after `deployments/`. A name may contain slashes: it ends where
/// the longest known operation begins.
fn deployment(rest: &str) -> Option<(String, &str)> {
    let operations = Api::ALL.into_iter().map(Api::operation).filter(|operation| rest.ends_with(operation));
    let known = operations.filter_map(|operation| {
        let name = rest.strip_suffix(operation)?.strip_suffix('/')?;
        Some((name, &rest[name.len() + 1..]))
    });
    let (name, operation) = known.min_by_key(|(name, _)| name.len()).or_else(|| rest.split_once('/'))?;
    Some((model_name(name)?, operation))
}

/// A model's name in a path: plain words with slashes between them, which may be percent-encoded.
fn model_name(text: &str) -> Option<String> {
    let name = text.replace("%2F", "/").replace("%2f", "/");
    name.split('/').all(plain).then_some(name)
}

/// The operations on stored objects: the path below the API, where `*` is a name, and the methods. Lists are not
/// supported: they would show one consumer what another one stored.
const OBJECTS: [(Api, &str, &[Method]); 13] = [
    (Api::Responses, "*", &[Method::GET, Method::DELETE]),
    (Api::Responses, "*/cancel", &[Method::POST]),
    (Api::Responses, "*/input_items", &[Method::GET]),
    (Api::Conversations, "", &[Method::POST]),
    (Api::Conversations, "*", &[Method::GET, Method::POST, Method::DELETE]),
    (Api::Conversations, "*/items", &[Method::GET, Method::POST]),
    (Api::Conversations, "*/items/*", &[Method::GET, Method::DELETE]),
    (Api::Files, "", &[Method::POST]),
    (Api::Files, "*", &[Method::GET, Method::DELETE]),
    (Api::Files, "*/content", &[Method::GET]),
    (Api::Batches, "", &[Method::POST]),
    (Api::Batches, "*", &[Method::GET]),
    (Api::Batches, "*/cancel", &[Method::POST]),
];

/// Parses a path of a stored object; `None` if it is another kind of path.
fn object(method: &Method, operation: &str, dialect: Dialect, model: Option<String>) -> Result<Option<ObjectOperation>, OperationError> {
    if dialect == Dialect::Anthropic {
        return Ok(None);
    }
    let (kind, rest) = match operation.split_once('/') {
        // A slash at the end makes it a different path.
        Some((_, "")) => return Ok(None),
        Some(split) => split,
        None => (operation, ""),
    };
    let fits = |form: &str| {
        let (mut form, mut rest) = (form.split('/'), rest.split('/'));
        loop {
            match (form.next(), rest.next()) {
                (None, None) => return true,
                (Some("*"), Some(name)) if is_name(name) && name != "." && name != ".." => {}
                // A star in the pattern matches a name, not a literal star.
                (Some(one), Some(other)) if one == other && one != "*" => {}
                _ => return false,
            }
        }
    };
    let Some((api, form, methods)) = OBJECTS.iter().find(|(api, form, _)| api.operation() == kind && fits(form)) else { return Ok(None) };
    if model.is_some() && *api != Api::Batches {
        return Ok(None);
    }
    if !methods.contains(method) {
        let allowed = match *methods {
            [Method::POST] => "POST",
            [Method::GET] => "GET",
            [Method::GET, Method::POST] => "GET, POST",
            [Method::GET, Method::DELETE] => "GET, DELETE",
            _ => "GET, POST, DELETE",
        };
        return Err(OperationError::WrongMethod { allowed });
    }
    let name = form.starts_with('*').then(|| rest.split('/').next().unwrap_or_default().to_owned());
    Ok(Some(ObjectOperation { api: *api, dialect, path: operation.to_owned(), name, model }))
}

/// Whether a name has only characters that every reader reads in the same way.
fn plain(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
        && name != "."
        && name != ".."
}

fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let value = query?.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))?;
    plain(value).then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inference(api: Api, dialect: Dialect, model: Option<&str>) -> Operation {
        Operation::Inference(Inference { api, part: None, dialect, model: model.map(str::to_owned) })
    }

    #[test]
    fn every_form_is_understood() {
        let post = |path: &str| read(&Method::POST, path, None).unwrap();
        assert_eq!(post("/v1/chat/completions"), inference(Api::Chat, Dialect::OpenAi, None));
        assert_eq!(post("/openai/v1/responses"), inference(Api::Responses, Dialect::Azure, None));
        assert_eq!(post("/openai/responses"), inference(Api::Responses, Dialect::Azure, None));
        assert_eq!(post("/openai/deployments/gpt-4o/chat/completions"), inference(Api::Chat, Dialect::Azure, Some("gpt-4o")));
        assert_eq!(post("/v1/messages"), inference(Api::Messages, Dialect::Anthropic, None));
        assert_eq!(post("/anthropic/v1/messages"), inference(Api::Messages, Dialect::Anthropic, None));
        let realtime = read(&Method::GET, "/openai/realtime", Some("api-version=x&deployment=gpt-rt")).unwrap();
        assert_eq!(realtime, inference(Api::Realtime, Dialect::Azure, Some("gpt-rt")));
        assert_eq!(read(&Method::GET, "/v1/models/gpt-4o", None).unwrap(), Operation::GetModel(Dialect::OpenAi, "gpt-4o".into()));
    }

    #[test]
    fn what_is_stored_has_paths_and_methods() {
        let object = |method: Method, path: &str| match read(&method, path, None) {
            Ok(Operation::Object(object)) => (object.api.operation(), object.path, object.name),
            other => panic!("{path}: {other:?}"),
        };
        let (get, post) = (Method::GET, Method::POST);
        assert_eq!(object(get.clone(), "/v1/responses/resp_1"), ("responses", "responses/resp_1".into(), Some("resp_1".into())));
        assert_eq!(object(post.clone(), "/openai/v1/responses/resp_1/cancel").1, "responses/resp_1/cancel");
        assert_eq!(object(post.clone(), "/openai/files"), ("files", "files".into(), None));
        assert_eq!(object(get.clone(), "/v1/files/file-1/content").2, Some("file-1".into()));
        assert_eq!(object(Method::DELETE, "/v1/conversations/conv_1/items/msg_1").2, Some("conv_1".into()));
        let batches = read(&post, "/openai/deployments/gpt-4o/batches", None).unwrap();
        assert!(matches!(batches, Operation::Object(ObjectOperation { api: Api::Batches, model: Some(model), .. }) if model == "gpt-4o"));
        for (method, path) in [(&get, "/v1/files"), (&get, "/v1/batches"), (&post, "/v1/responses/resp_1"), (&get, "/v1/conversations")] {
            assert!(matches!(read(method, path, None), Err(OperationError::WrongMethod { .. })), "{path}");
        }
        assert!(matches!(read(&post, "/v1/responses", None), Ok(Operation::Inference(_))));
    }

    #[test]
    fn what_base_urls_bring_is_passed_over() {
        for path in ["//v1/chat/completions", "/v1//chat/completions", "/v1/chat/completions/", "//v1///chat/completions/"] {
            assert_eq!(read(&Method::POST, path, None).unwrap(), inference(Api::Chat, Dialect::OpenAi, None), "{path}");
        }
        let azure = read(&Method::POST, "//openai/deployments/gpt-4o/chat/completions", None).unwrap();
        assert_eq!(azure, inference(Api::Chat, Dialect::Azure, Some("gpt-4o")));
        assert_eq!(read(&Method::POST, "//openai//v1//responses/", None).unwrap(), inference(Api::Responses, Dialect::Azure, None));
        assert_eq!(read(&Method::POST, "//anthropic/v1/messages", None).unwrap(), inference(Api::Messages, Dialect::Anthropic, None));
        assert_eq!(read(&Method::GET, "/v1/models/", None).unwrap(), Operation::ListModels(Dialect::OpenAi));
        for path in ["//v1/files", "/v1//files", "/v1/files/", "/v1/responses/resp_1/", "//v1/batches"] {
            assert!(matches!(read(&Method::POST, path, None), Err(OperationError::UnknownPath { .. })), "{path}");
        }
    }

    #[test]
    fn names_may_have_slashes() {
        for path in ["/v1/models/meta/llama-3", "/v1/models/meta%2Fllama-3", "/openai/models/meta/llama-3"] {
            let model = read(&Method::HEAD, path, None).unwrap();
            assert!(matches!(model, Operation::GetModel(_, ref name) if name == "meta/llama-3"), "{path}");
        }
        for path in ["/openai/deployments/meta/llama-3/chat/completions", "/openai/deployments/meta%2fllama-3/chat/completions"] {
            assert_eq!(read(&Method::POST, path, None).unwrap(), inference(Api::Chat, Dialect::Azure, Some("meta/llama-3")), "{path}");
        }
        let edits = read(&Method::POST, "/openai/deployments/a/images/edits", None).unwrap();
        assert_eq!(edits, inference(Api::ImageEdits, Dialect::Azure, Some("a")));
    }

    #[test]
    fn parts_of_an_api_are_known() {
        let part = |path: &str| match read(&Method::POST, path, None) {
            Ok(Operation::Inference(Inference { api, part, .. })) => (api, part),
            other => panic!("{path}: {other:?}"),
        };
        assert_eq!(part("/v1/responses/compact"), (Api::Responses, Some(Part::Compact)));
        assert_eq!(part("/openai/v1/responses/input_tokens"), (Api::Responses, Some(Part::InputTokens)));
        assert_eq!(part("/v1/messages/count_tokens"), (Api::Messages, Some(Part::CountTokens)));
        assert_eq!(part("/anthropic/v1/messages/count_tokens"), (Api::Messages, Some(Part::CountTokens)));
        for path in ["/v1/realtime/client_secrets", "/openai/v1/realtime/client_secrets", "/v1/realtime/calls"] {
            assert!(matches!(read(&Method::POST, path, None), Err(OperationError::NoSecrets)), "{path}");
        }
        assert_eq!(dialect_of("/v1/messages/nothing"), Dialect::Anthropic);
    }

    #[test]
    fn tricks_are_unknown_paths() {
        for path in [
            "/v1/chat//completions",
            "/v1/../v1/chat/completions",
            "/v1/chat%2fcompletions",
            "/v1/chat/completions//",
            "/openai/deployments/a//b/chat/completions",
            "/v1/chat/completions;x",
            "/openai/deployments/a%2e/chat/completions",
            "/openai/deployments/../chat/completions",
            "/openai/v1/deployments/a/chat/completions",
            "/openai/messages",
            "/v1/files/a/b",
            "/v1/files/..",
            "/v1/responses/a%2fb",
            "/v1/files/",
            "/openai/deployments/a/batches/",
            "/v1/files/*",
            "/v1/conversations/*/items",
            "/v1/conversations/conv_1/items/*",
            "/v1/responses/*/cancel",
            "/v1/threads",
            "/",
            "/metrics",
            "/openai/deployments/a/messages",
        ] {
            assert!(matches!(read(&Method::POST, path, None), Err(OperationError::UnknownPath { .. })), "{path}");
        }
        for path in ["/v1/models/a//b", "/v1/models/../b", "/v1/models/a%20b"] {
            assert!(matches!(read(&Method::GET, path, None), Err(OperationError::UnknownPath { .. })), "{path}");
        }
        assert!(matches!(read(&Method::GET, "/v1/chat/completions", None), Err(OperationError::WrongMethod { allowed: "POST" })));
    }

    #[test]
    fn a_wrong_base_url_is_recognised() {
        let cases = [
            ("/chat/completions", Some("/v1/chat/completions")),
            ("/models", Some("/v1/models")),
            ("/v1/v1/messages", Some("/v1/messages")),
            ("/messages/count_tokens", Some("/v1/messages/count_tokens")),
            ("/", None),
            ("/v1/threads", None),
            ("/v1/v1/v1/messages", None),
            ("/openai/messages", None),
        ];
        for (path, expected) in cases {
            assert_eq!(meant(path).as_deref(), expected, "{path}");
        }
        assert_eq!((dialect_of("/v1/v1/messages"), dialect_of("/messages")), (Dialect::Anthropic, Dialect::Anthropic));
    }
}
