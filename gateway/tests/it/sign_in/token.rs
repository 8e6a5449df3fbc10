//! ID tokens that let nobody in.

use serde_json::{Value, json};
use spillway_testkit::identity::seconds_now;
use spillway_testkit::tokens::{SigningKey, base64url, hmac_token, unsigned};

use super::browser::*;

/// Signing in fails with this status, result and text.
async fn refused(scene: &Scene, status: u16, result: &str, text: &str) {
    let mut browser = scene.browser();
    let before = scene.count(result).await;
    let answer = browser.sign_in().await;
    assert_eq!(answer.status, status, "{text}: {}", answer.text());
    assert!(answer.text().contains(text), "{text} in {}", answer.text());
    assert_eq!((browser.session(), scene.count(result).await), (None, before + 1.0), "{text}");
}

#[tokio::test]
async fn a_token_with_a_wrong_claim_is_refused() {
    let scene = Scene::start().await;
    let past = seconds_now() - 4000;
    for (claims, result, text) in [
        (json!({ "iss": "https://evil.example" }), "token", "another issuer"),
        (json!({ "iss": null }), "token", "another issuer"),
        (json!({ "aud": "another-app" }), "token", "another audience"),
        (json!({ "aud": null }), "token", "another audience"),
        (json!({ "exp": past }), "token", "expired"),
        (json!({ "exp": null }), "token", "can&#39;t be read"),
        (json!({ "nbf": seconds_now() + 4000 }), "token", "not valid yet"),
        (json!({ "nonce": "another" }), "nonce", "for another login"),
        (json!({ "nonce": null }), "nonce", "for another login"),
        (json!({ "nonce": "" }), "nonce", "for another login"),
        (json!({ "azp": "another-app" }), "token", "another application"),
        (json!({ "aud": ["gateway-app", "another-app"] }), "token", "another application"),
        (json!({ "sub": null }), "token", "who it is about"),
    ] {
        let scene_claims = claims.clone();
        scene.issuer.sign_with(move |signer, own: &Value| {
            let mut own = own.clone();
            for (name, value) in scene_claims.as_object().unwrap() {
                own[name.as_str()] = value.clone();
            }
            own.as_object_mut().unwrap().retain(|_, value| !value.is_null());
            signer.token("a", &own)
        });
        refused(&scene, 502, result, text).await;
    }
    scene.issuer.sign_with(|signer, claims| {
        let mut claims = claims.clone();
        (claims["aud"], claims["azp"]) = (json!(["another-app", "gateway-app"]), json!("gateway-app"));
        signer.token("a", &claims)
    });
    assert_eq!(scene.browser().sign_in().await.status, 303, "for several audiences, at this application's request");
}

#[tokio::test]
async fn a_token_that_the_issuer_did_not_sign_is_refused() {
    let scene = Scene::start().await;
    scene.issuer.sign_with(|_, claims| unsigned(&json!({ "alg": "none" }), claims) + ".");
    refused(&scene, 502, "token", "algorithm").await;
    scene.issuer.sign_with(|_, claims| unsigned(&json!({ "alg": "none", "kid": "a" }), claims) + ".c2ln");
    refused(&scene, 502, "token", "algorithm").await;
    scene.issuer.sign_with(|signer, claims| hmac_token("a", &signer.public_bytes(), claims));
    refused(&scene, 502, "token", "algorithm").await;
    scene.issuer.sign_with(|_, claims| SigningKey::rsa("b").token("a", claims));
    refused(&scene, 502, "token", "signature is wrong").await;
    scene.issuer.sign_with(|signer, claims| {
        let token = signer.token("a", claims);
        let (head, signature) = token.rsplit_once('.').unwrap();
        let header = head.split('.').next().unwrap();
        let mut forged = claims.clone();
        forged["roles"] = json!(["Gateway.Admin"]);
        format!("{header}.{}.{signature}", base64url(forged.to_string()))
    });
    refused(&scene, 502, "token", "signature is wrong").await;
    for nonsense in ["", "x", "a.b.c", "..", "ä.ö.ü"] {
        scene.issuer.sign_with(move |_, _| nonsense.to_owned());
        refused(&scene, 502, "token", "The ID token is not valid").await;
    }
}

#[tokio::test]
async fn a_new_key_of_the_issuer_is_fetched_at_once_and_an_unknown_one_is_refused() {
    let scene = Scene::start().await;
    let (a, b) = (SigningKey::rsa("a").jwk("a"), SigningKey::rsa("b").jwk("b"));
    scene.issuer.publish(vec![a, b]);
    scene.issuer.sign_with(|_, claims| SigningKey::rsa("b").token("b", claims));
    assert_eq!(scene.browser().sign_in().await.status, 303);
    scene.issuer.sign_with(|_, claims| SigningKey::rsa("b").token("unknown", claims));
    refused(&scene, 502, "token", "key is not known").await;
}

#[tokio::test]
async fn a_person_without_a_role_gets_a_page_that_says_what_is_missing() {
    let scene = Scene::start().await;
    scene.issuer.claims(json!({ "roles": ["Other.Role"], "groups": ["one", "two"] }));
    refused(&scene, 403, "no_role", "Ada Lovelace (ada-subject)").await;
    refused(&scene, 403, "no_role", "the app role Other.Role and 2 groups").await;
    refused(&scene, 403, "no_role", "[server.sign_in.roles]").await;
    scene.issuer.claims(json!({ "roles": null, "groups": null, "_claim_names": { "groups": "src1" } }));
    refused(&scene, 403, "no_role", "too many for a token").await;
    // Claims of the wrong kind give no role.
    for roles in [json!({ "Gateway.Admin": true }), json!([["Gateway.Admin"]]), json!(true)] {
        scene.issuer.claims(json!({ "roles": roles }));
        refused(&scene, 403, "no_role", "has no app role").await;
    }
    for roles in ["Gateway.Admin ", "gateway.admin", "Gateway.Admin,Gateway.Operator"] {
        scene.issuer.claims(json!({ "roles": roles }));
        refused(&scene, 403, "no_role", &format!("the app role {roles}")).await;
    }
}

#[tokio::test]
async fn claims_of_entra_name_nobody_at_another_issuer() {
    let scene = Scene::start().await;
    scene.issuer.claims(json!({ "oid": "somebody-else", "tid": "tenant", "upn": "boss@example.com" }));
    let mut browser = scene.browser();
    browser.sign_in().await;
    assert_eq!(browser.who().await["subject"], "ada-subject");
    scene.issuer.claims(json!({ "sub": "x".repeat(300) }));
    refused(&scene, 502, "token", "who it is about").await;
    scene.issuer.claims(json!({ "sub": "two\nlines" }));
    refused(&scene, 502, "token", "who it is about").await;
}

#[tokio::test]
async fn too_many_groups_are_said_to_somebody_with_a_role_too() {
    let scene = Scene::start().await;
    let mut browser = scene.browser();
    browser.sign_in().await;
    assert_eq!(browser.who().await["too_many_groups"], false);
    scene.issuer.claims(json!({ "groups": null, "_claim_names": { "groups": "src1" } }));
    browser.sign_in().await;
    let who = browser.who().await;
    assert_eq!((who["role"].as_str(), &who["too_many_groups"]), (Some("operator"), &json!(true)), "{who}");
}
