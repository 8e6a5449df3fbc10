use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::api::Api;
use crate::stream::StreamWatch;

/// Something that a backend may write into a stream.
#[derive(Debug, Clone)]
enum Step {
    Text(u8, String),
    Thought(String),
    Call(String),
    Refusal(String),
    Empty,
    Stop(u8),
    Usage,
    Ended,
    Failed(String),
    /// Bytes in the place of a text that are not right in one.
    Wrong(&'static str),
    Comment,
    Done,
}

/// How a backend writes its events.
#[derive(Debug, Clone)]
struct Style {
    api: Api,
    padded: bool,
    end: &'static str,
    named: bool,
    extras: bool,
    first_number: u64,
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![4 => "[a-z ]{1,8}", 1 => "\\PC{0,12}", 1 => "[\"\\\\\n\u{1}\u{e9}{}:,a]{1,6}", 1 => "x{500,1500}"]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        30 => (prop_oneof![9 => Just(0u8), 1 => 0..3u8], text()).prop_map(|(index, text)| Step::Text(index, text)),
        2 => text().prop_map(Step::Thought),
        2 => text().prop_map(Step::Call),
        1 => text().prop_map(Step::Refusal),
        1 => Just(Step::Empty),
        1 => (0..3u8).prop_map(Step::Stop),
        1 => Just(Step::Usage),
        1 => Just(Step::Ended),
        1 => text().prop_map(Step::Failed),
        2 => prop::sample::select(vec!["a\"", "\\", "\\q", "\\u12", "\u{1}", "\\ud800", "a\\\\\"b", "a\",\"b\":\"c", "\n", "\r"]).prop_map(Step::Wrong),
        1 => Just(Step::Comment),
        1 => Just(Step::Done),
    ]
}

fn style() -> impl Strategy<Value = Style> {
    let api = prop::sample::select(vec![Api::Chat, Api::Completions, Api::Responses, Api::Messages, Api::Speech]);
    let end = prop_oneof![4 => Just("\n"), 1 => Just("\r\n"), 1 => Just("\r")];
    let first = prop_oneof![4 => 0..20u64, 1 => Just(99_998), 1 => Just(u64::MAX - 2)];
    (api, any::<bool>(), end, any::<bool>(), any::<bool>(), first).prop_map(|(api, padded, end, named, extras, first_number)| Style {
        api,
        padded,
        end,
        named,
        extras,
        first_number,
    })
}

impl Style {
    /// The data of an event, with `text` as it is written between quotes.
    fn data(&self, step: &Step, number: u64) -> (String, String) {
        let quoted = |text: &str| json!(text).to_string();
        let padding = if self.padded {
            format!(r#","obfuscation":"{}""#, "aB3xQ9zzTT".repeat(3).split_at(number as usize % 17).0)
        } else {
            String::new()
        };
        let extras = if self.extras { r#","logprobs":null,"usage":null"# } else { "" };
        let chat = |index: u8, delta: &str, reason: &str| {
            format!(r#"{{"id":"c","choices":[{{"index":{index},"delta":{delta},"finish_reason":{reason}}}]{extras}{padding}}}"#)
        };
        let typed = |kind: &str, more: &str| {
            let number = if self.api == Api::Responses { format!(r#","sequence_number":{number}"#) } else { String::new() };
            (kind.to_owned(), format!(r#"{{"type":"{kind}"{number},"output_index":0,{more}{padding}}}"#))
        };
        let plain = |data: String| (String::new(), data);
        let piece = |index: u8, text: &str| match self.api {
            Api::Chat => plain(chat(index, &format!(r#"{{"content":{text},"refusal":null}}"#), "null")),
            Api::Completions => plain(format!(r#"{{"choices":[{{"text":{text},"index":{index}}}]{extras}{padding}}}"#)),
            Api::Responses => typed("response.output_text.delta", &format!(r#""content_index":{index},"delta":{text},"logprobs":[]"#)),
            Api::Messages => typed("content_block_delta", &format!(r#""index":{index},"delta":{{"type":"text_delta","text":{text}}}"#)),
            _ => typed("speech.text.delta", &format!(r#""delta":{text}"#)),
        };
        match (step, self.api) {
            (Step::Text(index, text), _) => piece(*index, &quoted(text)),
            (Step::Wrong(raw), _) => piece(0, &format!("\"{raw}\"")),
            (Step::Empty, _) => piece(0, "\"\""),
            (Step::Thought(text), Api::Messages) => {
                typed("content_block_delta", &format!(r#""index":0,"delta":{{"type":"thinking_delta","thinking":{}}}"#, quoted(text)))
            }
            (Step::Thought(text), Api::Responses) => typed("response.reasoning_text.delta", &format!(r#""delta":{}"#, quoted(text))),
            (Step::Thought(text), _) => plain(chat(0, &format!(r#"{{"content":null,"reasoning_content":{}}}"#, quoted(text)), "null")),
            (Step::Call(text), Api::Responses) => typed("response.function_call_arguments.delta", &format!(r#""delta":{}"#, quoted(text))),
            (Step::Call(text), _) => {
                plain(chat(0, &format!(r#"{{"tool_calls":[{{"index":0,"function":{{"arguments":{}}}}}]}}"#, quoted(text)), "null"))
            }
            (Step::Refusal(text), Api::Responses) => typed("response.refusal.delta", &format!(r#""delta":{}"#, quoted(text))),
            (Step::Refusal(text), _) => plain(chat(0, &format!(r#"{{"content":"x","refusal":{}}}"#, quoted(text)), "null")),
            (Step::Stop(_), Api::Messages) => typed("message_delta", r#""delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":7}"#),
            (Step::Stop(_), Api::Responses) => {
                typed("response.completed", r#""response":{"id":"r","usage":{"input_tokens":5,"output_tokens":6}}"#)
            }
            (Step::Stop(index), _) => plain(chat(*index, r#"{"content":"end"}"#, "\"stop\"")),
            (Step::Usage, Api::Responses) => typed("response.created", r#""response":{"id":"resp_1","usage":null}"#),
            (Step::Usage, Api::Messages) => typed("message_start", r#""message":{"usage":{"input_tokens":5}}"#),
            (Step::Usage, _) => plain(r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6}}"#.to_owned()),
            (Step::Ended, Api::Messages) => typed("message_stop", r#""x":0"#),
            (Step::Ended, Api::Responses) => typed("response.output_item.done", r#""item":{"id":"i","encrypted_content":"s"}"#),
            (Step::Ended, _) => plain(chat(1, r#"{"content":"y","audio":{"id":"a"}}"#, "null")),
            (Step::Failed(text), Api::Chat | Api::Completions) => {
                plain(format!(r#"{{"choices":[{{"index":0,"delta":{{"content":{}}}}}],"error":{{"code":"x"}}}}"#, quoted(text)))
            }
            (Step::Failed(text), _) => typed("error", &format!(r#""delta":{},"error":{{"code":"rate_limit_exceeded"}}"#, quoted(text))),
            (Step::Comment | Step::Done, _) => plain("[DONE]".to_owned()),
        }
    }

    fn event(&self, step: &Step, number: u64) -> String {
        let end = self.end;
        if matches!(step, Step::Comment) {
            return format!(": ping{end}{end}");
        }
        let (name, data) = self.data(step, number);
        let name = if self.named && !name.is_empty() { format!("event: {name}{end}") } else { String::new() };
        format!("{name}data: {data}{end}{end}")
    }
}

/// A watch that reads every event.
fn reading_all(api: Api, choices: u64, hide: bool) -> StreamWatch {
    let mut watch = StreamWatch::new(api, choices, hide);
    watch.reading.shapes.misses = MISSES + 1;
    watch
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]
    #[test]
    fn a_known_form_gives_the_same_state_as_the_reader(
        style in style(),
        steps in prop::collection::vec(step(), 1..40),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
        by_event in any::<bool>(),
        choices in 1..3u64,
        hide in any::<bool>(),
    ) {
        let numbers = (0u64..).map(|more| style.first_number.saturating_add(more));
        let events: Vec<String> = steps.iter().zip(numbers).map(|(step, number)| style.event(step, number)).collect();
        let whole = events.concat();
        let mut at: Vec<usize> = if by_event {
            events.iter().scan(0, |sum, event| { *sum += event.len(); Some(*sum) }).collect()
        } else {
            cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect()
        };
        at.extend([0, whole.len()]);
        at.sort_unstable();
        let (mut known, mut read) = (StreamWatch::new(style.api, choices, hide), reading_all(style.api, choices, hide));
        for piece in at.windows(2) {
            let piece = Bytes::copy_from_slice(&whole.as_bytes()[piece[0]..piece[1]]);
            prop_assert_eq!(known.feed(piece.clone()), read.feed(piece));
            prop_assert_eq!(known.state(), read.state());
            prop_assert_eq!(format!("{:?}", known.reading.choices), format!("{:?}", read.reading.choices));
            prop_assert_eq!(known.take_hidden(), read.take_hidden());
            prop_assert_eq!(known.at_boundary(), read.at_boundary());
        }
        prop_assert_eq!(known.end(), read.end());
        prop_assert_eq!(known.state(), read.state());
    }
}

/// Whether the events after the first one of these need no reader.
fn is_learnt(style: &Style, texts: &[&str]) -> bool {
    let mut watch = StreamWatch::new(style.api, 1, false);
    let mut misses = Vec::new();
    for (number, text) in texts.iter().enumerate() {
        watch.feed(style.event(&Step::Text(0, (*text).to_owned()), style.first_number + number as u64).into());
        misses.push(watch.reading.shapes.misses);
    }
    misses.iter().skip(1).all(|misses| *misses == 0)
}

#[test]
fn the_usual_streams_are_known_after_their_first_event() {
    for api in [Api::Chat, Api::Completions, Api::Responses, Api::Messages] {
        for (padded, end) in [(false, "\n"), (true, "\n"), (true, "\r\n")] {
            let style = Style { api, padded, end, named: true, extras: true, first_number: 8 };
            assert!(is_learnt(&style, &["Hello", " wor", "ld\n\n", "\"\u{e9}\"", &"x".repeat(2000), "!"]), "{style:?}");
        }
    }
}

#[test]
fn a_stream_without_a_common_form_keeps_nothing() {
    let mut watch = StreamWatch::new(Api::Chat, 1, false);
    let event = |id: usize| format!("data: {{\"id\":{id},\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"x\"}}}}]}}\n\n");
    (0..20).for_each(|id| drop(watch.feed(event(id).into())));
    assert!(watch.reading.shapes.known.is_none());
    // One that is too long is not kept either.
    let mut watch = StreamWatch::new(Api::Chat, 1, false);
    let long = format!("data: {{\"id\":\"{}\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"x\"}}}}]}}\n\n", "i".repeat(LONGEST));
    watch.feed(long.into());
    assert!(watch.reading.shapes.known.is_none());
}
