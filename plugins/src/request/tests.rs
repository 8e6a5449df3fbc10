use super::*;

#[test]
fn thinking_is_asked_for_in_several_words() {
    for (body, expected) in [
        (r#"{"model":"m"}"#, None),
        (r#"{"reasoning_effort":null,"thinking":null}"#, None),
        (r#"{"reasoning_effort":"high"}"#, Some(true)),
        (r#"{"reasoning_effort":"none"}"#, Some(false)),
        (r#"{"reasoning":{"effort":"low","summary":"auto"}}"#, Some(true)),
        (r#"{"reasoning":{"effort":"none"}}"#, Some(false)),
        (r#"{"reasoning":{"enabled":false}}"#, Some(false)),
        (r#"{"reasoning":{"summary":"auto"}}"#, Some(true)),
        (r#"{"thinking":{"type":"enabled","budget_tokens":1024}}"#, Some(true)),
        (r#"{"thinking":{"type":"disabled"}}"#, Some(false)),
        (r#"{"enable_thinking":false}"#, Some(false)),
        (r#"{"enable_thinking":false,"reasoning_effort":"low"}"#, Some(true)),
    ] {
        assert_eq!(read_fields(body.as_bytes()).unwrap().reasoning, expected, "{body}");
    }
}

#[test]
fn of_several_caps_the_larger_one_counts() {
    for (api, body, expected) in [
        (Api::Chat, r#"{"max_tokens":900,"max_completion_tokens":1}"#, 900),
        (Api::Chat, r#"{"max_tokens":1,"max_completion_tokens":900}"#, 900),
        (Api::Chat, r#"{"max_tokens":null,"max_completion_tokens":5}"#, 5),
        (Api::Chat, r#"{"max_output_tokens":1,"max_tokens":900}"#, 900),
        (Api::Responses, r#"{"max_output_tokens":1,"max_tokens":900}"#, 900),
        (Api::Responses, r#"{"max_output_tokens":2,"n":1}"#, 2),
        // Another API's cap alone is none.
        (Api::Chat, r#"{"max_output_tokens":1}"#, 1024),
        (Api::Responses, r#"{"max_tokens":1}"#, 1024),
        (Api::Responses, r#"{"max_tokens":4000}"#, 4000),
        (Api::Completions, r#"{"max_tokens":10,"n":2,"best_of":3}"#, 30),
        (Api::Completions, r#"{"max_tokens":10,"n":2,"prompt":["a","b",[1,2]]}"#, 60),
        (Api::Completions, r#"{"max_tokens":10,"prompt":[1,2,3]}"#, 10),
        (Api::Messages, "{}", 1024),
        (Api::Embeddings, r#"{"max_tokens":10}"#, 0),
    ] {
        assert_eq!(read_fields(body.as_bytes()).unwrap().completion_cap(api, 1024), expected, "{api:?} {body}");
    }
}

#[test]
fn reads_fields_and_their_place() {
    let body = br#"{"messages":[{"role":"user","content":"hi \"model\":1"}], "model" : "gpt-4o","stream":true,"max_tokens":7}"#;
    let fields = read_fields(body).unwrap();
    assert_eq!(fields.model.as_deref(), Some("gpt-4o"));
    assert_eq!(&body[fields.model_range.unwrap()], br#""gpt-4o""#);
    assert!(fields.stream);
    assert_eq!(fields.max_tokens, Some(7));
    assert_eq!(fields.prompt_at, Some(12));
}

#[test]
fn refuses_what_two_readers_could_read_differently() {
    let duplicate = BodyError::Duplicate { field: "model" };
    assert_eq!(read_fields(br#"{"model":"a","model":"b"}"#), Err(duplicate.clone()));
    assert_eq!(read_fields(br#"{"model":"a","mod\u0065l":"b"}"#), Err(duplicate));
}

#[test]
fn names_mean_one_thing_to_every_reader() {
    use Ambiguity::{Alike, HalfPair, OtherTwice};
    for (bad, expected) in [
        (r#"{"model":"a","Model":"b"}"#, Alike { name: "model", at: 13 }),
        (r#"{"Previous_Response_Id":"resp_1"}"#, Alike { name: "previous_response_id", at: 1 }),
        (r#"{"maxTokens":1}"#, Alike { name: "max_tokens", at: 1 }),
        ("{\"\\u017ftream\":true}", Alike { name: "stream", at: 1 }),
        (r#"{"input":[{"Type":"item_reference","id":"msg_1"}]}"#, Alike { name: "type", at: 11 }),
        (r#"{"tools":[{"type":"image_generation","Model":"x"}]}"#, Alike { name: "model", at: 37 }),
        (r#"{"messages":[{"content":[{"fileId":"x"}]}]}"#, Alike { name: "file_id", at: 26 }),
        (r#"{"prompt":{"variables":{"a":{"File_Id":"x"}}}}"#, Alike { name: "file_id", at: 29 }),
        (r#"{"Metadata":{}}"#, Alike { name: "metadata", at: 1 }),
        (r#"{"x":1,"X":2}"#, OtherTwice { at: 7 }),
        (r#"{"a_b":1,"aB":2}"#, OtherTwice { at: 9 }),
        (r#"{"input":[{"\ud800":1}]}"#, HalfPair { at: 11 }),
    ] {
        assert_eq!(read_fields(bad.as_bytes()), Err(BodyError::Ambiguous(expected)), "{bad}");
    }
    for (twice, field) in [
        (r#"{"input":[{"id":"a","\u0069d":"b"}]}"#, "id"),
        (r#"{"tools":[{"vector_store_ids":[],"vector_store_ids":[]}]}"#, "vector_store_ids"),
        (r#"{"stream_options":{"include_usage":false,"include_usage":true}}"#, "include_usage"),
        (r#"{"temperature":1,"temperature":2}"#, "temperature"),
    ] {
        assert_eq!(read_fields(twice.as_bytes()), Err(BodyError::Duplicate { field }), "{twice}");
    }
}

#[test]
fn what_is_the_callers_own_may_be_called_anything() {
    for fine in [
        r#"{"tools":[{"function":{"parameters":{"properties":{"Type":{},"type":{},"ID":{"Model":1,"Model":2}}}}}]}"#,
        r#"{"metadata":{"Model":"x","model":"y","type":"a","Type":"b"}}"#,
        r#"{"messages":[{"content":[{"type":"tool_use","id":"a","input":{"ID":1,"Id":2}}]}]}"#,
        r#"{"input":[{"type":"message","role":"user","content":"Model"}],"prompt":{"variables":{"Model":"x","Type":"y"}}}"#,
        r#"{"text":{"format":{"type":"json_schema","schema":{"properties":{"Content":{}}}}}}"#,
        r#"{"documents":[{"Text":"a","ID":7}],"chat_template_kwargs":{"Content":1}}"#,
    ] {
        assert!(read_fields(fine.as_bytes()).is_ok(), "{fine}");
    }
    // At the top level an input that is an object is as good as any other.
    let hidden = read_fields(br#"{"input":{"file_id":"a","file_id":"b"}}"#);
    assert_eq!(hidden, Err(BodyError::Duplicate { field: "file_id" }));
}

#[test]
fn every_model_is_known() {
    let further = |body: &str| read_fields(body.as_bytes()).map(|fields| fields.further_models);
    assert_eq!(further(r#"{"model":"a","tools":[{"type":"image_generation","mod\u0065l":"b"}]}"#).unwrap(), ["b"]);
    assert_eq!(further(r#"{"model":"a","models":["b","c"],"fallbacks":[{"model":"d"}]}"#).unwrap(), ["b", "c", "d", "d"]);
    for body in [
        r#"{"fallbacks":[{"a":["b"]}]}"#,
        r#"{"fallbacks":"b"}"#,
        r#"{"models":"b"}"#,
        r#"{"context_window_fallbacks":[{"a":["b"]}]}"#,
        r#"{"data_sources":[{"type":"azure_search","parameters":{"embedding_dependency":{"deployment_name":"b"}}}]}"#,
    ] {
        assert_eq!(further(body).unwrap(), ["b"], "{body}");
    }
    let deep = format!(r#"{{"fallbacks":{}"b"{}}}"#, "[".repeat(20), "]".repeat(20));
    assert!(matches!(further(&deep), Err(BodyError::WrongType { field: "fallbacks", .. })));
    let long = format!(r#"{{"models":["b"{}]}}"#, r#","b""#.repeat(300));
    assert!(further(&long).is_err());
    assert!(further(r#"{"model":"a","tools":[{"model":null}],"metadata":{"model":"x"}}"#).unwrap().is_empty());
    assert!(further(r#"{"tools":[{"model":7}]}"#).is_err());
    let many = format!(r#"{{"tools":[{}{{}}]}}"#, r#"{"model":"x"},"#.repeat(257));
    assert_eq!(further(&many), Err(BodyError::Ambiguous(Ambiguity::Models { most: 256 })));
}

#[test]
fn no_model_is_none_however_it_is_written() {
    for (body, stands) in [(r#"{"model":null}"#, "null"), (r#"{"model":""}"#, "\"\"")] {
        let fields = read_fields(body.as_bytes()).unwrap();
        assert_eq!((fields.model, &body[fields.model_range.unwrap()]), (None, stands));
    }
}

#[test]
fn what_readers_forgive_differently_is_no_json() {
    for bad in [
        "\u{feff}{}",
        "{\"n\":1,}",
        "{\"n\":1/**/}",
        "{\"n\":1}//",
        "{\"n\":NaN}",
        "{\"n\":01}",
        "{\"n\":+1}",
        "{'n':1}",
        "{\"n\":1}\0",
        "{\"x\":Infinity}",
        "\u{c}{}",
        "{\"x\":1}{}",
    ] {
        assert!(matches!(read_fields(bad.as_bytes()), Err(BodyError::Syntax(_))), "{bad}");
    }
    for number in ["1e400", "1e1", "1.0", "-0", "18446744073709551616", "\"7\"", "[7]"] {
        for field in ["max_tokens", "max_completion_tokens", "max_output_tokens", "n", "best_of"] {
            let body = format!(r#"{{"{field}":{number}}}"#);
            assert!(matches!(read_fields(body.as_bytes()), Err(BodyError::WrongType { .. })), "{body}");
        }
    }
    assert!(matches!(read_fields(br#"{"model":"a\ud800"}"#), Err(BodyError::WrongType { field: "model", .. })));
}

proptest::proptest! {
    /// Whatever a reader does with case and with the first or the last of two: it reads the same model.
    #[test]
    fn every_reader_finds_one_model(names in proptest::collection::vec("[mM]od[eE]l|MODEL|mo_del|m\\\\u006fdel|x", 1..4)) {
        let members: Vec<String> = names.iter().enumerate().map(|(at, name)| format!("\"{name}\":\"{at}\"")).collect();
        let body = format!("{{{}}}", members.join(","));
        let candidates = names.iter().filter(|name| *name != "x").count();
        if let Ok(fields) = read_fields(body.as_bytes()) {
            proptest::prop_assert_eq!(candidates, usize::from(fields.model.is_some()));
        } else {
            proptest::prop_assert!(names.len() > 1 || names[0] != "x");
        }
    }
}

#[test]
fn refuses_wrong_types() {
    for bad in [r#"{"model":1}"#, r#"{"model":"a","stream":"yes"}"#, r#"{"max_tokens":-1}"#, r#"{"n":1.5}"#] {
        assert!(matches!(read_fields(bad.as_bytes()), Err(BodyError::WrongType { .. })), "{bad}");
    }
    assert_eq!(read_fields(b"[1]"), Err(BodyError::NotAnObject));
    assert!(matches!(read_fields(b"{\"model\":\"\xff\"}"), Err(BodyError::Encoding { at: 10 })));
    assert!(matches!(read_fields(b""), Err(BodyError::Syntax(_))));
    assert!(matches!(read_fields(b"hello"), Err(BodyError::Syntax(_))));
}

#[test]
fn the_usage_can_be_asked_for_by_an_edit() {
    for (options, expected) in [
        ("null", r#"{"include_usage":true}"#),
        ("{}", r#"{"include_usage":true}"#),
        ("{ }", r#"{"include_usage":true}"#),
        (r#"{"include_usage": false}"#, r#"{"include_usage": true}"#),
        (r#"{"include_usage":null,"x":1}"#, r#"{"include_usage":true,"x":1}"#),
        (r#"{ "include_obfuscation":false}"#, r#"{"include_usage":true, "include_obfuscation":false}"#),
    ] {
        let body = format!(r#"{{"model":"a","stream_options":{options},"stream":true}}"#);
        let StreamOptions::UsageNotAsked { range, insert } = read_fields(body.as_bytes()).unwrap().stream_options else {
            panic!("{options}")
        };
        let edited = format!("{}{insert}{}", &body[..range.start], &body[range.end..]);
        assert_eq!(edited, body.replace(options, expected), "{options}");
        assert_eq!(read_fields(edited.as_bytes()).unwrap().stream_options, StreamOptions::UsageAsked);
    }
    let options = |text: &str| read_fields(format!(r#"{{"model":"a"{text}}}"#).as_bytes()).unwrap().stream_options;
    assert_eq!(options(""), StreamOptions::Absent);
    assert_eq!(options(r#","stream_options":{"include_usage":true}"#), StreamOptions::UsageAsked);
    for odd in [r#""x""#, r#"{"include_usage":"yes"}"#] {
        assert_eq!(options(&format!(r#","stream_options":{odd}"#)), StreamOptions::Odd, "{odd}");
    }
}

#[test]
fn nulls_are_absence() {
    let fields = read_fields(br#"{"model":"a","stream":null,"max_tokens":null,"max_completion_tokens":5}"#).unwrap();
    assert_eq!((fields.stream, fields.cap()), (false, Some(5)));
}

#[test]
fn a_name_that_cannot_be_decoded_is_refused_and_a_text_is_the_backends_to_refuse() {
    let long = "x".repeat(1000);
    for wrong in [r"\q", r"\u12", r"\ud800"] {
        let wrong = format!("{long}{wrong}");
        for body in [
            format!(r#"{{"model":"{wrong}"}}"#),
            format!(r#"{{"model":"a","models":["{wrong}"]}}"#),
            format!(r#"{{"model":"a","fallbacks":[{{"model":"{wrong}"}}]}}"#),
            format!(r#"{{"model":"a","tools":[{{"type":"image_generation","model":"{wrong}"}}]}}"#),
            format!(r#"{{"model":"a","{wrong}":1}}"#),
            format!(r#"{{"model":"a","messages":[{{"{wrong}":1}}]}}"#),
        ] {
            assert!(read_fields(body.as_bytes()).is_err(), "{body}");
        }
        for member in ["previous_response_id", "conversation"] {
            let body = format!(r#"{{"model":"a","{member}":"{wrong}"}}"#);
            assert!(read_fields(body.as_bytes()).unwrap().references_in(body.as_bytes()).malformed, "{body}");
        }
        let deeper = format!(r#"{{"model":"a","input":[{{"file_id":"f","text":"{wrong}"}}]}}"#);
        assert!(read_fields(deeper.as_bytes()).unwrap().references_in(deeper.as_bytes()).malformed);
        let text = format!(r#"{{"messages":[{{"content":"{wrong}"}}],"model":"a"}}"#);
        assert_eq!(read_fields(text.as_bytes()).unwrap().model.as_deref(), Some("a"));
    }
}

/// A body of about so many bytes, most of them in one text.
fn with_text(length: usize) -> String {
    format!(r#"{{"model":"m","messages":[{{"role":"user","content":"{}"}}]}}"#, "It holds water. ".repeat(length / 16))
}

#[test]
fn a_long_text_is_read_at_once_and_many_values_are_not() {
    let at_once = |body: &str| read_fields_at_once(body.as_bytes()).map(|fields| fields.map(|fields| fields.model));
    let model = || Some("m".to_owned());
    assert_eq!(at_once(&with_text(1000)), Some(Ok(model())));
    assert_eq!(at_once(&with_text(1_000_000)), Some(Ok(model())));
    assert_eq!(at_once(&with_text(LONGEST + 1)), None, "too long");
    let many = |count: usize| format!(r#"{{"model":"m","input":[{}1]}}"#, "1,".repeat(count));
    assert_eq!(at_once(&many(STEPS / 2)), Some(Ok(model())));
    assert_eq!(at_once(&many(STEPS)), None);
    let quotes = |count: usize| format!(r#"{{"model":"m","input":"{}{}"}}"#, "x".repeat(1000), r#"\""#.repeat(count));
    assert_eq!(at_once(&quotes(STEPS / 2)), Some(Ok(model())));
    assert_eq!(at_once(&quotes(STEPS)), None);
    let long = "m".repeat(LONGEST_DECODED);
    assert_eq!(at_once(&format!(r#"{{"model":"{long}"}}"#)), None, "the gateway decodes it");
    assert_eq!(at_once(&format!(r#"{{"model":"m","tools":[{{"model":"{long}"}}]}}"#)), None);
    assert_eq!(at_once(&format!(r#"{{"model":"m","input":"{long}"}}"#)), Some(Ok(model())), "it doesn't decode a prompt");
}

#[test]
fn what_is_read_at_once_is_what_is_read() {
    for body in ["", "[1]", "{", r#"{"model":1}"#, r#"{"model":"a","model":"b"}"#, "{\"model\":\"\u{e4}\"}", r#"{"n":{"model":null}} x"#] {
        assert_eq!(read_fields_at_once(body.as_bytes()), Some(read_fields(body.as_bytes())), "{body}");
    }
    let broken = with_text(1_000_000).replace("]}", "]");
    assert_eq!(read_fields_at_once(broken.as_bytes()), Some(read_fields(broken.as_bytes())));
    assert_eq!(read_fields_at_once(b"{\"a\":\"\xff\"}"), Some(read_fields(b"{\"a\":\"\xff\"}")));
}
