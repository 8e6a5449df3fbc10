use super::*;

fn of(api: Api, usage: &str) -> Option<Usage> {
    let body = format!(r#"{{"id":"x","choices":[{{"text":"say \"usage\": {{}}"}}],"usage":{usage},"model":"m"}}"#);
    let mut tail = UsageTail::default();
    tail.push(body.as_bytes());
    tail.read().usage(api)
}

#[test]
fn every_form_is_read() {
    let chat = r#"{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":1,"cache_write_tokens":2},"completion_tokens_details":{"reasoning_tokens":5,"audio_tokens":3,"rejected_prediction_tokens":1}}"#;
    let expected = Usage { input: 10, output: 20, cached_input: 4, cache_write: 2, reasoning: 5, input_audio: 1, output_audio: 3 };
    assert_eq!(of(Api::Chat, chat), Some(expected));
    let responses = r#"{"input_tokens":10,"input_tokens_details":{"cached_tokens":4},"output_tokens":20,"output_tokens_details":{"reasoning_tokens":5},"total_tokens":30}"#;
    let expected = Usage { input: 10, output: 20, cached_input: 4, reasoning: 5, ..Usage::default() };
    assert_eq!(of(Api::Responses, responses), Some(expected));
    assert_eq!(of(Api::Embeddings, r#"{"prompt_tokens":7,"total_tokens":7}"#), Some(Usage { input: 7, ..Usage::default() }));
    let transcription = r#"{"type":"tokens","input_tokens":10,"output_tokens":2,"input_token_details":{"audio_tokens":9,"text_tokens":1}}"#;
    assert_eq!(of(Api::Transcriptions, transcription), Some(Usage { input: 10, output: 2, input_audio: 9, ..Usage::default() }));
    let anthropic = r#"{"input_tokens":10,"cache_creation_input_tokens":100,"cache_read_input_tokens":1000,"output_tokens":20,"service_tier":"standard"}"#;
    let expected = Usage { input: 1110, output: 20, cached_input: 1000, cache_write: 100, ..Usage::default() };
    assert_eq!(of(Api::Messages, anthropic), Some(expected));
}

#[test]
fn nothing_reported_is_not_nothing_used() {
    for nothing in ["null", "{}", r#"{"type":"duration","seconds":3}"#, "7", r#"{"prompt_tokens":null}"#, r#"{"prompt_tokens":"7"}"#] {
        assert_eq!(of(Api::Chat, nothing), None, "{nothing}");
    }
    assert_eq!(of(Api::Chat, r#"{"prompt_tokens":0,"completion_tokens":0}"#), Some(Usage::default()), "a zero that is reported is a count");
    let huge = format!(r#"{{"input_tokens":{},"cache_read_input_tokens":{}}}"#, u64::MAX, u64::MAX);
    assert_eq!(of(Api::Messages, &huge).map(|usage| usage.input), Some(u64::MAX));
}

#[test]
fn later_counts_replace_earlier_ones() {
    let mut reported = Reported::default();
    for text in [r#"{"input_tokens":25,"output_tokens":1}"#, r#"{"output_tokens":15,"input_tokens":null}"#] {
        let value = Reader::new(text.as_bytes()).value(0).unwrap();
        reported.read(text.as_bytes(), &value);
    }
    assert_eq!(reported.usage(Api::Messages), Some(Usage { input: 25, output: 15, ..Usage::default() }));
}

#[test]
fn only_the_end_is_kept_and_any_split_reads_the_same() {
    let long = format!(r#"{{"data":[{}],"usage":{{"prompt_tokens":7,"total_tokens":7}}}}"#, "0.25,".repeat(100_000));
    let expected = Some(Usage { input: 7, ..Usage::default() });
    for size in [1, 7, 1000, 16 * 1024, 16 * 1024 + 1, long.len()] {
        let mut tail = UsageTail::default();
        long.as_bytes().chunks(size).for_each(|piece| tail.push(piece));
        assert_eq!(tail.read().usage(Api::Embeddings), expected, "pieces of {size}");
    }
}
