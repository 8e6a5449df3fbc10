//! The hook for plugins that check a request before anything is reserved for it.
//!
//! Such a plugin is a folder in this crate with a type that is read from the config and implements [`RequestCheck`]. It
//! needs no stage of its own: the gateway has one that calls all of them.

use std::fmt::Debug;

use crate::api::{Api, Part};
use crate::request::RequestFields;

/// A request, as checks see it: after the transforms, so it is what a backend would get.
#[derive(Debug, Clone, Copy)]
pub struct CheckedRequest<'r> {
    /// The operation.
    pub api: Api,
    /// The sub-operation, if it is one.
    pub part: Option<Part>,
    /// The model.
    pub model: &'r str,
    /// The consumer's name, if the caller is known.
    pub consumer: Option<&'r str>,
    /// What was read of the body.
    pub fields: &'r RequestFields,
    /// The body: a JSON object. All readers read the names in [`crate::names::REQUEST`] in the same way in it.
    pub body: &'r [u8],
}

/// The status of a rejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectionStatus {
    /// 400: the request must be changed.
    BadRequest,
    /// 403: the caller may not do this.
    Forbidden,
}

/// Why a request is refused. It becomes an error in the format of the API that was called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The status.
    pub status: RejectionStatus,
    /// The stable code, for programs. It is a label of a metric, too.
    pub code: &'static str,
    /// The member of the body that must be changed (`param` in OpenAI's errors).
    pub field: Option<String>,
    /// What is wrong and what is allowed, for people. It must not repeat a prompt.
    pub message: String,
}

/// A plugin that checks requests.
pub trait RequestCheck: Debug + Send + Sync {
    /// Reports what is wrong with its configuration.
    fn verify(&self, _report: &mut dyn ConfigReport) {}

    /// Checks a request. The time that this takes must be proportional to the body's length at most.
    ///
    /// # Errors
    /// Why the request is refused.
    fn check(&self, request: &CheckedRequest<'_>) -> Result<(), Rejection>;
}

/// Takes what is wrong with a plugin's configuration. Each `key` is a key in the plugin's own table, such as
/// `models[0]`; the empty key is the table itself.
pub trait ConfigReport {
    /// Reports a problem.
    fn problem(&mut self, key: &str, message: &str);

    /// Reports `name` if no pool serves a model of this name.
    fn expect_model(&mut self, key: &str, name: &str);

    /// Reports `name` if there is no consumer of this name.
    fn expect_consumer(&mut self, key: &str, name: &str);
}
