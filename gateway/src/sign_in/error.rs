//! Why somebody could not sign in: for the page, for the counter, and for the log. No variant has a secret in it.

use spillway_plugins::auth::jwt::TokenError;

/// What the ID token of a person without a role has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LackingToken {
    /// The person's name.
    pub name: String,
    /// The person's subject.
    pub subject: String,
    /// Its app roles.
    pub roles: Vec<String>,
    /// How many groups it has.
    pub groups: usize,
    /// Whether its groups were left out because there are too many.
    pub too_many_groups: bool,
}

/// What the log tells beside an error, and the person's browser doesn't.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Cause(pub(super) String);

/// Why somebody could not sign in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignInError {
    /// Too many logins at once.
    #[error("too many people sign in at the same time")]
    Busy,
    /// The system has no random numbers.
    #[error("this machine has no random numbers")]
    Random,
    /// The issuer's metadata and keys are not known.
    #[error("the issuer's metadata and keys could not be fetched yet")]
    NotReady,
    /// There is no login that this could finish.
    #[error("no login is under way in this browser")]
    NoLogin,
    /// The answer belongs to another login.
    #[error("the answer belongs to another login (parameter 'state')")]
    State,
    /// The login was finished before.
    #[error("this login was finished before")]
    Again,
    /// The answer can't be read.
    #[error("the issuer's answer can't be read: {0}")]
    Answer(&'static str),
    /// The answer is another issuer's.
    #[error("the answer is not from the configured issuer (parameter 'iss')")]
    Issuer,
    /// The issuer refuses.
    #[error("the issuer refuses: {0}")]
    Refused(IssuerCode),
    /// The issuer refuses the code.
    #[error("the issuer doesn't accept the code: {0}")]
    Code(IssuerCode),
    /// The issuer refuses this application.
    #[error("the issuer refuses this application or its secret: {0}")]
    Client(IssuerCode),
    /// The token endpoint can't be reached in time.
    #[error("the issuer's token endpoint doesn't answer")]
    Unreachable(#[source] Cause),
    /// The token endpoint's answer is none that is expected.
    #[error("the issuer's token endpoint sent {0}")]
    TokenAnswer(String),
    /// The ID token is not valid.
    #[error("the ID token is not valid: {0}")]
    Token(#[from] TokenError),
    /// The ID token is for another login.
    #[error("the ID token is for another login (claim 'nonce')")]
    Nonce,
    /// The ID token was issued for another application.
    #[error("the ID token was issued for another application (claim 'azp')")]
    AuthorizedParty,
    /// The ID token has no subject.
    #[error("the ID token doesn't say who it is about (claim 'sub')")]
    NoSubject,
    /// A fresh sign-in was asked for, and the token doesn't say when the person authenticated.
    #[error("the ID token doesn't say when you last proved who you are (claim 'auth_time')")]
    NoAuthTime,
    /// A fresh sign-in was asked for, and the person authenticated before.
    #[error("the issuer didn't ask again who you are: by its token (claim 'auth_time') that was too long ago")]
    NotFresh,
    /// The person may do nothing here.
    #[error("the ID token has none of the roles and groups that are let in")]
    NoRole(Box<LackingToken>),
}

impl SignInError {
    /// The value of its label in metrics.
    pub fn label(&self) -> &'static str {
        match self {
            SignInError::Busy => "busy",
            SignInError::Random => "no_random",
            SignInError::NotReady | SignInError::Unreachable(_) => "issuer_unreachable",
            SignInError::NoLogin | SignInError::State => "state",
            SignInError::Again => "replayed",
            SignInError::Answer(_) | SignInError::TokenAnswer(_) => "issuer_answer",
            SignInError::Issuer => "issuer",
            SignInError::Refused(_) => "refused",
            SignInError::Code(_) => "code",
            SignInError::Client(_) => "client",
            SignInError::Token(_) | SignInError::AuthorizedParty | SignInError::NoSubject => "token",
            SignInError::Nonce => "nonce",
            SignInError::NoAuthTime | SignInError::NotFresh => "not_fresh",
            SignInError::NoRole(_) => "no_role",
        }
    }

    /// The labels of all of them.
    pub fn labels() -> [&'static str; 14] {
        [
            "busy",
            "no_random",
            "issuer_unreachable",
            "state",
            "replayed",
            "issuer_answer",
            "issuer",
            "refused",
            "code",
            "client",
            "token",
            "nonce",
            "not_fresh",
            "no_role",
        ]
    }

    /// Whether anybody on the network can cause it without an account: such errors must not fill a log.
    pub fn is_strangers(&self) -> bool {
        match self {
            SignInError::Busy | SignInError::NoLogin | SignInError::State | SignInError::Again => true,
            SignInError::Answer(_) | SignInError::Issuer | SignInError::Refused(_) | SignInError::Code(_) => true,
            // Also while the issuer is down: the task that fetches its keys logs that.
            SignInError::NotReady => true,
            SignInError::Random | SignInError::Client(_) | SignInError::Unreachable(_) | SignInError::TokenAnswer(_) => false,
            SignInError::Token(_) | SignInError::Nonce | SignInError::AuthorizedParty | SignInError::NoSubject => false,
            SignInError::NoAuthTime | SignInError::NotFresh | SignInError::NoRole(_) => false,
        }
    }
}

/// The code of an error that an issuer sends (RFC 6749, 4.1.2.1 and 5.2), and Entra's number in its description. The
/// description itself is not kept: it is written by others, and may repeat what was sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IssuerCode {
    code: String,
    entra: Option<String>,
}

impl IssuerCode {
    /// The codes in the members `error` and `error_description`.
    pub fn of(error: &str, description: Option<&str>) -> Self {
        let is_code = !error.is_empty() && error.len() <= 40 && error.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        let code = if is_code { error.to_owned() } else { "an unknown error".to_owned() };
        IssuerCode { code, entra: description.and_then(entra_number) }
    }

    /// The code.
    pub fn code(&self) -> &str {
        &self.code
    }
}

impl std::fmt::Display for IssuerCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.entra {
            Some(number) => write!(f, "{} ({number})", self.code),
            None => f.write_str(&self.code),
        }
    }
}

/// `AADSTS` and its digits.
fn entra_number(description: &str) -> Option<String> {
    let digits = description.split_once("AADSTS")?.1;
    let digits: String = digits.chars().take_while(char::is_ascii_digit).take(10).collect();
    (!digits.is_empty()).then(|| format!("AADSTS{digits}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_issuers_error_only_codes_are_kept() {
        let code = IssuerCode::of("invalid_client", Some("AADSTS7000215: Invalid client secret provided: S3cret"));
        assert_eq!(code.to_string(), "invalid_client (AADSTS7000215)");
        assert_eq!(IssuerCode::of("<script>", Some("AADSTS<b>")).to_string(), "an unknown error");
        assert_eq!(IssuerCode::of("access_denied", None).to_string(), "access_denied");
    }

    #[test]
    fn every_label_is_listed() {
        let code = IssuerCode::default;
        let lacking = LackingToken { name: String::new(), subject: String::new(), roles: Vec::new(), groups: 0, too_many_groups: false };
        let all = [
            SignInError::Busy,
            SignInError::Random,
            SignInError::NotReady,
            SignInError::NoLogin,
            SignInError::State,
            SignInError::Again,
            SignInError::Answer(""),
            SignInError::Issuer,
            SignInError::Refused(code()),
            SignInError::Code(code()),
            SignInError::Client(code()),
            SignInError::Unreachable(Cause(String::new())),
            SignInError::TokenAnswer(String::new()),
            SignInError::Token(TokenError::Expired),
            SignInError::Nonce,
            SignInError::AuthorizedParty,
            SignInError::NoSubject,
            SignInError::NoAuthTime,
            SignInError::NotFresh,
            SignInError::NoRole(Box::new(lacking)),
        ];
        let found: std::collections::BTreeSet<&str> = all.iter().map(SignInError::label).collect();
        assert_eq!(found, SignInError::labels().into_iter().collect());
    }
}
