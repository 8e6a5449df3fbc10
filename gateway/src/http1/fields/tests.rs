use proptest::prelude::*;

use super::*;

/// A change to a head.
#[derive(Debug, Clone)]
enum Change {
    Add(String, String),
    Set(String, String),
    Remove(String),
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let name = "(a|b|content-type|x-[a-c])";
    proptest::collection::vec(
        prop_oneof![
            (name, "[ -~]{0,10}").prop_map(|(name, value)| Change::Add(name, value)),
            (name, "[ -~]{0,10}").prop_map(|(name, value)| Change::Set(name, value)),
            name.prop_map(Change::Remove),
        ],
        0..20,
    )
}

proptest! {
    /// Whatever is changed, the lines, the list of fields and the map say the same.
    #[test]
    fn the_lines_are_the_fields(changes in changes(), first in "(|POST / HTTP/1.1\r\n)") {
        let mut head = FieldLines::behind(first.as_bytes().into());
        let mut model: Vec<(String, String)> = Vec::new();
        for change in changes {
            match change {
                Change::Add(name, value) => {
                    head.add(&name.parse().unwrap(), value.as_bytes());
                    model.push((name, value));
                }
                Change::Set(name, value) => {
                    head.set(&name.parse().unwrap(), value.as_bytes());
                    model.retain(|(other, _)| *other != name);
                    model.push((name, value));
                }
                Change::Remove(name) => {
                    head.remove(&name.parse().unwrap());
                    model.retain(|(other, _)| *other != name);
                }
            }
        }
        let fields: Vec<_> = head.iter().map(|(name, value)| (name.to_owned(), String::from_utf8(value.to_vec()).unwrap())).collect();
        prop_assert_eq!(&fields, &model);
        prop_assert_eq!(head.get("a").is_some(), model.iter().any(|(name, _)| name == "a"));
        let map = head.to_map();
        for (name, _) in &model {
            let values: Vec<_> = map.get_all(name).iter().map(|value| value.as_bytes().to_vec()).collect();
            let ours: Vec<_> = model.iter().filter(|(other, _)| other == name).map(|(_, value)| value.clone().into_bytes()).collect();
            prop_assert_eq!(values, ours);
        }
        let lines: String = model.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        prop_assert_eq!(head.into_text(), (first + &lines).into_bytes());
    }
}

#[test]
fn a_value_can_not_become_a_line() {
    let mut head = FieldLines::behind(Vec::new());
    for value in ["a\r\nx: y", "a\nb", "\u{7f}", "\0"] {
        head.add(&HeaderName::from_static("x-a"), value.as_bytes());
    }
    assert_eq!(head.iter().count(), 0);
}

#[test]
fn a_value_is_not_shown() {
    let mut head = FieldLines::behind(Vec::new());
    head.add(&http::header::AUTHORIZATION, b"CANARY");
    assert_eq!(format!("{head:?}"), r#"["authorization"]"#);
}
