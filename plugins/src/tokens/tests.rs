use std::sync::LazyLock;

use super::reported::MOST;
use super::*;
use crate::json::Reader;
use crate::service_tier::ServiceTier;

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
    let zeros = r#"{"prompt_tokens":0,"completion_tokens":0}"#;
    for api in [Api::Chat, Api::Completions, Api::Responses, Api::Messages, Api::Embeddings, Api::ImageGenerations] {
        assert_eq!(of(api, zeros), None, "no answer is made of nothing");
    }
    assert_eq!(of(Api::Realtime, zeros), Some(Usage::default()), "a turn that was cancelled");
    let huge = format!(r#"{{"input_tokens":{},"cache_read_input_tokens":{}}}"#, u64::MAX, u64::MAX);
    let huge = read_whole(format!(r#"{{"usage":{huge}}}"#).as_bytes()).counted(Api::Messages);
    assert_eq!(huge.input, 2 << 32, "nobody is believed everything");
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
    let kept = r#"{"input_tokens":10,"input_tokens_details":{"cache_write_tokens":9,"cache_write_tokens_details":{"ttl_12h_tokens":7,"ttl_30m_tokens":2}},"output_tokens":2}"#;
    let expected = Usage { input: 10, output: 2, cache_write: 9, cache_write_long: 7, ..Usage::default() };
    assert_eq!(of(Api::Responses, kept), Some(expected));
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
        (r#"{"usage":{"input_tokens":1,"speed":"fast","service_tier":"standard"}}"#.to_owned(), Some(ServiceTier::Ultrafast)),
        (r#"{"usage":{"input_tokens":1,"speed":"standard","service_tier":"batch"}}"#.to_owned(), Some(ServiceTier::Batch)),
        (format!("{{{usage}}}"), None),
    ] {
        assert_eq!(tier(&answer), expected, "{answer:.80}");
    }
}

#[test]
fn one_half_is_no_report_and_is_completed() {
    let estimate = Usage { input: 70, output: 300, characters: 9, ..Usage::default() };
    let completed = |text: &str, whole: bool| {
        let reported = read_whole(format!(r#"{{"usage":{text}}}"#).as_bytes());
        let usage = reported.completed_by(Api::Chat, estimate, whole);
        (reported.usage(Api::Chat).is_some(), usage.input, usage.output)
    };
    assert_eq!(completed(r#"{"prompt_tokens":1000}"#, true), (false, 1000, 300));
    assert_eq!(completed(r#"{"completion_tokens":500}"#, true), (false, 70, 500));
    assert_eq!(completed(r#"{"completion_tokens":100}"#, true), (false, 70, 100), "the whole of it");
    assert_eq!(completed(r#"{"completion_tokens":100}"#, false), (false, 70, 300), "there may be more");
    assert_eq!(completed(r#"{"prompt_tokens":0,"completion_tokens":0}"#, true), (false, 70, 300));
    assert_eq!(completed(r#"{"prompt_tokens":5,"completion_tokens":0}"#, true), (true, 5, 300));
    assert_eq!(Reported::default().completed_by(Api::Chat, estimate, true), estimate);
    let cached = r#"{"usage":{"input_tokens":0,"cache_read_input_tokens":40,"output_tokens":3}}"#;
    assert_eq!(read_whole(cached.as_bytes()).usage(Api::Messages).map(|usage| usage.input), Some(40), "all of it was cached");
}

#[test]
fn counts_may_be_written_as_fractions() {
    let expected = Some(Usage { input: 1000, output: 500, ..Usage::default() });
    for counts in [r#"{"prompt_tokens":1000.0,"completion_tokens":500}"#, r#"{"prompt_tokens":1e3,"completion_tokens":5.0E+2}"#] {
        assert_eq!(of(Api::Chat, counts), expected, "{counts}");
    }
    for wrong in [r#"{"prompt_tokens":1.5,"completion_tokens":5}"#, r#"{"prompt_tokens":-1000,"completion_tokens":5}"#] {
        assert_eq!(of(Api::Chat, wrong), None, "{wrong}");
    }
    let huge = of(Api::Chat, r#"{"prompt_tokens":1000000000000000000000000000000,"completion_tokens":1e300}"#).unwrap();
    assert_eq!((huge.input, huge.output), (MOST, MOST));
}

fn step(kind: &str, model: Option<&str>, input: u64, output: u64) -> serde_json::Value {
    let mut step = serde_json::json!({ "type": kind, "input_tokens": input, "output_tokens": output,
        "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        "cache_creation": { "ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0 } });
    if let Some(model) = model {
        step["model"] = model.into();
    }
    step
}

#[test]
fn steps_beside_the_answers_own_counts_are_added() {
    let of = |steps: &[serde_json::Value], input: u64, output: u64| {
        let usage = serde_json::json!({ "input_tokens": input, "iterations": steps, "output_tokens": output }).to_string();
        of(Api::Messages, &usage).map(|usage| (usage.input, usage.output))
    };
    let compaction = step("compaction", None, 180_000, 3500);
    let message = step("message", None, 23_000, 1000);
    assert_eq!(of(&[compaction.clone(), message], 23_000, 1000), Some((203_000, 4500)));
    assert_eq!(of(&[compaction], 0, 0), Some((180_000, 3500)), "only a summary");
    // The own counts have the first step's input, and all of the output.
    let advised = [step("message", None, 412, 89), step("advisor_message", Some("big"), 823_000, 1612), step("message", None, 1348, 442)];
    assert_eq!(of(&advised, 412, 531), Some((412 + 1348 + 823_000, 531 + 1612)));
    let fallback = [step("message", None, 1, 1), step("fallback_message", Some("big"), 100_000, 1000)];
    assert_eq!(of(&fallback, 100_000, 1000), Some((100_001, 1001)));
    assert_eq!(of(&[], 5, 6), Some((5, 6)));
    for wrong in ["7", "null", "{}", "[1,[{}],null]", r#"[{"type":7,"input_tokens":"x"}]"#] {
        let usage = format!(r#"{{"input_tokens":5,"output_tokens":6,"iterations":{wrong}}}"#);
        assert_eq!(super::tests::of(Api::Messages, &usage), Some(Usage { input: 5, output: 6, ..Usage::default() }), "{wrong}");
    }
}

#[test]
fn parts_with_other_prices_are_told_apart() {
    let steps = [
        step("message", None, 10, 1),
        step("compaction", None, 500, 20),
        step("advisor_message", Some("big"), 300, 30),
        step("fallback_message", Some("small"), 40, 4),
    ];
    let usage = serde_json::json!({ "usage": { "input_tokens": 40, "output_tokens": 5, "iterations": steps } }).to_string();
    let reported = read_whole(usage.as_bytes());
    let parts: Vec<_> = reported
        .parts()
        .unwrap()
        .iter()
        .map(|part| (part.model.as_deref().map(str::to_owned), part.usage.input, part.usage.output))
        .collect();
    assert_eq!(parts, [(None, 500, 20), (Some("big".to_owned()), 300, 30), (Some("small".to_owned()), 40, 4)]);
    assert!(read_whole(br#"{"usage":{"input_tokens":40,"output_tokens":5}}"#).parts().is_none());
}

proptest::proptest! {
    #[test]
    fn no_step_is_lost_whatever_the_pieces(
        steps in proptest::collection::vec((0usize..4, 0u64..1_000_000, 0u64..10_000, proptest::bool::ANY), 1..30), size in 1usize..400
    ) {
        let kinds = ["message", "compaction", "advisor_message", "fallback_message"];
        let list: Vec<_> = steps.iter().map(|(kind, input, output, named)| step(kinds[*kind], named.then_some("a-model"), *input, *output)).collect();
        let own = |kind: usize| !matches!(kind, 1 | 2);
        let sum = |of: fn(&(usize, u64, u64, bool)) -> u64, all: bool| steps.iter().filter(|step| all || own(step.0)).map(of).sum::<u64>();
        let (input, output) = (sum(|step| step.1, false), sum(|step| step.2, false));
        let answer = serde_json::json!({ "content": [], "usage": { "input_tokens": input, "iterations": list, "output_tokens": output } }).to_string();
        let mut pieces = AnswerUsage::default();
        answer.as_bytes().chunks(size).for_each(|piece| pieces.push(piece));
        let usage = pieces.read().counted(Api::Messages);
        proptest::prop_assert_eq!((usage.input, usage.output), (sum(|step| step.1, true), sum(|step| step.2, true)));
        proptest::prop_assert_eq!(pieces.read(), read_whole(answer.as_bytes()));
        // The parts are parts.
        let mut parts = Usage::default();
        pieces.read().parts().iter().flat_map(|parts| parts.iter()).for_each(|part| parts.add(&part.usage));
        proptest::prop_assert!(parts.input <= usage.input && parts.output <= usage.output);
    }
}
