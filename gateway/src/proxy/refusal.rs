//! Every answer that the gateway gives by itself: the one table from error to status, code and message.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use spillway_plugins::checks::{Rejection, RejectionStatus};
use spillway_plugins::limits::{LimitKind, Period, Remaining};
use spillway_plugins::request::BodyError;

use crate::limits::Denied;
use crate::operation::{OperationError, meant};
use crate::retry_after::{clamped, seconds_to_wait};

/// Why the caller gets an answer from the gateway and not from a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Two lengths for one body: a smuggling attempt or a broken client.
    #[error("the request has both Content-Length and Transfer-Encoding; send one of them")]
    AmbiguousLength,
    /// A head that another server on the way could read differently.
    #[error("{what}")]
    Head {
        /// What is wrong and what is right.
        what: &'static str,
    },
    /// A transfer coding other than `chunked`, or several.
    #[error("the only supported Transfer-Encoding is a single 'chunked'")]
    TransferCoding,
    /// HTTP/1.1 without a host.
    #[error("the request has no Host header")]
    NoHost,
    /// `Expect` asks for something else than `100-continue`.
    #[error("the Expect header asks for something other than 100-continue, which is not supported")]
    Expectation,
    /// The body can't be read as a request.
    #[error("{0}")]
    Body(#[from] BodyError),
    /// The multipart form can't be read.
    #[error("{what}")]
    Form {
        /// What is wrong and what to do.
        what: &'static str,
    },
    /// The body is not of a type that the API takes.
    #[error("send a body with Content-Type: {expected}")]
    MediaType {
        /// What the API takes.
        expected: &'static str,
    },
    /// A body with a charset or a compression that the gateway can't read.
    #[error("{what}")]
    Media {
        /// What to do.
        what: &'static str,
    },
    /// No credential, or an unknown one.
    #[error("no valid credential: send a key as 'api-key', 'x-api-key' or 'Authorization: Bearer', or a token as the latter")]
    Unauthorized,
    /// Two different credentials.
    #[error("the request has two different credentials; send one")]
    TwoCredentials,
    /// The consumer may not use the model.
    #[error("this caller may not use the model '{model}'")]
    ModelNotAllowed {
        /// The model.
        model: String,
    },
    /// The consumer may not use the model's pool.
    #[error("this caller may not use the pool '{pool}', which serves the model '{model}'")]
    PoolNotAllowed {
        /// The model.
        model: String,
        /// Its pool.
        pool: String,
    },
    /// The consumer may not use the kind of API.
    #[error("this caller may not use the API '{api}'")]
    ApiNotAllowed {
        /// The kind.
        api: &'static str,
    },
    /// The consumer may not ask for this service tier.
    #[error("this caller may not ask for the service tier '{tier}'; leave 'service_tier' out, or ask for {allowed}")]
    ServiceTierNotAllowed {
        /// The tier.
        tier: &'static str,
        /// Those that it may ask for.
        allowed: String,
    },
    /// The caller's token, if it has one, grants too little.
    #[error("this request needs a token with the {kind} '{needed}'")]
    GrantMissing {
        /// `role` or `scope`.
        kind: &'static str,
        /// One of these is needed.
        needed: String,
    },
    /// A valid token of an application that is not listed.
    #[error("this application is not listed here; ask the gateway's operator")]
    NotListed,
    /// A valid token of a new application, but there are too many already.
    #[error("too many new applications use this gateway; ask the gateway's operator to list this one")]
    TooManyConsumers,
    /// No member is in a location that the consumer may use.
    #[error("the model '{model}' is not served in a location that this caller may use")]
    LocationNotAllowed {
        /// The model.
        model: String,
    },
    /// No object of this name, or it is not the caller's.
    #[error("no stored object '{name}' of this caller was found")]
    UnknownObject {
        /// The name.
        name: String,
    },
    /// Stored objects that are at different backends.
    #[error("this request refers to objects that are stored at different deployments")]
    ObjectsApart,
    /// A stored object is at a backend that doesn't serve the model.
    #[error("the objects that this request refers to are stored at a deployment that does not serve the model '{model}'")]
    ObjectElsewhere {
        /// The model.
        model: String,
    },
    /// No pool for a request that names no model.
    #[error("no pool that this caller may use stores such objects; choose a pool with '{header}: NAME'")]
    NoPoolForObjects {
        /// The header that chooses.
        header: &'static str,
    },
    /// No such path.
    #[error("there is nothing at '{path}'{}", .meant.as_ref().map_or_else(String::new, |meant| format!(", but at '{meant}': is the client's base URL right?")))]
    UnknownPath {
        /// The path.
        path: String,
        /// The path with the right base URL.
        meant: Option<String>,
    },
    /// Traffic that uses a client secret doesn't pass through the gateway.
    #[error(
        "client secrets are not issued, because their use could be neither limited nor counted; open the socket at /v1/realtime, with the key as an 'openai-insecure-api-key.KEY' subprotocol where no header can be set"
    )]
    NoSecrets,
    /// The request target is longer than any API's.
    #[error("the request target is longer than {limit} bytes")]
    TargetTooLong {
        /// The limit.
        limit: usize,
    },
    /// The path takes another method.
    #[error("this path takes {allowed}")]
    WrongMethod {
        /// The method it takes.
        allowed: &'static str,
    },
    /// No such model.
    #[error("the model '{model}' does not exist here; GET /v1/models lists those that do")]
    UnknownModel {
        /// The model.
        model: String,
    },
    /// The model exists, but no member serves it through this API.
    #[error("the model '{model}' is not served through this API")]
    ApiNotServed {
        /// The model.
        model: String,
    },
    /// The path wants a WebSocket.
    #[error("this path takes a WebSocket upgrade")]
    UpgradeRequired,
    /// The body is longer than allowed.
    #[error("the request body is larger than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// The body came too slowly.
    #[error("the request body did not arrive in time")]
    BodyTimeout,
    /// A resource of the gateway is used up.
    #[error("the gateway is busy ({what}); try again")]
    Overloaded {
        /// What is used up.
        what: &'static str,
    },
    /// The guard found content that is not allowed.
    #[error("the content of this request or its answer is not allowed here ({what})")]
    ContentBlocked {
        /// The category of what was found, never the text.
        what: String,
    },
    /// A plugin that checks requests refuses it.
    #[error("{}", .0.message)]
    Check(Box<Rejection>),
    /// The content could not be checked.
    #[error("this content can't be checked at the moment; try again")]
    ContentUnchecked,
    /// The answer can't be checked, and the next one would cost as much.
    #[error("the answer is too long to be checked, or can't be read: it is not passed on; ask for a shorter answer, or stream it")]
    AnswerUnreadable,
    /// All targets are throttled.
    #[error("every deployment of '{model}' is at its rate limit; try again in {} s", seconds_to_wait(*.retry_after))]
    AllThrottled {
        /// The model.
        model: String,
        /// Time until the first one may be used again.
        retry_after: Option<Duration>,
    },
    /// No target can be used.
    #[error("no deployment of '{model}' is available; try again in {} s", seconds_to_wait(*.retry_after))]
    NoneAvailable {
        /// The model.
        model: String,
        /// Time until the first one may be used again.
        retry_after: Option<Duration>,
    },
    /// Attempts were made, and the last one failed.
    #[error("no deployment of '{model}' gave an answer; the last attempt {}", ended(last, upstream.as_ref()))]
    UpstreamFailed {
        /// The model.
        model: String,
        /// How the last attempt failed.
        last: &'static str,
        /// Time until a throttled target may be used again, if there is one.
        retry_after: Option<Duration>,
        /// The upstream's error message, with its status.
        upstream: Option<(Option<u16>, Arc<str>)>,
    },
    /// Attempts were made, and the last one ran out of time.
    #[error("no deployment of '{model}' answered in time")]
    UpstreamTimeout {
        /// The model.
        model: String,
        /// Time until a throttled target may be used again, if there is one.
        retry_after: Option<Duration>,
    },
    /// The usage is asked for, but there is no ledger.
    #[error("this gateway keeps no ledger")]
    NoUsage,
    /// A report can't be made as asked.
    #[error("{what}")]
    Report {
        /// What is wrong.
        what: String,
    },
    /// A limit is reached.
    #[error("{0}")]
    Limit(Box<Denied>),
    /// The usage can't be recorded, and the config requires that it is.
    #[error("the gateway can't write its ledger, and serves no request that it can't record; try again")]
    NoLedger,
    /// A defect of the gateway itself.
    #[error("the gateway failed; search its log for the request id")]
    Internal,
}

impl From<OperationError> for Refusal {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::UnknownPath { path } => Refusal::UnknownPath { meant: meant(&path), path },
            OperationError::WrongMethod { allowed } => Refusal::WrongMethod { allowed },
            OperationError::NoSecrets => Refusal::NoSecrets,
        }
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Refusal::Check(Box::new(rejection))
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Refusal::Limit(Box::new(denied))
    }
}

/// What a refusal looks like in the answer, independent of the dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefusalShape {
    /// The status.
    pub status: StatusCode,
    /// The stable code.
    pub code: &'static str,
    /// OpenAI's `type`.
    pub kind: &'static str,
    /// Anthropic's `type`.
    pub anthropic: &'static str,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}

const fn shape(status: StatusCode, code: &'static str, kind: &'static str, anthropic: &'static str, retryable: bool) -> RefusalShape {
    RefusalShape { status, code, kind, anthropic, retryable }
}

const INVALID: &str = "invalid_request_error";

impl Refusal {
    /// The table of statuses and codes.
    pub fn shape(&self) -> RefusalShape {
        match self {
            Refusal::TransferCoding => shape(StatusCode::NOT_IMPLEMENTED, "invalid_request", INVALID, INVALID, false),
            Refusal::AmbiguousLength | Refusal::NoHost | Refusal::Head { .. } => {
                shape(StatusCode::BAD_REQUEST, "invalid_request", INVALID, INVALID, false)
            }
            Refusal::Expectation => shape(StatusCode::EXPECTATION_FAILED, "invalid_request", INVALID, INVALID, false),
            Refusal::Body(BodyError::NoModel) => shape(StatusCode::BAD_REQUEST, "model_missing", INVALID, INVALID, false),
            Refusal::Body(_) => shape(StatusCode::BAD_REQUEST, "invalid_json", INVALID, INVALID, false),
            Refusal::Form { .. } => shape(StatusCode::BAD_REQUEST, "invalid_form", INVALID, INVALID, false),
            Refusal::TwoCredentials => shape(StatusCode::BAD_REQUEST, "ambiguous_credentials", INVALID, INVALID, false),
            Refusal::MediaType { .. } | Refusal::Media { .. } => {
                shape(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", INVALID, INVALID, false)
            }
            Refusal::Unauthorized => shape(StatusCode::UNAUTHORIZED, "invalid_api_key", INVALID, "authentication_error", false),
            Refusal::ModelNotAllowed { .. } => shape(StatusCode::FORBIDDEN, "model_not_allowed", INVALID, "permission_error", false),
            Refusal::PoolNotAllowed { .. } => shape(StatusCode::FORBIDDEN, "pool_not_allowed", INVALID, "permission_error", false),
            Refusal::ApiNotAllowed { .. } => shape(StatusCode::FORBIDDEN, "api_not_allowed", INVALID, "permission_error", false),
            Refusal::ServiceTierNotAllowed { .. } => {
                shape(StatusCode::FORBIDDEN, "service_tier_not_allowed", INVALID, "permission_error", false)
            }
            Refusal::GrantMissing { .. } => shape(StatusCode::FORBIDDEN, "grant_missing", INVALID, "permission_error", false),
            Refusal::NotListed => shape(StatusCode::FORBIDDEN, "application_not_listed", INVALID, "permission_error", false),
            Refusal::TooManyConsumers => shape(StatusCode::FORBIDDEN, "too_many_applications", INVALID, "permission_error", false),
            Refusal::LocationNotAllowed { .. } => shape(StatusCode::FORBIDDEN, "location_not_allowed", INVALID, "permission_error", false),
            Refusal::UnknownObject { .. } => shape(StatusCode::NOT_FOUND, "object_not_found", INVALID, "not_found_error", false),
            Refusal::ObjectsApart => shape(StatusCode::BAD_REQUEST, "objects_apart", INVALID, INVALID, false),
            Refusal::ObjectElsewhere { .. } => shape(StatusCode::BAD_REQUEST, "object_elsewhere", INVALID, INVALID, false),
            Refusal::NoPoolForObjects { .. } => shape(StatusCode::BAD_REQUEST, "no_pool_for_objects", INVALID, INVALID, false),
            Refusal::TargetTooLong { .. } => shape(StatusCode::URI_TOO_LONG, "target_too_long", INVALID, INVALID, false),
            Refusal::NoSecrets => shape(StatusCode::FORBIDDEN, "client_secrets_not_allowed", INVALID, "permission_error", false),
            Refusal::UnknownPath { .. } => shape(StatusCode::NOT_FOUND, "not_found", INVALID, "not_found_error", false),
            Refusal::UnknownModel { .. } | Refusal::ApiNotServed { .. } => {
                shape(StatusCode::NOT_FOUND, "model_not_found", INVALID, "not_found_error", false)
            }
            Refusal::WrongMethod { .. } => shape(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", INVALID, INVALID, false),
            Refusal::UpgradeRequired => shape(StatusCode::UPGRADE_REQUIRED, "upgrade_required", INVALID, INVALID, false),
            Refusal::TooLarge { .. } => shape(StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", INVALID, "request_too_large", false),
            Refusal::BodyTimeout => shape(StatusCode::REQUEST_TIMEOUT, "request_timeout", INVALID, "timeout_error", true),
            Refusal::ContentBlocked { .. } => shape(StatusCode::FORBIDDEN, "content_blocked", INVALID, "permission_error", false),
            Refusal::Check(rejection) => match rejection.status {
                RejectionStatus::BadRequest => shape(StatusCode::BAD_REQUEST, rejection.code, INVALID, INVALID, false),
                RejectionStatus::Forbidden => shape(StatusCode::FORBIDDEN, rejection.code, INVALID, "permission_error", false),
            },
            Refusal::ContentUnchecked => {
                shape(StatusCode::SERVICE_UNAVAILABLE, "content_unchecked", "server_error", "overloaded_error", true)
            }
            Refusal::AnswerUnreadable => {
                shape(StatusCode::SERVICE_UNAVAILABLE, "content_unchecked", "server_error", "overloaded_error", false)
            }
            Refusal::Overloaded { .. } => shape(StatusCode::SERVICE_UNAVAILABLE, "overloaded", "server_error", "overloaded_error", true),
            Refusal::AllThrottled { .. } => {
                shape(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", "requests", "rate_limit_error", true)
            }
            Refusal::NoneAvailable { .. } => {
                shape(StatusCode::SERVICE_UNAVAILABLE, "no_backend_available", "server_error", "overloaded_error", true)
            }
            Refusal::UpstreamFailed { .. } => shape(StatusCode::BAD_GATEWAY, "upstream_error", "server_error", "api_error", false),
            Refusal::UpstreamTimeout { .. } => {
                shape(StatusCode::GATEWAY_TIMEOUT, "upstream_timeout", "server_error", "timeout_error", false)
            }
            Refusal::Limit(denied) => match denied.id.kind {
                _ if denied.unsure => shape(StatusCode::SERVICE_UNAVAILABLE, "quota_unknown", "server_error", "overloaded_error", true),
                LimitKind::Tokens => {
                    shape(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", "tokens", "rate_limit_error", !denied.too_large)
                }
                LimitKind::Requests | LimitKind::Concurrent => {
                    shape(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", "requests", "rate_limit_error", true)
                }
                // A minute is soon over: a retry helps.
                _ if denied.id.calendar.is_some_and(|calendar| calendar.period == Period::Minute) => {
                    shape(StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", "requests", "rate_limit_error", !denied.too_large)
                }
                LimitKind::RequestQuota | LimitKind::Quota => {
                    shape(StatusCode::FORBIDDEN, "quota_exceeded", "insufficient_quota", "permission_error", false)
                }
                LimitKind::Budget => shape(StatusCode::FORBIDDEN, "budget_exceeded", "insufficient_quota", "permission_error", false),
            },
            Refusal::NoUsage => shape(StatusCode::NOT_FOUND, "no_ledger", INVALID, "not_found_error", false),
            Refusal::Report { .. } => shape(StatusCode::BAD_REQUEST, "invalid_query", INVALID, INVALID, false),
            Refusal::NoLedger => shape(StatusCode::SERVICE_UNAVAILABLE, "ledger_unavailable", "server_error", "overloaded_error", true),
            Refusal::Internal => shape(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "server_error", "api_error", true),
        }
    }

    /// How long the caller should wait before it tries again, if that helps.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Refusal::AllThrottled { retry_after, .. } | Refusal::NoneAvailable { retry_after, .. } => Some(clamped(*retry_after)),
            Refusal::UpstreamFailed { retry_after: Some(wait), .. } | Refusal::UpstreamTimeout { retry_after: Some(wait), .. } => {
                Some(clamped(Some(*wait)))
            }
            Refusal::Overloaded { .. } | Refusal::NoLedger => Some(Duration::from_secs(1)),
            Refusal::Limit(denied) if self.shape().retryable => Some(clamped(denied.wait)),
            _ => None,
        }
    }

    /// The member of the body that must be changed, if one must.
    pub fn field(&self) -> Option<&str> {
        if let Refusal::Check(rejection) = self { rejection.field.as_deref() } else { None }
    }

    /// What is left of the caller's rates, if it is refused because of them.
    pub fn remaining(&self) -> Option<Remaining> {
        if let Refusal::Limit(denied) = self { Some(denied.remaining) } else { None }
    }

    /// Whether the connection must be closed: the bytes that follow can't be trusted, or are not wanted.
    pub fn closes(&self) -> bool {
        matches!(
            self,
            Refusal::AmbiguousLength
                | Refusal::Head { .. }
                | Refusal::TransferCoding
                | Refusal::NoHost
                | Refusal::Expectation
                | Refusal::TooLarge { .. }
                | Refusal::BodyTimeout
                | Refusal::Overloaded { .. }
                | Refusal::Internal
        )
    }
}

/// How an attempt ended, for its caller: by the upstream's status if it answered.
fn ended(outcome: &str, upstream: Option<&(Option<u16>, Arc<str>)>) -> String {
    match upstream {
        Some((Some(status), _)) => format!("was answered with {status}"),
        _ => format!("ended with '{outcome}'"),
    }
}
