//! When a person authenticated at the issuer: changes that could do harm need it to be a short time ago.
//!
//! A request for a fresh sign-in goes through the browser, where somebody at an unattended machine could change it. So the
//! issuer's own word counts: the claim `auth_time` (OpenID Connect Core 1.0, 2 and 3.1.2.1).

use std::time::Duration;

use spillway_plugins::auth::jwt::Claims;

use super::error::SignInError;
use super::login::Login;
use crate::clock::{Clock, Tick};

/// How much the issuer's clock may be behind this machine's, for an authentication to count as one for this login.
const LEEWAY: Duration = Duration::from_secs(60);

/// How much the issuer's clock may be ahead.
const AHEAD: Duration = Duration::from_secs(300);

/// When the person authenticated, on this machine's clock; `None` if the token doesn't say. `most` is how long ago it may be
/// for a change that needs it.
///
/// # Errors
/// [`SignInError::NoAuthTime`], [`SignInError::NotFresh`], if the login must be a fresh one and isn't.
pub(super) fn authenticated(claims: &Claims, login: &Login, most: Option<Duration>, clock: &Clock) -> Result<Option<Tick>, SignInError> {
    let now = clock.wall().timestamp();
    let age = age(claims.number("auth_time"), login, now);
    if login.fresh {
        let age = age.ok_or(SignInError::NoAuthTime)?;
        if most.is_some_and(|most| age > most) {
            return Err(SignInError::NotFresh);
        }
    }
    // Longer ago than the clock goes back is as good as unknown.
    let tick = |age: Duration| clock.now().0.checked_sub(u64::try_from(age.as_nanos()).ok()?).map(Tick);
    Ok(age.and_then(tick))
}

/// How long ago the person authenticated, at `now` (seconds since 1970).
fn age(auth_time: Option<i64>, login: &Login, now: i64) -> Option<Duration> {
    let seconds = now.checked_sub(auth_time?)?;
    if seconds < 0 {
        return (Duration::from_secs(seconds.unsigned_abs()) <= AHEAD).then_some(Duration::ZERO);
    }
    let age = Duration::from_secs(seconds.unsigned_abs());
    let login = Duration::from_secs(now.saturating_sub(login.began).max(0).unsigned_abs());
    // With a clock that is a little behind, an authentication during the login seems to be one before it.
    Some(if age <= login + LEEWAY { age.min(login) } else { age })
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;

    use super::super::login::ReturnTo;
    use super::*;

    const BEGAN: i64 = 1_800_000_000;

    fn age_at(auth_time: Option<i64>, now: i64) -> Option<u64> {
        let login = Login::begin("realm", "base", ReturnTo::Status, BEGAN, &SystemRandom::new()).unwrap();
        age(auth_time, &login, now).map(|age| age.as_secs())
    }

    #[test]
    fn an_authentication_is_as_old_as_the_issuer_says() {
        assert_eq!(age_at(None, BEGAN + 30), None);
        assert_eq!(age_at(Some(BEGAN - 7200), BEGAN + 30), Some(7230));
        assert_eq!(age_at(Some(BEGAN + 20), BEGAN + 30), Some(10));
    }

    #[test]
    fn clocks_may_differ_a_little() {
        assert_eq!(age_at(Some(BEGAN - 50), BEGAN + 30), Some(30), "the issuer's is a minute behind");
        assert_eq!(age_at(Some(BEGAN - 70), BEGAN + 30), Some(100));
        assert_eq!(age_at(Some(BEGAN + 300), BEGAN + 30), Some(0), "it is ahead");
        assert_eq!(age_at(Some(BEGAN + 331), BEGAN + 30), None);
        assert_eq!((age_at(Some(i64::MIN), BEGAN), age_at(Some(i64::MAX), BEGAN)), (None, None));
    }
}
