//! Makes an answer long without more tokens, as OpenAI's field `obfuscation` does.

use bytes::Bytes;
use spillway_plugins::api::Api;

use super::answer::Answer;

/// Adds so many bytes to an answer: to its object, or as an event of a stream.
pub(super) fn grow(answer: &mut Answer, api: Api, bytes: usize) {
    let padding = format!("\"obfuscation\":\"{}\"", "x".repeat(bytes));
    match answer {
        Answer::Plain(text) if text.starts_with('{') => text.insert_str(1, &format!("{padding},")),
        Answer::Stream(events) => {
            let event = match api {
                Api::Chat | Api::Completions => format!("data: {{\"choices\":[],{padding}}}\n\n"),
                _ => format!("event: ping\ndata: {{\"type\":\"ping\",{padding}}}\n\n"),
            };
            events.insert(1.min(events.len()), Bytes::from(event));
        }
        Answer::Plain(_) | Answer::Bytes(..) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_an_answer() {
        let mut plain = Answer::Plain("{\"a\":1}".to_owned());
        grow(&mut plain, Api::Chat, 10);
        let Answer::Plain(text) = plain else { panic!() };
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), serde_json::json!({ "a": 1, "obfuscation": "xxxxxxxxxx" }));
        let mut stream = Answer::Stream(vec![Bytes::from_static(b"data: 1\n\n"), Bytes::from_static(b"data: 2\n\n")]);
        grow(&mut stream, Api::Messages, 4);
        let Answer::Stream(events) = stream else { panic!() };
        assert_eq!((events.len(), &events[1][..]), (3, &b"event: ping\ndata: {\"type\":\"ping\",\"obfuscation\":\"xxxx\"}\n\n"[..]));
    }
}
