use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use proptest::test_runner::TestRng;

use super::*;
use crate::cache::KeySecret;

fn secret() -> KeyKind {
    static SECRET: LazyLock<Arc<KeySecret>> = LazyLock::new(|| Arc::new(KeySecret::from_bytes(&[7; 16]).unwrap()));
    KeyKind::Own(Arc::clone(&SECRET))
}

/// The keys of both kinds.
fn keys(namespace: &str, api: Api, model: &str, body: &[u8]) -> Option<[CacheKey; 2]> {
    let own = Asked::read(&secret(), namespace, api, model, body);
    let shared = Asked::read(&KeyKind::Shared, namespace, api, model, body);
    assert_eq!(own.map(|own| own.offers), shared.map(|shared| shared.offers));
    Some([own?.key, shared?.key])
}

fn of(body: &str) -> Option<[CacheKey; 2]> {
    keys("ns", Api::Chat, "gpt-4o", body.as_bytes())
}

#[test]
fn spelling_does_not_count() {
    let plain = of(r#"{"messages":[{"role":"user","content":"A\n/é😀"}],"n":1}"#);
    assert!(plain.is_some());
    for same in [
        " { \"n\" : 1 ,\r\n\t\"messages\" : [ { \"content\" : \"A\\n/é😀\" , \"role\" : \"user\" } ] } ",
        r#"{"m\u0065ssages":[{"role":"\u0075ser","content":"\u0041\u000a\/\u00E9\ud83d\ude00"}],"n":1}"#,
        r#"{"n":1,"messages":[{"role":"user","content":"A\n/é😀"}],"temperature":null}"#,
        r#"{"model":"x","stream":true,"stream_options":{"include_usage":true},"user":"u","metadata":{"a":[1]},
            "prompt_cache_key":"k","prompt_cache_retention":"24h","safety_identifier":"s",
            "n":1,"messages":[{"role":"user","content":"A\n/é😀"}]}"#,
    ] {
        assert_eq!(of(same), plain, "{same}");
    }
}

#[test]
fn meaning_counts() {
    let bodies = [
        r#"{}"#,
        r#"{"a":1}"#,
        r#"{"a":1.0}"#,
        r#"{"a":"1"}"#,
        r#"{"a":true}"#,
        r#"{"a":"true"}"#,
        r#"{"a":[1]}"#,
        r#"{"a":[[1]]}"#,
        r#"{"a":[1,[]]}"#,
        r#"{"a":[[],1]}"#,
        r#"{"a":[]}"#,
        r#"{"a":[null]}"#,
        r#"{"a":{}}"#,
        r#"{"a":{"b":null}}"#,
        r#"{"a":{"model":"x"}}"#,
        r#"{"a":[1,2]}"#,
        r#"{"a":[2,1]}"#,
        r#"{"a":[12]}"#,
        r#"{"a":"","b":""}"#,
        r#"{"ab":""}"#,
        r#"{"a":"b"}"#,
        r#"{"A":"b"}"#,
    ];
    for (at, one) in bodies.iter().enumerate() {
        assert!(of(one).is_some());
        for other in &bodies[..at] {
            let equal = of(one).into_iter().flatten().zip(of(other).into_iter().flatten()).any(|(one, other)| one == other);
            assert!(!equal, "{one} {other}");
        }
    }
    let keys = [
        keys("ns", Api::Chat, "m", b"{}"),
        keys("nsm", Api::Chat, "", b"{}"),
        keys("n", Api::Chat, "sm", b"{}"),
        keys("ns", Api::Completions, "m", b"{}"),
        keys("ns", Api::Chat, "M", b"{}"),
    ];
    let keys: Vec<_> = keys.into_iter().flatten().flatten().collect();
    for (at, one) in keys.iter().enumerate() {
        assert!(keys[..at].iter().all(|other| other != one));
    }
}

#[test]
fn what_can_be_read_two_ways_has_no_key() {
    for bad in [
        "",
        "[]",
        "1",
        "null",
        "{",
        "{} {}",
        r#"{"a":1,"a":1}"#,
        r#"{"a":1,"\u0061":2}"#,
        r#"{"stream":true,"stream":false}"#,
        r#"{"x":null,"x":null}"#,
        r#"{"a":[{"b":{"c":1,"c":2}}]}"#,
        r#"{"metadata":{"c":1,"c":2}}"#,
        r#"{"a":"\ud800"}"#,
        r#"{"\udc00":1}"#,
        r#"{"a":01}"#,
        "{\"a\":\"\n\"}",
    ] {
        assert_eq!(of(bad), None, "{bad}");
    }
    assert_eq!(keys("", Api::Chat, "", b"{\"a\":\"\xff\"}"), None);
    assert_eq!(keys("", Api::Chat, "", b"{\"\xff\":1}"), None);
    assert_eq!(of(&format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200))), None);
    assert!(of(&format!("{{\"a\":{}{}}}", "[".repeat(100), "]".repeat(100))).is_some());
}

#[test]
fn a_key_stays_what_it_is() {
    // Entries of other nodes are found by it: change VERSION with it.
    let known = "f7270143fd01820195091905f014a2e50deaaedc45187a8af61f8d7a6130abca";
    assert_eq!(format!("{:?}", of(r#"{"messages":[{"role":"user","content":"a\n"}],"n":[1,null]}"#).unwrap()[1]), known);
    assert_eq!(format!("{:?}", CacheKey([0xab; 32])), "ab".repeat(32));
}

#[test]
fn deep_and_long_is_still_read_once() {
    let body = format!("{{\"a\":{}{}{}}}", "[".repeat(120), "1,".repeat(500_000) + "1", "]".repeat(120));
    assert!(of(&body).is_some());
}

/// A value without its notation.
#[derive(Debug, Clone, PartialEq)]
enum Tree {
    Scalar(String),
    Text(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

fn tree() -> impl Strategy<Value = Tree> {
    let scalar = prop_oneof![Just("true"), Just("false"), Just("null"), Just("0"), Just("1"), Just("-2.5e3"), Just("10")];
    let leaf = prop_oneof![scalar.prop_map(|text| Tree::Scalar(text.to_owned())), "[ -~é😀\n\t]{0,6}".prop_map(Tree::Text)];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![prop::collection::vec(inner.clone(), 0..5).prop_map(Tree::List), object(inner).prop_map(Tree::Object)]
    })
}

fn object(inner: impl Strategy<Value = Tree>) -> impl Strategy<Value = Vec<(String, Tree)>> {
    prop::collection::btree_map("[a-c\"\\\\é]{0,2}", inner, 0..5).prop_map(|map| map.into_iter().collect())
}

fn compact(tree: &Tree) -> String {
    match tree {
        Tree::Scalar(text) => text.clone(),
        Tree::Text(text) => serde_json::to_string(text).unwrap(),
        Tree::List(list) => format!("[{}]", list.iter().map(compact).collect::<Vec<_>>().join(",")),
        Tree::Object(members) => {
            let one = |(name, value): &(String, Tree)| format!("{}:{}", serde_json::to_string(name).unwrap(), compact(value));
            format!("{{{}}}", members.iter().map(one).collect::<Vec<_>>().join(","))
        }
    }
}

/// The same value in another notation: spaces, escapes, members in any order.
fn wild(tree: &Tree, rng: &mut TestRng) -> String {
    let space = |rng: &mut TestRng| ["", " ", "\n", "\t ", "\r\n"][(rng.next_u32() % 5) as usize];
    let text = |text: &str, rng: &mut TestRng| {
        let mut out = String::from("\"");
        for one in text.chars() {
            if rng.next_u32().is_multiple_of(2) || one < ' ' || one == '"' || one == '\\' {
                one.encode_utf16(&mut [0; 2]).iter().for_each(|unit| match rng.next_u32() % 2 {
                    0 => out += &format!("\\u{unit:04x}"),
                    _ => out += &format!("\\u{unit:04X}"),
                });
            } else {
                out.push(one);
            }
        }
        out + "\""
    };
    let inner = match tree {
        Tree::Scalar(text) => text.clone(),
        Tree::Text(one) => text(one, rng),
        Tree::List(list) => {
            let parts: Vec<String> = list.iter().map(|one| wild(one, rng)).collect();
            format!("[{}{}]", parts.join(","), space(rng))
        }
        Tree::Object(members) => {
            let mut parts: Vec<(u32, String)> = Vec::new();
            for (name, value) in members {
                let one = format!("{}{}{}:{}", space(rng), text(name, rng), space(rng), wild(value, rng));
                parts.push((rng.next_u32(), one));
            }
            parts.sort();
            format!("{{{}{}}}", parts.into_iter().map(|(_, one)| one).collect::<Vec<_>>().join(","), space(rng))
        }
    };
    format!("{}{inner}{}", space(rng), space(rng))
}

/// Changes the scalar with this number; otherwise returns how many scalars there were.
fn change(tree: &mut Tree, mut number: usize) -> Result<(), usize> {
    match tree {
        Tree::Scalar(_) | Tree::Text(_) if number > 0 => return Err(number - 1),
        Tree::Scalar(text) => *text = "77".to_owned(),
        Tree::Text(text) => text.push('!'),
        Tree::List(list) => {
            for one in list {
                match change(one, number) {
                    Ok(()) => return Ok(()),
                    Err(left) => number = left,
                }
            }
            return Err(number);
        }
        Tree::Object(members) => {
            for (_, one) in members {
                match change(one, number) {
                    Ok(()) => return Ok(()),
                    Err(left) => number = left,
                }
            }
            return Err(number);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn equal_in_every_spelling(members in object(tree()), seed in any::<[u8; 32]>()) {
        let plain = of(&compact(&Tree::Object(members.clone())));
        let uncounted = [("model", Tree::Text("m".into())), ("user", Tree::List(Vec::new())), ("none", Tree::Scalar("null".into()))];
        let all = members.into_iter().chain(uncounted.map(|(name, value)| (name.to_owned(), value))).collect();
        let mut rng = TestRng::from_seed(prop::test_runner::RngAlgorithm::ChaCha, &seed);
        let other = wild(&Tree::Object(all), &mut rng);
        prop_assert!(plain.is_some());
        prop_assert_eq!(plain, of(&other), "{}", other);
    }

    #[test]
    fn different_when_any_scalar_changes(members in object(tree()), number in 0usize..40) {
        let tree = Tree::Object(members);
        let mut changed = tree.clone();
        if change(&mut changed, number).is_ok() {
            let (one, other) = (of(&compact(&tree)).unwrap(), of(&compact(&changed)).unwrap());
            prop_assert!(one[0] != other[0] && one[1] != other[1]);
        }
    }

    #[test]
    fn any_bytes_are_survived(body in prop::collection::vec(any::<u8>(), 0..200), text in "[{}\\[\\]\",:\\\\ua0d8 ]{0,60}") {
        let _ = keys("", Api::Chat, "", &body);
        let ours = keys("", Api::Chat, "", text.as_bytes()).is_some();
        let theirs = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&text).is_ok();
        prop_assert!(!ours || theirs);
    }
}

#[test]
fn what_an_answer_repeats_counts_where_it_is_repeated() {
    let key = |api: Api, more: &str| keys("n", api, "m", format!(r#"{{"input":"x"{more}}}"#).as_bytes());
    for more in [r#","metadata":{"a":"b"}"#, r#","user":"u""#] {
        assert_ne!(key(Api::Responses, more), key(Api::Responses, ""), "{more}");
        assert_eq!(key(Api::Chat, more), key(Api::Chat, ""), "{more}");
    }
    // A stored answer is a different one, and one of another tier takes another time.
    for api in [Api::Responses, Api::Chat] {
        assert_ne!(key(api, r#","service_tier":"flex""#), key(api, ""));
        assert_ne!(key(api, r#","store":false"#), key(api, ""));
    }
}

#[test]
fn a_text_that_cannot_be_decoded_has_no_key() {
    let long = "x".repeat(1000);
    for member in ["input", "user", "metadata"] {
        for wrong in [r"\q", r"\u12", r"\ud800"] {
            let body = format!(r#"{{"{member}":"{long}{wrong}"}}"#);
            assert_eq!(key("n", Api::Chat, "m", body.as_bytes()), None, "{body}");
        }
    }
}
