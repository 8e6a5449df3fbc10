use super::*;
use crate::request::read_fields;

fn references(body: &[u8]) -> References {
    read_fields(body).unwrap().references_in(body)
}

#[test]
fn answers_tell_what_they_made() {
    let stored = |api: Api, answer: &[u8]| Made::of(api, answer).stored;
    let response = br#"{"id":"resp_1","object":"response","output":[{"id":"msg_1"},{"type":"x"}]}"#;
    assert_eq!(stored(Api::Responses, response), ["resp_1", "msg_1"]);
    let batch = br#"{"object":"batch","id":"batch_1","output_file_id":"file-2","error_file_id":null}"#;
    assert_eq!(stored(Api::Batches, batch), ["batch_1", "file-2"]);
    assert_eq!(stored(Api::Responses, br#"{"id":"resp_1","output":[{"text":"a long on"#), ["resp_1"], "the beginning is enough");
    for nothing in [&b"<html>"[..], b"", b"[]", br#"{"id":7}"#, br#"{"id":"a b"}"#, br#"{"x":{"id":"resp_1"}}"#] {
        assert!(Made::of(Api::Responses, nothing).is_empty());
    }
    let sealed = br#"{"id":"resp_1","output":[{"id":"ci_1","container_id":"cntr_1"},{"id":"rs_1","encrypted_content":"gAAA"},{"encrypted_content":null}]}"#;
    let made = Made::of(Api::Responses, sealed);
    assert_eq!((made.kept, made.sealed), (vec!["cntr_1".to_owned()], vec![mark("gAAA")]));
    let chat = br#"{"id":"c","choices":[{"message":{"audio":{"id":"audio_1","data":"x"},"content":"{\"audio\":{\"id\":\"audio_2\"}}"}}]}"#;
    assert_eq!(Made::of(Api::Chat, chat), Made { kept: vec!["audio_1".to_owned()], ..Made::default() });
    let message = br#"{"id":"m","container":{"id":"container_1"},"content":[{"type":"tool_use","input":{"content":{"content":[{"file_id":"file_no"}]}}},
        {"type":"bash_code_execution_tool_result","content":{"content":[{"file_id":"file_1"}]}},{"type":"text","text":"x"}]}"#;
    let (stored, kept) = (vec!["m".to_owned()], vec!["container_1".to_owned(), "file_1".to_owned()]);
    assert_eq!(Made::of(Api::Messages, message), Made { stored, kept, ..Made::default() }, "and what a model made up is nothing");
}

#[test]
fn a_message_is_stored_if_later_ones_may_name_it() {
    let stored = |api: Api, body: &str| references(body.as_bytes()).store_the_answer(api);
    for body in [r#"{"thread":{"type":"create"}}"#, r#"{"thread":{"type":"continue","previous_message_id":"m"}}"#, r#"{"diagnostics":{}}"#]
    {
        assert!(stored(Api::Messages, body) && !stored(Api::Chat, body), "{body}");
    }
    assert!(!stored(Api::Messages, r#"{"thread":null,"messages":[],"store":true}"#));
    assert!(stored(Api::Responses, "{}") && !stored(Api::Responses, r#"{"store":false,"thread":{}}"#));
    assert!(read_fields(br#"{"Thread":{"type":"create"}}"#).is_err(), "a lenient backend would read it");
}

#[test]
fn marks_are_of_the_whole_length_and_both_ends() {
    let long = "g".repeat(1000);
    let marks = [mark("a"), mark("b"), mark(&long), mark(&long[..999]), mark(&(long.clone() + "x")), mark(&("x".to_owned() + &long))];
    assert!(marks.iter().enumerate().all(|(at, one)| marks[at + 1..].iter().all(|other| one != other)));
    assert_eq!(mark(&"\u{e9}".repeat(200)).len(), 64, "whatever the letters");
}

#[test]
fn depth_costs_one_pass() {
    // Quadratic work would take minutes here.
    let body = "[".repeat(120) + &"0,".repeat(2_000_000) + "{\"file_id\":\"file-1\"}" + &"]".repeat(120);
    assert_eq!(references(format!("{{\"a\":{body}}}").as_bytes()).names, ["file-1"]);
}

#[test]
fn whatever_is_looked_up_by_an_id_is_a_reference() {
    let names = |body: &str| {
        let found = references(body.as_bytes());
        assert!(!found.malformed, "{body}");
        found.names
    };
    for reference in [
        r#"{"input":[{"id":"x_1"}]}"#,
        r#"{"input":[{"id":"x_1","type":null}]}"#,
        r#"{"input":[{"\u0069d":"x_1","type":null}]}"#,
        r#"{"input":[{"id":"x_1","role":"user"}]}"#,
        r#"{"input":[{"id":"x_1","type":"message"}]}"#,
        r#"{"input":[{"id":"x_1","type":"item_reference","content":"decoy","role":"user"}]}"#,
        r#"{"input":[{"id":"x_1","type":"reasoning","summary":[{"type":"summary_text","text":"hm"}]}]}"#,
        r#"{"input":[{"id":"x_1","type":"reasoning","summary":[],"encrypted_content":null}]}"#,
        r#"{"input":[{"id":"x_1","type":"image_generation_call","result":null}]}"#,
        r#"{"input":[{"id":"x_1","type":"configuration_update"}]}"#,
        r#"{"input":[{"id":"x_1","type":"message","text":{},"role":"user"}]}"#,
        r#"{"input":[{"id":"x_1","type":"image_generation_call","action":"generate"}]}"#,
        r#"{"prompt":{"id":"pmpt_1","variables":{"documents":{"type":"input_file","file_id":"x_1"}}}}"#,
        r#"{"prompt":{"id":"pmpt_1","variables":{"metadata":{"type":"input_file","file_id":"x_1"}}}}"#,
        r#"{"container":["x_1"]}"#,
        r#"{"conversation":{"id":"x_1"}}"#,
        r#"{"items":[{"id":"x_1"}]}"#,
        r#"{"tools":[{"type":"file_search","vector_store_ids":["x_1"]}]}"#,
        r#"{"tools":[{"type":"code_interpreter","container":"x_1"}]}"#,
        r#"{"tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":["x_1"]}}]}"#,
        r#"{"tools":[{"type":"shell","environment":{"type":"container_reference","container_id":"x_1"}}]}"#,
        r#"{"tools":[{"environment":{"skills":[{"type":"skill_reference","skill_id":"x_1"}]}}]}"#,
        r#"{"input":[{"id":"ci_1","type":"code_interpreter_call","code":"1","container_id":"x_1"}]}"#,
        r#"{"messages":[{"role":"assistant","audio":{"id":"x_1"}}],"audio":{"voice":"ash"}}"#,
        r#"{"messages":[{"content":[{"type":"file","file":{"file_id":"x_1"}}]}]}"#,
        r#"{"messages":[{"content":[{"type":"document","source":{"type":"file","file_id":"x_1"}}]}]}"#,
        r#"{"messages":[{"content":[{"type":"container_upload","file_id":"x_1"}]}]}"#,
        r#"{"container":"x_1"}"#,
        r#"{"tools":[{"type":"mcp","server_label":"s","tunnel_id":"x_1"}]}"#,
        r#"{"thread":{"type":"continue","previous_message_id":"x_1"},"messages":[]}"#,
        r#"{"diagnostics":{"previous_message_id":"x_1"},"messages":[]}"#,
        r#"{"thread":{"type":"continue","previous_message_\u0069d":"x_1"}}"#,
        r#"{"prompt_cache_options":{"comparison_response_id":"x_1"},"input":"x"}"#,
        r#"{"container":{"id":"x_1","skills":[{"type":"anthropic","skill_id":"pptx"}]}}"#,
        r#"{"container":{"id":null,"skills":[{"type":"custom","skill_id":"x_1"}]}}"#,
    ] {
        assert_eq!(names(reference), ["x_1"], "{reference}");
    }
    // Agents send back all that they got: nothing of it is looked up.
    for given in [
        r#"{"input":[{"id":"msg_1","type":"message","role":"assistant","content":[{"type":"output_text","text":"x"}]}]}"#,
        r#"{"input":[{"id":"msg_1","role":"assistant","content":"x"}]}"#,
        r#"{"input":[{"id":"msg_1","type":"message","role":"assistant","content":[]}]}"#,
        r#"{"input":[{"id":"fc_1","type":"function_call","call_id":"c","name":"f","arguments":""}]}"#,
        r#"{"input":[{"id":"fco_1","type":"function_call_output","call_id":"c","output":""}]}"#,
        r#"{"input":[{"id":"rs_1","type":"reasoning","summary":[],"encrypted_content":"gAAA"}]}"#,
        r#"{"input":[{"id":"rs_1","type":"reasoning","summary":[],"content":[{"type":"reasoning_text","text":"x"}]}]}"#,
        r#"{"input":[{"id":"ws_1","type":"web_search_call","status":"completed","action":{"type":"search"}}]}"#,
        r#"{"input":[{"id":"cmp_1","type":"compaction","encrypted_content":"gAAA"}]}"#,
        r#"{"input":[{"id":"cu_1","type":"configuration_update","reasoning":{"effort":"low"}}]}"#,
        r#"{"input":[{"id":"at_1","type":"additional_tools","role":"developer","tools":[]}]}"#,
        r#"{"input":[{"id":null,"type":"message","content":"x"}]}"#,
        r#"{"input":"say \"id\": 1"}"#,
        r#"{"messages":[{"role":"assistant","tool_calls":[{"id":"call_1","type":"function","function":{"arguments":"{\"file_id\":1}"}}]}]}"#,
        r#"{"messages":[{"content":[{"type":"tool_use","id":"toolu_1","name":"f","input":{"file_id":"7 !","container":"x"}}]}]}"#,
        r#"{"messages":[{"content":[{"type":"input_audio","input_audio":{"data":"AA","format":"wav"}}]}]}"#,
        r#"{"tools":[{"type":"code_interpreter","container":{"type":"auto"}}],"container":null}"#,
        r#"{"thread":{"type":"create"},"diagnostics":{"previous_message_id":null},"messages":[]}"#,
    ] {
        assert!(names(given).is_empty(), "{given}");
    }
    for malformed in [
        r#"{"conversation":{"id":"conv_1 "}}"#,
        r#"{"conversation":{"id":"conv_1\n"}}"#,
        r#"{"conversation":{"id":["conv_1"]}}"#,
        r#"{"input":[{"id":7}]}"#,
        r#"{"container":"a/b"}"#,
        r#"{"thread":{"type":"continue","previous_message_id":"../x"}}"#,
        r#"{"messages":[{"audio":{"id":"../x"}}]}"#,
    ] {
        assert!(references(malformed.as_bytes()).malformed, "{malformed}");
    }
}

#[test]
fn errors_about_what_is_sealed_are_known_by_code_or_words() {
    for refusal in [
        r#"{"error":{"message":"x","type":"invalid_request_error","param":null,"code":"invalid_encrypted_content"}}"#,
        r#"{"error":{"message":"The encrypted content gAAA\u2026Q== could not be verified.","code":null}}"#,
        r#"{"error":{"message":"The encrypted content for item rs_1 could not be decrypted or parsed."}}"#,
    ] {
        assert!(refuses_sealed(refusal.as_bytes()), "{refusal}");
    }
    for other in ["", "<html>", r#"{"error":{"message":"no","code":"invalid_prompt"}}"#, r#"{"x":{"code":"invalid_encrypted_content"}}"#] {
        assert!(!refuses_sealed(other.as_bytes()), "{other}");
    }
}

#[test]
fn what_is_sealed_is_told_in_its_order() {
    let body = br#"{"input":[{"type":"reasoning","id":"rs_1","encrypted_content":"one"},{"role":"user","content":"x"},{"type":"compaction","encrypted_content":"two"},{"type":"reasoning","encrypted_content":""}]}"#;
    assert_eq!(references(body).sealed, [mark("one"), mark("two")]);
    assert!(references(br#"{"input":"encrypted_content"}"#).sealed.is_empty());
}

#[test]
fn requests_tell_what_they_refer_to() {
    let names = |body: &str| references(body.as_bytes()).names;
    assert_eq!(names(r#"{"previous_response_id":"resp_1","input":"x"}"#), ["resp_1"]);
    assert_eq!(names(r#"{"conversation":"conv_1"}"#), ["conv_1"]);
    assert_eq!(names(r#"{"conversation":{"id":"conv_1"},"previous_response_id":null}"#), ["conv_1"]);
    assert_eq!(names(r#"{"input_file_id":"file-1","endpoint":"/v1/responses"}"#), ["file-1"]);
    let nested =
        r#"{"input":[{"role":"user","content":[{"type":"input_file","file_id" : "file-2"},{"file_id":"file-1"},{"file_id":"file-1"}]}]}"#;
    assert_eq!(names(nested), ["file-1", "file-2"]);
    assert!(names(r#"{"input":"say \"file_id\": \"file-1\" aloud"}"#).is_empty(), "a text is no reference");
    assert!(names(r#"{"input":["file_id","file-1"]}"#).is_empty());
    assert_eq!(names(r#"{"input":[[{"fil\u0065_id":"file-\u0031"}]]}"#), ["file-1"], "escapes hide nothing");
    let tools = r#"{"tools":[{"type":"code_interpreter","container":{"type":"auto","file_ids":["file-1","file-2"]}}]}"#;
    assert_eq!(names(tools), ["file-1", "file-2"]);
    assert_eq!(names(r#"{"input":[{"type":"item_reference","id":"msg_1"},{"id":"msg_2","type":"message","content":"x"}]}"#), ["msg_1"]);
    // What looks like a reference and is none.
    for innocent in [
        r#"{"tools":[{"function":{"parameters":{"properties":{"file_id":{"type":"string"}},"required":["file_id"]}}}]}"#,
        r#"{"text":{"format":{"schema":{"properties":{"file_id":{"const":"a b"}}}}}}"#,
        r#"{"metadata":{"file_id":"42 !"}}"#,
        r#"{"input":[{"content":[{"annotations":[{"file_id":"cfile_1"}]}]}]}"#,
        r#"{"a":{"file_id":{"type":"string"}},"b":{"file_id":null}}"#,
    ] {
        assert_eq!(references(innocent.as_bytes()), References::default(), "{innocent}");
    }
    for malformed in [
        r#"{"previous_response_id":7}"#,
        r#"{"previous_response_id":"../x"}"#,
        r#"{"a":{"file_id":"a/b"}}"#,
        r#"{"input":[{"type":"item_reference"}]}"#,
    ] {
        assert!(references(malformed.as_bytes()).malformed, "{malformed}");
    }
    assert!(references(br#"{"store":false}"#).unstored && !references(br#"{"store":true}"#).unstored);
}
