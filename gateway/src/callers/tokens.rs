//! From an access token to a consumer. A checked token is remembered until it expires, so that the next request with it
//! costs one hash.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use moka::sync::Cache;
use parking_lot::Mutex;
use spillway_plugins::auth::jwt::{Claims, TokenError, verify};
use spillway_plugins::auth::{Digest, digest};
use spillway_plugins::limits::Class;

use super::caller::{Caller, Denied};
use super::consumer::LiveConsumer;
use super::grants::Grants;
use super::issuer::Issuer;
use crate::config::{CacheNamespace, Consumer, ConsumerLog, IssuedKeyRules, TokenRules, Transforms, UNLISTED, Unlisted};
use crate::limits::{Account, Groups, Limits};
use crate::telemetry::metrics::Metrics;

/// Number of remembered tokens.
const REMEMBERED: u64 = 20_000;
/// Longest name of a consumer that comes from a token.
const LONGEST_NAME: usize = 128;

/// A checked token.
#[derive(Debug, Clone)]
struct Checked {
    caller: Caller,
    expires: i64,
    /// The number of the key set that it was checked with.
    keys: u64,
}

/// The accepted tokens, and their consumers.
#[derive(Debug)]
pub struct Tokens {
    /// Their issuer.
    pub issuer: Arc<Issuer>,
    by_claim: HashMap<String, Arc<LiveConsumer>>,
    /// The listed consumers' names.
    names: HashSet<Arc<str>>,
    consumer_claim: String,
    unlisted: Option<Unlisted>,
    /// The limits that consumers which are not listed get.
    limits: Arc<Limits>,
    /// The groups that they may be in.
    groups: Arc<Groups>,
    /// Consumers that are not listed, but sent a valid token.
    arrived: Mutex<HashMap<String, Arc<LiveConsumer>>>,
    checked: Cache<Digest, Checked>,
}

impl Tokens {
    /// With these rules and consumers. Consumers of `before` that are not listed are kept, if that is still allowed.
    pub fn new(
        rules: TokenRules,
        consumers: &[Arc<LiveConsumer>],
        groups: Arc<Groups>,
        limits: Arc<Limits>,
        metrics: &Metrics,
        before: Option<&Tokens>,
    ) -> Self {
        crate::http_client::install_crypto();
        let claims = |consumer: &Arc<LiveConsumer>| -> Vec<_> {
            consumer.claims.iter().map(|claim| (claim.clone(), Arc::clone(consumer))).collect()
        };
        let known = before.map(|before| &before.issuer);
        let issuer = match known.filter(|issuer| issuer.config == rules.issuer) {
            Some(same) => Arc::clone(same),
            None => Arc::new(Issuer::new(rules.issuer.clone(), metrics.callers.issuer(), known.map(|known| &**known))),
        };
        let tokens = Tokens {
            by_claim: consumers.iter().flat_map(claims).collect(),
            names: consumers.iter().map(|consumer| Arc::clone(&consumer.name)).collect(),
            consumer_claim: rules.consumer_claim.clone(),
            unlisted: rules.unlisted.clone(),
            issuer,
            limits,
            groups,
            arrived: Mutex::default(),
            checked: Cache::new(REMEMBERED),
        };
        let arrived: Vec<String> = before.map(|before| before.arrived.lock().keys().cloned().collect()).unwrap_or_default();
        for claim in arrived.iter().filter(|claim| !tokens.by_claim.contains_key(*claim)) {
            // If it is refused, the consumer is forgotten.
            let _ = tokens.arrival(claim);
        }
        tokens
    }

    /// Identifies the token's consumer, at `now` (seconds since 1970).
    ///
    /// # Errors
    /// [`Denied`]; after [`TokenError::UnknownKey`], [`Issuer::renew`] may help.
    pub fn caller(&self, token: &[u8], now: i64) -> Result<Caller, Denied> {
        let name = digest(token);
        let (keys, number) = self.issuer.keys();
        // A token that a withdrawn key signed must not stay valid.
        if let Some(checked) = self.checked.get(&name).filter(|checked| checked.keys == number) {
            return if now < checked.expires { Ok(checked.caller) } else { Err(Denied::Token(TokenError::Expired)) };
        }
        let verified = verify(token, &self.issuer.config.rules, &keys, now).map_err(Denied::Token)?;
        let caller = self.named(&verified.claims)?;
        self.checked.insert(name, Checked { caller: caller.clone(), expires: verified.expires, keys: number });
        Ok(caller)
    }

    fn named(&self, claims: &Claims) -> Result<Caller, Denied> {
        let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
        let grants = Arc::new(Grants { roles: owned(claims.roles()), scopes: owned(claims.scopes()) });
        let claim = claims.consumer(&self.consumer_claim).ok_or(Denied::NoClaim)?;
        let consumer = match self.by_claim.get(claim) {
            Some(consumer) => Arc::clone(consumer),
            None => self.arrival(claim)?,
        };
        Ok(Caller { consumer, grants: Some(grants), key: None })
    }

    fn arrival(&self, claim: &str) -> Result<Arc<LiveConsumer>, Denied> {
        // A claim must not give a caller the name of a listed consumer.
        let unlisted = self.unlisted.as_ref().filter(|_| !self.names.contains(claim)).ok_or(Denied::NotListed)?;
        if claim.len() > LONGEST_NAME || claim.chars().any(char::is_control) {
            return Err(Denied::NoClaim);
        }
        let mut arrived = self.arrived.lock();
        if let Some(known) = arrived.get(claim) {
            return Ok(Arc::clone(known));
        }
        if arrived.len() >= unlisted.max {
            return Err(Denied::TooMany);
        }
        let config = Consumer {
            name: format!("{UNLISTED}{claim}").into(),
            keys: Vec::new(),
            certificates: Vec::new(),
            claims: vec![claim.to_owned()],
            rights: unlisted.rights.clone(),
            headers: Vec::new(),
            class: Class::default(),
            deadline: None,
            owners: Vec::new(),
            issued_keys: IssuedKeyRules::default(),
            group: unlisted.group,
            limits: unlisted.limits.clone(),
            cache: Some(CacheNamespace::Own),
            guard: true,
            prompt_log: ConsumerLog::default(),
            transform: Transforms::default(),
        };
        let account = Account::new(&config, None, &self.groups, &self.limits);
        let consumer = Arc::new(LiveConsumer::new(config, account));
        arrived.insert(claim.to_owned(), Arc::clone(&consumer));
        Ok(consumer)
    }
}
