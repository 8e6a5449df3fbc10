use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::Part;
use crate::request::read_fields;

fn rules(json: Value) -> RequestRules {
    serde_json::from_value(json).unwrap()
}

/// The field and the message of the rejection, if there is one.
fn asked(rules: &RequestRules, api: Api, body: &Value) -> Result<(), (String, String)> {
    of_part(rules, api, None, body)
}

fn of_part(rules: &RequestRules, api: Api, part: Option<Part>, body: &Value) -> Result<(), (String, String)> {
    let body = body.to_string().into_bytes();
    let fields = read_fields(&body).unwrap();
    let request = CheckedRequest { api, part, model: "m", consumer: Some("c"), fields: &fields, body: &body };
    rules.check(&request).map_err(|rejection| {
        assert_eq!((rejection.status, rejection.code), (RejectionStatus::BadRequest, "request_out_of_bounds"));
        (rejection.field.unwrap(), rejection.message)
    })
}

fn refused(field: &str, message: &str) -> Result<(), (String, String)> {
    Err((field.to_owned(), message.to_owned()))
}

#[test]
fn output_is_bounded_under_each_of_its_names() {
    let rules = rules(json!({ "max_output_tokens": 100 }));
    for (api, field) in [
        (Api::Chat, "max_tokens"),
        (Api::Chat, "max_completion_tokens"),
        (Api::Responses, "max_output_tokens"),
        (Api::Messages, "max_tokens"),
        (Api::Completions, "max_tokens"),
        // What another API calls it: some backends use it.
        (Api::Chat, "max_output_tokens"),
    ] {
        assert_eq!(asked(&rules, api, &json!({ field: 100 })), Ok(()), "{api} {field}");
        let told = format!("'{field}' asks for 101 output tokens; at most 100 output tokens are allowed here");
        assert_eq!(asked(&rules, api, &json!({ field: 101 })), refused(field, &told));
    }
    assert_eq!(asked(&rules, Api::Chat, &json!({ "max_tokens": 1, "max_completion_tokens": 101 })).unwrap_err().0, "max_completion_tokens");
    assert_eq!(asked(&rules, Api::Chat, &json!({})), Ok(()), "a cap is not required");
}

#[test]
fn a_cap_can_be_required() {
    let rules = rules(json!({ "require_output_cap": true, "max_output_tokens": 1 }));
    for (api, field) in [(Api::Chat, "max_completion_tokens"), (Api::Responses, "max_output_tokens"), (Api::Messages, "max_tokens")] {
        let told = format!("'{field}' is missing: a request must limit its output tokens here; at most 1 output token is allowed here");
        assert_eq!(asked(&rules, api, &json!({})), refused(field, &told));
        assert_eq!(asked(&rules, api, &json!({ field: null })), refused(field, &told));
        assert_eq!(asked(&rules, api, &json!({ field: 1 })), Ok(()));
    }
    assert_eq!(asked(&rules, Api::Chat, &json!({ "max_tokens": 1 })), Ok(()), "its older name");
    assert!(asked(&rules, Api::Responses, &json!({ "max_tokens": 1 })).is_err(), "another API's name is no cap");
    assert_eq!(asked(&rules, Api::Embeddings, &json!({ "input": "x" })), Ok(()), "they have no output");
    assert_eq!(of_part(&rules, Api::Messages, Some(Part::CountTokens), &json!({})), Ok(()), "nothing is generated");
}

#[test]
fn choices_are_bounded() {
    let rules = rules(json!({ "max_choices": 2 }));
    let told = |field: &str, asked: u64| refused(field, &format!("'{field}' asks for {asked} answers; at most 2 answers are allowed here"));
    assert_eq!(asked(&rules, Api::Chat, &json!({ "n": 2 })), Ok(()));
    assert_eq!(asked(&rules, Api::Chat, &json!({ "n": 3 })), told("n", 3));
    assert_eq!(asked(&rules, Api::Completions, &json!({ "n": 1, "best_of": 4 })), told("best_of", 4));
    assert_eq!(asked(&rules, Api::Completions, &json!({ "prompt": ["a", "b"] })), Ok(()));
    assert_eq!(asked(&rules, Api::Completions, &json!({ "prompt": ["a", "b"], "n": 2 })), told("prompt", 4));
    assert_eq!(asked(&rules, Api::Completions, &json!({ "prompt": [1, 2, 3, 4] })), Ok(()), "the tokens of one prompt");
    assert_eq!(asked(&rules, Api::ImageGenerations, &json!({ "n": 3 })), told("n", 3));
}

#[test]
fn messages_are_bounded() {
    let rules = rules(json!({ "max_messages": 2 }));
    let list = |count: usize| vec![json!({ "role": "user", "content": "x" }); count];
    for api in [Api::Chat, Api::Messages] {
        assert_eq!(asked(&rules, api, &json!({ "messages": list(2) })), Ok(()));
        let told = "'messages' asks for 3 messages; at most 2 messages are allowed here";
        assert_eq!(asked(&rules, api, &json!({ "messages": list(3) })), refused("messages", told));
    }
    let told = "'input' asks for 3 items; at most 2 items are allowed here";
    assert_eq!(asked(&rules, Api::Responses, &json!({ "input": list(3) })), refused("input", told));
    assert_eq!(asked(&rules, Api::Responses, &json!({ "input": "x" })), Ok(()));
    assert_eq!(asked(&rules, Api::Embeddings, &json!({ "input": ["a", "b", "c"] })), Ok(()), "no conversation");
}

#[test]
fn tools_are_bounded_in_all_their_lists() {
    let (two, none) = (rules(json!({ "max_tools": 2 })), rules(json!({ "max_tools": 0 })));
    let function = |name: &str| json!({ "type": "function", "name": name, "parameters": { "tools": [1, 2, 3] } });
    let [a, b] = ["a", "b"].map(function);
    assert_eq!(asked(&two, Api::Responses, &json!({ "tools": [a, b] })), Ok(()));
    assert_eq!(asked(&none, Api::Responses, &json!({ "tools": [] })), Ok(()));
    assert_eq!(
        asked(&none, Api::Responses, &json!({ "tools": [a] })),
        refused("tools", "'tools' asks for 1 tool; no tools are allowed here")
    );
    for (field, body) in [
        ("tools", json!({ "tools": [a, b], "functions": [a] })),
        ("functions", json!({ "functions": [a, b, a] })),
        ("mcp_servers", json!({ "mcp_servers": [{}, {}, {}] })),
        ("tools", json!({ "tools": [a, b], "web_search_options": {} })),
        ("tools", json!({ "tools": [{ "type": "namespace", "name": "n", "tools": [a, b] }] })),
        ("input", json!({ "input": [{ "type": "additional_tools", "role": "developer", "tools": [a, b, a] }] })),
        (
            "input",
            json!({ "tools": [a], "input": [{ "tools": [a], "type": "tool_search_output" }, { "type": "additional_tools", "tools": [b] }] }),
        ),
        (
            "messages",
            json!({ "messages": [{ "role": "system", "content": vec![json!({ "type": "tool_addition", "tool": { "type": "tool_definition", "definition": a } }); 3] }] }),
        ),
    ] {
        let told = format!("'{field}' asks for 3 tools; at most 2 tools are allowed here");
        assert_eq!(asked(&two, Api::Chat, &body), refused(field, &told), "{body}");
    }
}

#[test]
fn what_a_server_lists_is_not_offered_again() {
    let none = rules(json!({ "max_tools": 0 }));
    assert_eq!(asked(&none, Api::Responses, &json!({ "input": [{ "type": "mcp_list_tools", "tools": [{ "name": "a" }] }] })), Ok(()));
    let twice = r#"{"input":[{"type":"additional_tools","tools":[1],"x":1,"x":2}]}"#;
    let request = read_fields(twice.as_bytes()).unwrap();
    let told = none.check(&CheckedRequest {
        api: Api::Responses,
        part: None,
        model: "m",
        consumer: None,
        fields: &request,
        body: twice.as_bytes(),
    });
    assert_eq!(told.unwrap_err().field.as_deref(), Some("input"));
}

#[test]
fn images_are_found_in_every_api() {
    let rules = rules(json!({ "allow_images": false }));
    let user = |part: Value| json!([{ "role": "user", "content": [{ "type": "text", "text": "x" }, part] }]);
    let url = "data:image/png;base64,AAAA";
    for (api, field, value) in [
        (Api::Chat, "messages", user(json!({ "type": "image_url", "image_url": { "url": url } }))),
        (Api::Chat, "messages", user(json!({ "image_url": { "url": url } }))),
        (Api::Responses, "input", user(json!({ "type": "input_image", "image_url": url }))),
        (Api::Responses, "input", user(json!({ "type": "input_image", "file_id": "f" }))),
        (
            Api::Responses,
            "input",
            json!([{ "type": "computer_call_output", "output": { "type": "computer_screenshot", "image_url": url } }]),
        ),
        (Api::Responses, "tools", json!([{ "type": "image_generation", "input_image_mask": { "image_url": url } }])),
        (Api::Responses, "tools", json!([{ "type": "image_generation", "input_image_mask": { "file_id": "f" } }])),
        (
            Api::Responses,
            "input",
            json!([{ "type": "additional_tools", "tools": [{ "type": "image_generation", "input_image_mask": { "file_id": "f" } }] }]),
        ),
        (Api::Responses, "prompt", json!({ "id": "p", "variables": { "v": { "type": "input_image", "file_id": "f" } } })),
        (Api::Messages, "messages", user(json!({ "type": "image", "source": { "type": "base64", "data": "AAAA" } }))),
        (
            Api::Messages,
            "messages",
            user(json!({ "type": "tool_result", "tool_use_id": "t", "content": [{ "type": "image", "source": {} }] })),
        ),
    ] {
        let told = format!("'{field}' has an image: only prompts without images are allowed here");
        assert_eq!(asked(&rules, api, &json!({ field: value })), refused(field, &told), "{value}");
    }
    for (api, body) in [
        (Api::Chat, json!({ "messages": [{ "role": "user", "content": "image_url" }] })),
        (Api::Chat, json!({ "messages": [{ "role": "user", "content": [{ "type": "text", "text": "image" }] }] })),
        // A tool that makes images, and the arguments of its call.
        (
            Api::Chat,
            json!({ "messages": [], "tools": [{ "type": "function", "function": { "name": "image", "parameters": { "type": "image" } } }] }),
        ),
        (
            Api::Messages,
            json!({ "messages": [{ "role": "assistant", "content": [{ "type": "tool_use", "id": "t", "name": "show", "input": { "type": "image", "image_url": "x", "deep": [{ "type": "image" }] } }, { "type": "text", "text": "x" }] }] }),
        ),
        (Api::Chat, json!({ "messages": [{ "role": "user", "content": [{ "type": "text", "text": "x", "image_url": null }] }] })),
    ] {
        assert_eq!(asked(&rules, api, &body), Ok(()), "{body}");
    }
    // After what only the caller understands, looking goes on.
    let after = json!([{ "type": "tool_use", "input": { "a": [{}] } }, { "type": "image", "source": {} }]);
    assert!(asked(&rules, Api::Messages, &json!({ "messages": [{ "role": "user", "content": after }] })).is_err());
}

#[test]
fn what_can_be_read_in_two_ways_has_no_known_images() {
    let rules = rules(json!({ "allow_images": false }));
    let check = |body: &str| {
        let fields = read_fields(body.as_bytes()).unwrap();
        let request = CheckedRequest { api: Api::Chat, part: None, model: "m", consumer: None, fields: &fields, body: body.as_bytes() };
        rules.check(&request).map_err(|rejection| rejection.message)
    };
    let twice = check(r#"{"messages":[{"role":"user","content":[{"type":"text","text":"image","x":1,"x":2}]}]}"#);
    assert!(twice.unwrap_err().starts_with("'messages' can be read in two ways"));
}

#[test]
fn rules_apply_to_their_models_and_consumers() {
    let applies = |own: Value, model: &str, consumer: Option<&str>, body: Value| {
        let mut all = json!({ "max_messages": 1 });
        all.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        let body = body.to_string();
        let fields = read_fields(body.as_bytes()).unwrap();
        let request = CheckedRequest { api: Api::Chat, part: None, model, consumer, fields: &fields, body: body.as_bytes() };
        rules(all).check(&request).is_err()
    };
    let body = || json!({ "messages": [{}, {}] });
    assert!(applies(json!({}), "m", None, body()));
    assert!(applies(json!({ "models": ["x", "m"] }), "m", None, body()));
    assert!(!applies(json!({ "models": ["x"] }), "m", None, body()));
    assert!(applies(json!({ "models": ["x"] }), "m", None, json!({ "messages": [{}, {}], "fallbacks": ["x"] })), "a further model");
    assert!(applies(json!({ "consumers": ["c"] }), "m", Some("c"), body()));
    assert!(!applies(json!({ "consumers": ["c"] }), "m", Some("d"), body()));
    assert!(!applies(json!({ "consumers": ["c"] }), "m", None, body()));
    assert!(!applies(json!({ "except_consumers": ["c"] }), "m", Some("c"), body()));
    assert!(applies(json!({ "except_consumers": ["c"] }), "m", Some("d"), body()));
    assert!(applies(json!({ "except_consumers": ["c"] }), "m", None, body()));
}

#[derive(Default)]
struct Problems(Vec<String>);

impl ConfigReport for Problems {
    fn problem(&mut self, key: &str, message: &str) {
        self.0.push(format!("{key}: {message}"));
    }

    fn expect_model(&mut self, key: &str, name: &str) {
        if name != "m" {
            self.0.push(format!("{key}: no model {name}"));
        }
    }

    fn expect_consumer(&mut self, key: &str, name: &str) {
        if name != "c" {
            self.0.push(format!("{key}: no consumer {name}"));
        }
    }
}

#[test]
fn the_configuration_is_verified() {
    let problems = |json: Value| {
        let mut problems = Problems::default();
        rules(json).verify(&mut problems);
        problems.0
    };
    assert_eq!(problems(json!({ "models": ["m"], "consumers": ["c"], "max_tools": 0 })), [""; 0]);
    assert_eq!(problems(json!({ "require_output_cap": true })), [""; 0]);
    assert_eq!(problems(json!({ "allow_images": false })), [""; 0]);
    assert_eq!(problems(json!({ "allow_images": true })), [": bounds nothing: set at least one of its limits"]);
    let wrong = json!({ "models": ["m", "n"], "consumers": ["d"], "except_consumers": ["e"], "max_choices": 0 });
    let told = [
        "models[1]: no model n",
        "consumers[0]: no consumer d",
        "except_consumers[0]: no consumer e",
        "except_consumers: give either 'consumers' or 'except_consumers'",
        "max_choices: must be at least 1",
    ];
    assert_eq!(problems(wrong), told);
    assert!(problems(json!({ "models": [], "max_tools": 1 }))[0].starts_with("models: an empty list"));
    assert!(serde_json::from_value::<RequestRules>(json!({ "max_tokens": 1 })).is_err(), "an unknown key");
}

proptest! {
    /// Counts are those of a tree, whatever stands around them.
    #[test]
    fn counts_agree_with_a_tree(messages in 0usize..6, tools in 0usize..6, most in 0u64..6, text in "\\PC{0,8}") {
        let message = json!({ "role": "user", "content": [{ "type": "text", "text": text }], "tools": [text] });
        let body = json!({ "x": text, "messages": vec![message; messages], "tools": vec![json!({ "type": text }); tools] });
        let allowed = rules(json!({ "max_messages": most.max(1), "max_tools": most }));
        // Each message brings a tool.
        let expected = messages as u64 <= most.max(1) && (tools + messages) as u64 <= most;
        prop_assert_eq!(asked(&allowed, Api::Chat, &body).is_ok(), expected);
    }
}
