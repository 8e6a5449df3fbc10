//! This application at its issuer, as one config describes it.

use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::answer::Answer;
use super::error::SignInError;
use super::exchange::exchange;
use super::login::{Login, ReturnTo};
use super::logout::{LoggedOut, Logout, LogoutError};
use super::person::Person;
use super::secret_text::equal;
use super::sessions::{Beginning, Found, Limits, SessionSummary};
use super::state::SignInState;
use super::{fresh, identity, logout};
use crate::callers::issuer::Issuer;
use crate::clock::{Clock, Tick};
use crate::config::{Role, SignInRules};
use crate::telemetry::metrics::IssuerMetrics;

/// The longest session of operators and administrators.
const PRIVILEGED: Duration = Duration::from_secs(12 * 3600);

/// Sign-in, as one config describes it.
#[derive(Debug)]
pub struct SignIn {
    /// Its rules.
    pub rules: SignInRules,
    /// The issuer.
    pub issuer: Arc<Issuer>,
    /// The issuer and the application: sessions and logins of others are not accepted.
    realm: String,
}

/// What a login is asked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The page that is shown afterwards.
    pub return_to: ReturnTo,
    /// The person must show again who they are, even if the issuer knows the browser.
    pub again: bool,
    /// The issuer must say that they did: a change that needs it is to follow.
    pub fresh: bool,
}

/// A login that has begun.
pub struct Started {
    /// Where the browser goes.
    pub location: String,
    /// The sealed login, for a cookie.
    pub cookie: String,
}

/// A login that has ended well.
pub struct Finished {
    /// The token of the session, for a cookie.
    pub token: String,
    /// Who has signed in.
    pub person: Person,
    /// The role that the config gives to it.
    pub role: Role,
    /// Where the browser goes: a page below the external base address.
    pub location: String,
}

impl SignIn {
    /// With these rules; what is known of the same issuer in `before` is kept.
    pub fn new(rules: SignInRules, metrics: IssuerMetrics, before: Option<&SignIn>) -> Self {
        crate::http_client::install_crypto();
        let known = before.map(|before| &before.issuer);
        let issuer = match known.filter(|issuer| issuer.config == rules.issuer) {
            Some(same) => Arc::clone(same),
            None => Arc::new(Issuer::new(rules.issuer.clone(), metrics, known.map(|known| &**known))),
        };
        let realm = format!("{} {}", rules.issuer.name, rules.client_id);
        SignIn { rules, issuer, realm }
    }

    /// Begins a login on the listener with this external base address, at `now` (seconds since 1970).
    ///
    /// # Errors
    /// [`SignInError::NotReady`], [`SignInError::Random`]
    pub fn begin(&self, state: &SignInState, base: &str, asked: Asked, now: i64) -> Result<Started, SignInError> {
        let endpoints = self.issuer.endpoints().filter(|_| self.issuer.is_ready()).ok_or(SignInError::NotReady)?;
        let mut login = Login::begin(&self.realm, base, asked.return_to, now, state.rng()).map_err(|_| SignInError::Random)?;
        let most = self.rules.reauthenticate_after.filter(|_| asked.fresh);
        login.fresh = most.is_some();
        let cookie = state.key().seal(&login, state.rng()).map_err(|_| SignInError::Random)?;
        let (redirect_uri, challenge) = (SignInRules::redirect_uri(base), login.challenge());
        let parameters = [
            ("response_type", "code"),
            ("client_id", &self.rules.client_id),
            ("redirect_uri", &redirect_uri),
            ("scope", &self.rules.scopes),
            ("state", &login.state),
            ("nonce", &login.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        // OpenID Connect Core 1.0, 3.1.2.1. With `max_age` the ID token must have `auth_time`. It is not 0: somebody may need a
        // while for a second factor.
        let prompt = (asked.again || asked.fresh).then_some(("prompt", "login"));
        let most = most.map(|most| most.as_secs().to_string());
        let most = most.as_deref().map(|most| ("max_age", most));
        let parameters: Vec<String> = parameters
            .iter()
            .chain(&prompt)
            .chain(&most)
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect();
        let separator = if endpoints.authorization.contains('?') { '&' } else { '?' };
        Ok(Started { location: format!("{}{separator}{}", endpoints.authorization, parameters.join("&")), cookie })
    }

    /// Finishes the login that is sealed in `cookie` with the issuer's answer, the query of the redirect back.
    ///
    /// # Errors
    /// [`SignInError`]; then there is no session.
    pub async fn finish(&self, state: &SignInState, query: &str, cookie: Option<&str>, clock: &Clock) -> Result<Finished, SignInError> {
        let now = clock.wall().timestamp();
        let login = cookie.and_then(|cookie| state.key().open(cookie, now)).filter(|login| login.realm == self.realm);
        let login = login.ok_or(SignInError::NoLogin)?;
        let answer = Answer::parse(query)?;
        if !answer.state.as_deref().is_some_and(|given| equal(given, &login.state)) {
            return Err(SignInError::State);
        }
        let endpoints = self.issuer.endpoints().ok_or(SignInError::NotReady)?;
        match &answer.issuer {
            Some(issuer) if *issuer != self.rules.issuer.name => return Err(SignInError::Issuer),
            None if endpoints.names_issuer => return Err(SignInError::Issuer),
            _ => {}
        }
        // Anybody can send again what was sent before: what asks nothing of the issuer must not use up the pace of
        // those who sign in.
        if state.is_finished(&login.state) {
            return Err(SignInError::Again);
        }
        if let Some(error) = answer.error {
            return Err(SignInError::Refused(error));
        }
        let code = answer.code.filter(|code| !code.is_empty()).ok_or(SignInError::Answer("it has no code"))?;
        let room = state.exchange(clock.now())?;
        state.finish(&login.state)?;
        let token = exchange(&self.rules, &endpoints, &code, &login, clock).await?;
        let claims = identity::verified(token.expose(), &self.issuer, &self.rules.client_id, &login.nonce, clock).await?;
        drop(room);
        let (person, role) = identity::person(&claims, &self.rules)?;
        let authenticated = fresh::authenticated(&claims, &login, self.rules.reauthenticate_after, clock)?;
        let new = Beginning { person: person.clone(), realm: &self.realm, sid: logout::sid(&claims), authenticated };
        let begun = state.sessions.begin(new, self.limits(), clock.now(), state.rng());
        let token = begun.map_err(|_| SignInError::Random)?;
        Ok(Finished { token, person, role, location: format!("{}{}", login.base, login.return_to.path()) })
    }

    /// The session with this token, and the role that the person has by now; `None` if it has ended. If `uses`, its idle
    /// time begins again.
    pub fn session(&self, state: &SignInState, token: &str, now: Tick, uses: bool) -> Option<(Found, Role)> {
        let found = state.sessions.find(token, &self.realm, self.limits(), now, uses)?;
        let role = self.rules.role_of(&found.person.roles, &found.person.groups)?;
        if role < Role::Operator {
            return Some((found, role));
        }
        // Somebody who loses the role keeps it until the session ends: those with power sign in more often.
        let ends = found.ends.min(found.began + PRIVILEGED);
        (now < ends).then_some((Found { ends, ..found }, role))
    }

    /// Whether a session is still live, and its person may still do what `role` may. This doesn't use it.
    pub fn is_live(&self, state: &SignInState, found: &Found, role: Role, now: Tick) -> bool {
        state.sessions.is_live(&found.id, &self.realm, self.limits(), now)
            && (role < Role::Operator || now.since(found.began) < PRIVILEGED)
            && self.rules.role_of(&found.person.roles, &found.person.groups) >= Some(role)
    }

    /// How much longer the person of a session may make changes that need a fresh sign-in; `None` if none is needed.
    pub fn fresh_for(&self, found: &Found, now: Tick) -> Option<Duration> {
        let most = self.rules.reauthenticate_after?;
        Some(found.authenticated.map_or(Duration::ZERO, |at| most.saturating_sub(now.since(at))))
    }

    /// Ends the sessions that a logout token names (Back-Channel Logout 1.0, 2.6).
    ///
    /// # Errors
    /// [`LogoutError`]; then nothing has ended.
    pub async fn log_out(&self, state: &SignInState, token: &str, clock: &Clock) -> Result<LoggedOut, LogoutError> {
        if !self.issuer.is_ready() {
            return Err(LogoutError::NotReady);
        }
        let claims = identity::signed(token, &self.issuer, clock).await?;
        let logout = logout::checked(&claims, self.rules.is_entra(), clock.wall().timestamp())?;
        if !state.use_logout(claims.text("jti").ok_or(LogoutError::NoId)?) {
            return Err(LogoutError::Replayed);
        }
        Ok(state.sessions.end_at_issuer(&self.realm, &logout))
    }

    /// Ends the session that the issuer names in an address (Front-Channel Logout 1.0, 2). The browser sends no cookie with it, so
    /// only `sid` says which one; it stands in the ID token alone. Entra leaves out `iss`.
    ///
    /// # Errors
    /// [`LogoutError::Issuer`], [`LogoutError::Nobody`]
    pub fn log_out_in_browser(&self, state: &SignInState, issuer: Option<&str>, sid: Option<&str>) -> Result<LoggedOut, LogoutError> {
        match issuer {
            Some(issuer) if issuer != self.rules.issuer.name => return Err(LogoutError::Issuer),
            None if !self.rules.is_entra() => return Err(LogoutError::Issuer),
            _ => {}
        }
        let sid = sid.filter(|sid| !sid.is_empty() && sid.len() <= logout::LONGEST_SID).ok_or(LogoutError::Nobody)?;
        Ok(state.sessions.end_at_issuer(&self.realm, &Logout { sid: Some(sid.to_owned()), subject: None }))
    }

    /// The live sessions, the latest first.
    pub fn sessions(&self, state: &SignInState, now: Tick) -> Vec<SessionSummary> {
        state.sessions.list(&self.realm, self.limits(), now)
    }

    fn limits(&self) -> Limits {
        Limits { session: self.rules.session, idle: self.rules.idle }
    }
}
