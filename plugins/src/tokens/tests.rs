use std::sync::LazyLock;

use super::*;

pub(super) static CL100K: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::load(Encoding::Cl100k).unwrap());
pub(super) static O200K: LazyLock<Tokenizer> = LazyLock::new(|| Tokenizer::load(Encoding::O200k).unwrap());

fn of(api: Api, usage: &str) -> Option<Usage> {
    let body = format!(r#"{{"id":"x","choices":[{{"text":"say \"usage\": {{}}"}}],"usage":{usage},"model":"m"}}"#);
    let mut pieces = AnswerUsage::default();
    pieces.push(body.as_bytes());
    assert_eq!(pieces.read(), read_whole(body.as_bytes()));
    pieces.read().usage(api)
}

#[test]
fn every_form_is_read() {
    let chat = r#"{"prompt_tokens":10,"completion_tokens":20,"total_tokens":30,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":1,"cache_write_tokens":2},"completion_tokens_details":{"reasoning_tokens":5,"audio_tokens":3,"rejected_prediction_tokens":1}}"#;
    let expected =
        Usage { input: 10, output: 20, cached_input: 4, cache_write: 2, reasoning: 5, input_audio: 1, output_audio: 3, ..Usage::default() };
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
    for nothing in ["null", "{}", r#"{"type":"duration","seconds":"3"}"#, "7", r#"{"prompt_tokens":null}"#, r#"{"prompt_tokens":"7"}"#] {
        assert_eq!(of(Api::Chat, nothing), None, "{nothing}");
    }
    assert_eq!(of(Api::Chat, r#"{"prompt_tokens":0,"completion_tokens":0}"#), Some(Usage::default()), "a zero that is reported is a count");
    let huge = format!(r#"{{"input_tokens":{},"cache_read_input_tokens":{}}}"#, u64::MAX, u64::MAX);
    assert_eq!(of(Api::Messages, &huge).map(|usage| usage.input), Some(2 << 32), "nobody is believed everything");
}

#[test]
fn of_cumulative_counts_each_is_the_most_that_was_reported() {
    let mut reported = Reported::default();
    for text in [
        r#"{"input_tokens":25,"cache_read_input_tokens":7,"output_tokens":1}"#,
        r#"{"output_tokens":15,"input_tokens":null}"#,
        r#"{"output_tokens":14,"input_tokens":0,"cache_read_input_tokens":0}"#,
    ] {
        let value = Reader::new(text.as_bytes()).value(0).unwrap();
        reported.read(text.as_bytes(), &value);
    }
    assert_eq!(reported.usage(Api::Messages), Some(Usage { input: 32, output: 15, cached_input: 7, ..Usage::default() }));
}

#[test]
fn usage_is_found_before_and_behind_anything() {
    let usage = r#""usage":{"input_tokens":7,"output_tokens":3}"#;
    let decoy = r#"{"usage":{"input_tokens":999,"output_tokens":999}}"#;
    let long = "x, \" {[\n".repeat(20_000);
    let numbers = format!("[{}0]", "0.25,".repeat(100_000));
    let members = [
        format!(r#""metadata":{{"usage":{},"k":{decoy}}}"#, serde_json::Value::from(long.as_str())),
        format!(r#""tools":[{decoy},[{decoy}]]"#),
        format!(r#""data":{numbers}"#),
        format!(r#""instructions":{}"#, serde_json::Value::from(decoy)),
        r#""user":"usage""#.to_owned(),
    ];
    let expected = Some(Usage { input: 7, output: 3, ..Usage::default() });
    for at in 0..=members.len() {
        let mut all = members.to_vec();
        all.insert(at, usage.to_owned());
        let text = format!(" {{{}}}\r\n", all.join(" ,"));
        assert_eq!(read_whole(text.as_bytes()).usage(Api::Responses), expected, "at {at}");
        for size in [1, 7, 1000, 16 * 1024, text.len()] {
            let mut pieces = AnswerUsage::default();
            text.as_bytes().chunks(size).for_each(|piece| pieces.push(piece));
            assert_eq!(pieces.read().usage(Api::Responses), expected, "at {at}, pieces of {size}");
        }
    }
    for nothing in [format!("{{{}}}", members.join(",")), format!("[{{{usage}}}]"), "\"usage\"".to_owned(), String::new()] {
        assert_eq!(read_whole(nothing.as_bytes()), Reported::default());
        let mut pieces = AnswerUsage::default();
        nothing.as_bytes().chunks(5).for_each(|piece| pieces.push(piece));
        assert_eq!(pieces.read(), Reported::default());
    }
}

#[test]
fn what_is_not_counted_in_tokens_is_read_too() {
    assert_eq!(of(Api::Transcriptions, r#"{"type":"duration","seconds":3.25}"#), Some(Usage { milliseconds: 3250, ..Usage::default() }));
    let images = r#"{"input_tokens":10,"output_tokens":20,"input_tokens_details":{"image_tokens":6,"text_tokens":4}}"#;
    let expected = Usage { input: 10, output: 20, input_image: 6, output_image: 20, ..Usage::default() };
    assert_eq!(of(Api::ImageGenerations, images), Some(expected));
    let anthropic = r#"{"input_tokens":1,"cache_creation_input_tokens":9,"cache_creation":{"ephemeral_5m_input_tokens":5,"ephemeral_1h_input_tokens":4},"output_tokens":2}"#;
    let expected = Usage { input: 10, output: 2, cache_write: 9, cache_write_long: 4, ..Usage::default() };
    assert_eq!(of(Api::Messages, anthropic), Some(expected));
}

#[test]
fn models_have_their_familys_tokenizer() {
    for (model, encoding) in [
        ("gpt-4", Encoding::Cl100k),
        ("gpt-4-0613", Encoding::Cl100k),
        ("gpt-35-turbo", Encoding::Cl100k),
        ("text-embedding-3-small", Encoding::Cl100k),
        ("ft:gpt-4.1-mini:x", Encoding::O200k),
        ("gpt-4o-mini", Encoding::O200k),
        ("gpt-5", Encoding::O200k),
        ("anything", Encoding::O200k),
    ] {
        assert_eq!(Encoding::of(model), encoding, "{model}");
    }
    // Counts of tiktoken.
    assert_eq!(CL100K.count("tiktoken is great!"), 6);
    assert_eq!(O200K.count("<|endoftext|>"), 7, "what looks special is plain text");
}

#[test]
fn a_prompt_is_counted_by_the_published_rules() {
    // The cookbook's example for gpt-4o: 124 tokens with six messages, four of them with a name.
    let messages = serde_json::json!([
        {"role": "system", "content": "You are a helpful, pattern-following assistant that translates corporate jargon into plain English."},
        {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
        {"role": "system", "name": "example_assistant", "content": "Things working well together will increase revenue."},
        {"role": "system", "name": "example_user", "content": "Let's circle back when we have more bandwidth to touch base on opportunities for increased leverage."},
        {"role": "system", "name": "example_assistant", "content": "Let's talk later when we're less busy about how to do better."},
        {"role": "user", "content": "This late pivot means we don't have time to boil the ocean for the client deliverable."},
    ]);
    let body = serde_json::json!({ "model": "gpt-4o", "messages": messages }).to_string();
    assert_eq!(prompt_tokens(body.as_bytes(), &O200K), 124);
    assert_eq!(prompt_tokens(body.as_bytes(), &CL100K), 129);
    let count = |body: &str| prompt_tokens(body.as_bytes(), &O200K);
    assert_eq!(count(r#"{"input":[[1,2,3],[4]]}"#), 4);
    assert_eq!(count(r#"{"input":["hello","hello"]}"#), 2);
    let image = format!(
        r#"{{"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{}"}}}}]}}]}}"#,
        "A".repeat(90_000)
    );
    assert!((700..900).contains(&count(&image)), "an image is no text");
    let encoded = crate::request::read_fields(image.as_bytes()).unwrap().encoded;
    assert_eq!(encoded.count, 1);
    assert!((700..900).contains(&input_bound(image.as_bytes(), encoded)));
    let chinese = serde_json::json!({ "input": "水".repeat(10_000) }).to_string();
    let fields = crate::request::read_fields(chinese.as_bytes()).unwrap();
    let bound = input_bound(chinese.as_bytes(), fields.encoded);
    assert!((10_000..16_000).contains(&bound) && fields.encoded.count == 0, "{bound}");
}

#[test]
fn images_made_within_a_response_are_counted_beside_it() {
    let tools = r#""tool_usage":{"image_gen":{"input_tokens":7,"input_tokens_details":{"image_tokens":3,"text_tokens":4},"output_tokens":90,"output_tokens_details":{"image_tokens":80}},"web_search":{"num_requests":2}}"#;
    let usage = r#""usage":{"input_tokens":20,"output_tokens":5}"#;
    let expected = Usage { input: 27, output: 95, input_image: 3, output_image: 80, ..Usage::default() };
    let far = "x".repeat(20_000);
    for answer in [
        format!(r#"{{"id":"r",{tools},"tools":[],{usage},"metadata":{{}}}}"#),
        format!(r#"{{{usage},"text":"{far}",{tools}}}"#),
        format!(r#"{{{tools},"text":"{far}",{usage}}}"#),
    ] {
        assert_eq!(read_whole(answer.as_bytes()).usage(Api::Responses), Some(expected), "{answer:.60}");
        let event = format!("data: {{\"type\":\"response.completed\",\"response\":{answer}}}\n\n");
        let mut stream = crate::stream::StreamWatch::new(Api::Responses, 1, false);
        stream.feed(event.into());
        assert_eq!(stream.state().reported.usage(Api::Responses), Some(expected), "{answer:.60}");
    }
    // Those of nobody, and those that a caller's own words tell.
    for answer in [
        format!(r#"{{"metadata":{{{tools}}},{usage}}}"#),
        format!(r#"{{"tool_usage":null,{usage}}}"#),
        format!(r#"{{"tool_usage":{{"image_gen":0}},{usage}}}"#),
    ] {
        assert_eq!(
            read_whole(answer.as_bytes()).usage(Api::Responses),
            Some(Usage { input: 20, output: 5, ..Usage::default() }),
            "{answer}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn the_bound_is_seldom_below_the_count(words in proptest::collection::vec("[a-zA-Z]{1,12}", 1..400)) {
        let body = serde_json::json!({ "messages": [{ "role": "user", "content": words.join(" ") }] }).to_string();
        // Random letters are the worst that there is for a tokenizer: about two bytes each.
        proptest::prop_assert!(input_bound(body.as_bytes(), crate::json::Encoded::default()) * 3 >= prompt_tokens(body.as_bytes(), &O200K));
    }

    #[test]
    fn output_is_measured_whatever_its_pieces(text in "\\PC{0,6000}", cut in 1usize..50) {
        let mut meter = OutputMeter::default();
        let chars: Vec<char> = text.chars().collect();
        for piece in chars.chunks(cut) {
            let data = serde_json::Value::from(piece.iter().collect::<String>()).to_string();
            let value = Reader::new(data.as_bytes()).value(0).unwrap();
            meter.push(data.as_bytes(), &value);
        }
        let whole = O200K.count(&text);
        if text.len() <= 2000 {
            proptest::prop_assert_eq!(meter.tokens(&O200K), whole);
        } else {
            proptest::prop_assert!(meter.tokens(&O200K) * 3 >= whole && meter.tokens(&O200K) <= whole * 3);
        }
    }
}

#[test]
fn the_service_tier_is_found_wherever_it_is_named() {
    let tier = |answer: &str| {
        let mut pieces = AnswerUsage::default();
        answer.as_bytes().chunks(7).for_each(|piece| pieces.push(piece));
        let whole = read_whole(answer.as_bytes());
        assert_eq!(pieces.read(), whole, "{answer:.80}");
        whole.service_tier()
    };
    let usage = r#""usage":{"prompt_tokens":1,"completion_tokens":2}"#;
    let long = "x".repeat(40_000);
    let schema = r#""tools":[{"parameters":{"properties":{"service_tier":"flex"}}}]"#;
    for (answer, expected) in [
        (format!(r#"{{"service_tier":"flex","choices":[],{usage}}}"#), Some(ServiceTier::Flex)),
        (format!(r#"{{"choices":[],{usage},"service_tier":"priority"}}"#), Some(ServiceTier::Priority)),
        (format!(r#"{{"service_tier":"flex","text":"{long}",{usage}}}"#), Some(ServiceTier::Flex)),
        (format!(r#"{{"service_tier":"default",{schema},{usage}}}"#), Some(ServiceTier::Default)),
        (format!(r#"{{{schema},{usage}}}"#), None),
        (format!(r#"{{"text":"service_tier",{usage},"service_tier":null}}"#), None),
        (format!(r#"{{"service_tier":"auto",{usage}}}"#), None),
        (r#"{"service_tier":"flex","choices":[]}"#.to_owned(), Some(ServiceTier::Flex)),
        (r#"{"usage":{"input_tokens":1,"output_tokens":2,"service_tier":"batch"},"id":"m"}"#.to_owned(), Some(ServiceTier::Batch)),
        (format!("{{{usage}}}"), None),
    ] {
        assert_eq!(tier(&answer), expected, "{answer:.80}");
    }
}
