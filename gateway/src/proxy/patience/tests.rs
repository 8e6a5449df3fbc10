//! How long an attempt may take.

use super::*;
use crate::proxy::fixtures::{CHAT, STREAM, Setup, model_request};

/// The two times in seconds, for a body that asks for thoughts or not.
fn times(api: Api, text: &str, thinks: bool) -> (u64, Option<u64>) {
    let pool = "timeouts = { first_token = \"5s\", answer = \"7s\", thinking = \"60s\" }";
    let gateway = Setup { pool, ..Setup::default() }.gateway();
    let mut asked = model_request(&gateway, api, text);
    asked.fields.reasoning = Some(thinks);
    (first(&asked).as_secs(), after_event(&asked).map(|time| time.as_secs()))
}

#[test]
fn thoughts_take_time_where_nothing_tells_of_them() {
    for (api, text, thinks, expected) in [
        (Api::Chat, STREAM, false, (5, None)),
        (Api::Chat, STREAM, true, (60, Some(60))),
        (Api::Completions, STREAM, true, (60, Some(60))),
        (Api::Responses, STREAM, true, (5, Some(60))),
        (Api::Responses, STREAM, false, (5, Some(60))),
        (Api::Messages, STREAM, true, (5, Some(60))),
        (Api::Chat, CHAT, false, (7, None)),
        (Api::Chat, CHAT, true, (60, Some(60))),
        (Api::Messages, CHAT, false, (7, Some(60))),
    ] {
        assert_eq!(times(api, text, thinks), expected, "{api} {text} {thinks}");
    }
}

#[test]
fn a_long_time_is_never_shorter_than_a_short_one() {
    let pool = "timeouts = { first_token = \"5s\", answer = \"7s\", thinking = \"1s\" }";
    let gateway = Setup { pool, ..Setup::default() }.gateway();
    let mut asked = model_request(&gateway, Api::Chat, CHAT);
    asked.fields.reasoning = Some(true);
    assert_eq!((first(&asked).as_secs(), after_event(&asked).map(|time| time.as_secs())), (7, Some(5)));
}
