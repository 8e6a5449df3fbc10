//! Who is calling, and what it may do.

use http::HeaderMap;
use serde_json::json;
use spillway_plugins::api::Api;
use spillway_plugins::auth::jwt::KeySet;
use spillway_testkit::tokens::SigningKey;
use tokio::io::DuplexStream;

use super::*;
use crate::clock::Clock;
use crate::proxy::fixtures::{Setup, consumer, facts, facts_of, gateway, get, metric, session, with_own_requests};
use crate::request::Timing;

/// Who is found, or why nobody is, for a request with these fields; and what was counted.
async fn send_and_judge(gateway: &Gateway, fields: &[(&str, &str)]) -> Result<Option<String>, Refusal> {
    let (session, _caller) = session(get("/v1/models", fields)).await;
    let mut facts = facts(gateway);
    identify(gateway, &session, &mut facts, &mut Timing::default()).await?;
    Ok(facts.consumer().map(|consumer| consumer.name.to_string()))
}

fn failures(gateway: &Gateway, reason: &str) -> f64 {
    metric(gateway, &format!("spillway_auth_failures_total{{reason=\"{reason}\"}}"))
}

#[tokio::test]
async fn a_key_is_its_consumers_in_any_header() {
    let gateway = gateway(&(consumer("one", "") + &consumer("two", "")));
    for fields in [("api-key", "two"), ("x-api-key", "two"), ("authorization", "Bearer two")] {
        assert_eq!(send_and_judge(&gateway, &[fields]).await, Ok(Some("two".to_owned())), "{fields:?}");
    }
    assert_eq!(send_and_judge(&gateway, &[("api-key", "two"), ("authorization", "Bearer two")]).await, Ok(Some("two".to_owned())));
    assert_eq!(send_and_judge(&gateway, &[("api-key", "three")]).await, Err(Refusal::Unauthorized));
    assert_eq!(send_and_judge(&gateway, &[]).await, Err(Refusal::Unauthorized));
    assert_eq!(send_and_judge(&gateway, &[("api-key", "one"), ("authorization", "Bearer two")]).await, Err(Refusal::TwoCredentials));
    assert_eq!(["key", "no_credential", "two_credentials"].map(|reason| failures(&gateway, reason)), [1.0, 1.0, 1.0]);
}

#[tokio::test]
async fn where_no_credential_is_required_an_unknown_one_passes_without_a_name() {
    let gateway = gateway(&(consumer("one", "") + "[plugins.auth]\nrequired = false\n"));
    assert_eq!(send_and_judge(&gateway, &[]).await, Ok(None));
    assert_eq!(send_and_judge(&gateway, &[("api-key", "three")]).await, Ok(None));
    assert_eq!(send_and_judge(&gateway, &[("api-key", "one")]).await, Ok(Some("one".to_owned())));
    assert_eq!(send_and_judge(&gateway, &[("api-key", "one"), ("authorization", "Bearer two")]).await, Err(Refusal::TwoCredentials));
    assert_eq!((failures(&gateway, "key"), failures(&gateway, "two_credentials")), (0.0, 1.0));
}

const ISSUER: &str = "[plugins.auth.jwt]\nissuer = \"https://issuer.test\"\naudiences = [\"api://spillway\"]\n";

/// A token of this application, valid from an hour ago until `expires` seconds from now.
fn token(gateway: &Gateway, application: &str, expires: i64) -> String {
    let now = gateway.clock.wall().timestamp();
    let claims =
        json!({ "iss": "https://issuer.test", "aud": "api://spillway", "azp": application, "nbf": now - 3600, "exp": now + expires });
    format!("Bearer {}", SigningKey::rsa("a").token("k", &claims))
}

fn publish(gateway: &Gateway) {
    let text = json!({ "keys": [SigningKey::rsa("a").jwk("k")] }).to_string().into_bytes();
    let runtime = gateway.runtime.load();
    let issuer = &runtime.callers.tokens.as_ref().unwrap().issuer;
    issuer.store(KeySet::parse(&text).unwrap(), text, gateway.clock.wall().timestamp());
}

#[tokio::test]
async fn a_token_is_its_applications() {
    let gateway = gateway(&(consumer("app", "claims = [\"listed\"]") + ISSUER));
    publish(&gateway);
    let of =
        async |application, expires| send_and_judge(&gateway, &[("authorization", token(&gateway, application, expires).as_str())]).await;
    assert_eq!(of("listed", 3600).await, Ok(Some("app".to_owned())));
    assert_eq!(of("listed", -3600).await, Err(Refusal::Unauthorized));
    assert_eq!(of("another", 3600).await, Err(Refusal::NotListed));
    assert_eq!(send_and_judge(&gateway, &[]).await, Err(Refusal::Unauthorized));
    assert_eq!(send_and_judge(&gateway, &[("api-key", "app")]).await, Ok(Some("app".to_owned())), "a key will do, too");
    assert_eq!(["token_expired", "not_listed", "no_credential"].map(|reason| failures(&gateway, reason)), [1.0, 1.0, 1.0]);
}

#[tokio::test]
async fn applications_that_are_not_listed_are_accepted_up_to_a_number() {
    let gateway = gateway(&(ISSUER.to_owned() + "unlisted = { max = 1 }\n"));
    publish(&gateway);
    let of = async |application| send_and_judge(&gateway, &[("authorization", token(&gateway, application, 3600).as_str())]).await;
    assert_eq!(of("first").await, Ok(Some("token:first".to_owned())));
    assert_eq!(of("second").await, Err(Refusal::TooManyConsumers));
    assert_eq!(of("first").await, Ok(Some("token:first".to_owned())));
}

#[tokio::test]
async fn a_token_with_an_unknown_key_waits_for_the_issuers_next_keys() {
    let gateway = gateway(&(consumer("app", "claims = [\"listed\"]") + ISSUER));
    let (session, _caller) = session(get("/v1/models", &[("authorization", &token(&gateway, "listed", 3600))])).await;
    let (mut facts, mut timing) = (facts(&gateway), Timing::default());
    let keys_come = async {
        tokio::task::yield_now().await;
        gateway.clock.pass(Duration::from_millis(30));
        publish(&gateway);
    };
    let (identified, ()) = tokio::join!(identify(&gateway, &session, &mut facts, &mut timing), keys_come);
    assert_eq!(identified, Ok(()));
    assert_eq!(facts.consumer().map(|consumer| &*consumer.name), Some("app"));
    assert_eq!(timing.waited, Duration::from_millis(30));
}

/// Identifies a request that the gateway makes to itself.
async fn asked_by_itself(whom: OnBehalfOf) -> (Result<(), Refusal>, Facts) {
    let rest = consumer("one", "") + &consumer("two", "");
    let (gateway, mut own) = with_own_requests(&Setup { rest: &rest, ..Setup::default() }.text(), Clock::standing());
    let mut headers = HeaderMap::new();
    headers.insert("api-key", "two".parse().unwrap());
    let served = async {
        let pipe: DuplexStream = own.recv().await.unwrap();
        let mut session = pingora::proxy::Session::new_h1(Box::new(pipe));
        session.downstream_session.read_request().await.unwrap();
        let session = Session::from(&mut session);
        let mut facts = facts(&gateway);
        let identified = identify(&gateway, &session, &mut facts, &mut Timing::default()).await;
        // A number is good for one request.
        let mut again = crate::proxy::fixtures::facts(&gateway);
        identify(&gateway, &session, &mut again, &mut Timing::default()).await.unwrap();
        assert_eq!((again.internal, again.consumer().map(|consumer| consumer.name.to_string())), (false, Some("two".to_owned())));
        (identified, facts)
    };
    let whom = match whom {
        OnBehalfOf::Itself { trace, .. } => OnBehalfOf::Itself { caller: facts_of(&gateway, "one").caller, trace },
        sent @ OnBehalfOf::Sent { .. } => sent,
    };
    let (answer, served) = tokio::join!(gateway.internal.ask("/v1/embeddings", headers, "{}".into(), whom), served);
    assert!(answer.is_err(), "it has no answer");
    served
}

#[tokio::test]
async fn a_request_of_the_gateways_own_is_its_callers() {
    let (identified, facts) = asked_by_itself(OnBehalfOf::Itself { caller: None, trace: None }).await;
    assert_eq!((identified, facts.internal), (Ok(()), true));
    assert_eq!(facts.consumer().map(|consumer| &*consumer.name), Some("one"));
    let (identified, facts) = asked_by_itself(OnBehalfOf::Sent { certificate: None }).await;
    assert_eq!((identified, facts.internal), (Ok(()), false), "one that a caller sent on a socket has its key");
    assert_eq!(facts.consumer().map(|consumer| &*consumer.name), Some("two"));
}

#[tokio::test]
async fn nobody_guesses_the_number_of_such_a_request() {
    let gateway = gateway(&consumer("one", ""));
    for number in ["0", "", "zz", "ffffffffffffffffffffffffffffffff"] {
        assert_eq!(send_and_judge(&gateway, &[("x-spillway-internal", number)]).await, Err(Refusal::Unauthorized), "{number}");
    }
}

const POOLS: &str = "[[backends]]\nname = \"c\"\nkind = \"openai\"\nurl = \"http://c.test\"\n[[pools]]\nname = \"other\"\n\
                     models = [\"o\"]\nmembers = [{ backend = \"c\", priority = 1 }]\n";

#[test]
fn rights_end_at_apis_models_and_pools() {
    let rest = POOLS.to_owned()
        + &consumer("all", "")
        + &consumer("api", "apis = [\"embeddings\"]")
        + &consumer("model", "models = [\"n\"]")
        + &consumer("pool", "pools = [\"other\"]");
    let gateway = gateway(&rest);
    let pools = &gateway.runtime.load().pools;
    let (pool, other) = (&pools[0].config, &pools[1].config);
    let of = |name: &str| facts_of(&gateway, name);
    assert_eq!(may_use_api(&of("all"), Api::Chat), Ok(()));
    assert_eq!(may_use_api(&of("api"), Api::Embeddings), Ok(()));
    assert_eq!(may_use_api(&of("api"), Api::Chat), Err(Refusal::ApiNotAllowed { api: "chat" }));
    let no_model = |model: &str| Err(Refusal::ModelNotAllowed { model: model.to_owned() });
    let no_pool = |model: &str, pool: &str| Err(Refusal::PoolNotAllowed { model: model.to_owned(), pool: pool.to_owned() });
    assert_eq!(may_use_model(&of("all"), Api::Chat, "m", pool), Ok(()));
    assert_eq!(may_use_model(&of("model"), Api::Chat, "n", pool), Ok(()));
    assert_eq!(may_use_model(&of("model"), Api::Chat, "m", pool), no_model("m"));
    assert_eq!(may_use_model(&of("pool"), Api::Chat, "m", pool), no_pool("m", "pool"));
    assert_eq!(may_use_model(&facts(&gateway), Api::Chat, "m", pool), Ok(()), "a caller without a name");
    assert_eq!(may_use_pool(&of("pool"), Api::Files, other), Ok(()));
    assert_eq!(may_use_pool(&of("pool"), Api::Files, pool), no_pool("", "pool"));
    assert_eq!(may_use_pool(&of("model"), Api::Files, other), no_pool("", "other"), "it may use none of its models");
    assert_eq!(["all", "api", "model", "pool"].map(|name| may_use_every_pool(&of(name))), [true, true, false, false]);
}

#[test]
fn what_the_gateway_asks_for_itself_was_allowed_before() {
    let gateway = gateway(&consumer("narrow", "apis = [\"chat\"]\nmodels = [\"n\"]"));
    let mut facts = facts_of(&gateway, "narrow");
    let pool = &gateway.runtime.load().pools[0].config;
    assert!(may_use_api(&facts, Api::Embeddings).is_err() && may_use_model(&facts, Api::Embeddings, "m", pool).is_err());
    facts.internal = true;
    assert_eq!((may_use_api(&facts, Api::Embeddings), may_use_model(&facts, Api::Embeddings, "m", pool)), (Ok(()), Ok(())));
    assert_eq!(may_name_model(&facts, Api::Chat, "unheard of"), Ok(()));
}

#[test]
fn a_model_beside_the_one_that_is_asked_is_held_to_the_same_rights() {
    let rest = POOLS.to_owned() + &consumer("all", "") + &consumer("model", "models = [\"n\"]") + &consumer("pool", "pools = [\"other\"]");
    let gateway = gateway(&rest);
    let may = |name: &str, model: &str| may_name_model(&facts_of(&gateway, name), Api::Responses, model);
    let no = |model: &str| Err(Refusal::ModelNotAllowed { model: model.to_owned() });
    assert_eq!((may("all", "m"), may("all", "a-deployment")), (Ok(()), Ok(())));
    assert_eq!((may("model", "n"), may("model", "m")), (Ok(()), no("m")));
    assert_eq!(may("model", "a-deployment"), no("a-deployment"));
    assert_eq!(may("pool", "o"), Ok(()));
    assert_eq!(may("pool", "a-deployment"), no("a-deployment"), "it may be one of a pool that is closed to it");
    assert_eq!(may("pool", &"x".repeat(1000)), no(&"x".repeat(128)));
    assert_eq!(may_name_model(&facts(&gateway), Api::Responses, "a-deployment"), Ok(()));
}

#[test]
fn a_pool_with_roles_wants_a_token_that_has_one() {
    let pool = "roles = [\"reader\", \"writer\"]";
    let rest = ISSUER.to_owned() + &consumer("keyed", "") + &consumer("app", "scopes = [\"chat.use\"]");
    let gateway = Setup { pool, rest: &rest, ..Setup::default() }.gateway();
    let pool = &gateway.runtime.load().pools[0].config;
    let missing = |kind, needed: &str| Err(Refusal::GrantMissing { kind, needed: needed.to_owned() });
    assert_eq!(may_use_model(&facts(&gateway), Api::Chat, "m", pool), missing("role", "reader' or 'writer"));
    assert_eq!(may_use_model(&facts_of(&gateway, "keyed"), Api::Chat, "m", pool), missing("role", "reader' or 'writer"));
    let granted = |roles: &[&str], scopes: &[&str]| {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let mut facts = facts_of(&gateway, "app");
        let grants = crate::callers::Grants { roles: owned(roles), scopes: owned(scopes) };
        facts.caller.as_mut().unwrap().grants = Some(std::sync::Arc::new(grants));
        facts
    };
    assert_eq!(may_use_model(&granted(&["writer"], &[]), Api::Chat, "m", pool), Ok(()));
    assert_eq!(may_use_model(&granted(&["other"], &[]), Api::Chat, "m", pool), missing("role", "reader' or 'writer"));
    assert_eq!(may_use_api(&granted(&["writer"], &["chat.use"]), Api::Chat), Ok(()));
    assert_eq!(may_use_api(&granted(&["writer"], &[]), Api::Chat), missing("scope", "chat.use"));
}
