//! A whole text as a tree that borrows from it: one list of nodes, in the order of the text, and no copies.
//!
//! It takes what `serde_json` takes as a `Value`, for a small part of the time and memory; only numbers may be larger
//! than a float.

use std::borrow::Cow;

use super::Kind;
use super::nodes::{Node, Nodes, nodes};
use super::value::decode;

/// A text, and where its values are.
#[derive(Debug)]
pub struct Tree<'t> {
    text: &'t str,
    nodes: Nodes,
}

impl<'t> Tree<'t> {
    /// Reads a text. `None` if it isn't one JSON value in UTF-8, or if a string has half of a surrogate pair.
    pub fn parse(text: &'t [u8]) -> Option<Self> {
        u32::try_from(text.len()).ok()?;
        let text = simdutf8::basic::from_utf8(text).ok()?;
        Some(Tree { text, nodes: nodes(text.as_bytes())? })
    }

    /// The whole value.
    pub fn root(&self) -> Item<'_> {
        Item { tree: self, index: 0 }
    }
}

impl Node {
    fn is_text(&self, text: &str, name: &str) -> bool {
        let length = (self.end - self.start) as usize;
        if !self.escaped {
            let inner = self.start as usize + 1..self.end as usize - 1;
            return length == name.len() + 2 && text.as_bytes().get(inner) == Some(name.as_bytes());
        }
        length > name.len() + 2 && decode(self.quoted(text).as_bytes()).is_some_and(|decoded| decoded == name)
    }

    /// As it is written.
    fn quoted<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Between the quotes.
    fn inner<'t>(&self, text: &'t str) -> &'t str {
        text.get(self.start as usize + 1..self.end as usize - 1).unwrap_or_default()
    }
}

/// A value in a tree, or none, which counts as `null`.
#[derive(Clone, Copy)]
pub struct Item<'a> {
    tree: &'a Tree<'a>,
    index: usize,
}

impl std::fmt::Debug for Item<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Item({:?})", self.kind())
    }
}

impl<'a> Item<'a> {
    fn node(self) -> Option<&'a Node> {
        self.tree.nodes.get(self.index)
    }

    fn none(self) -> Self {
        Item { index: usize::MAX, ..self }
    }

    /// Its kind.
    pub fn kind(self) -> Kind {
        self.node().map_or(Kind::Null, |node| node.kind)
    }

    /// Whether it is missing or `null`.
    pub fn is_null(self) -> bool {
        self.kind() == Kind::Null
    }

    /// Whether it is an object.
    pub fn is_object(self) -> bool {
        self.kind() == Kind::Object
    }

    /// As it is written; empty if there is none.
    pub fn bytes(self) -> &'a [u8] {
        self.node().map_or(b"", |node| node.quoted(self.tree.text).as_bytes())
    }

    /// The text of a string.
    pub fn text(self) -> Option<Cow<'a, str>> {
        let node = self.node().filter(|node| node.kind == Kind::String)?;
        if node.escaped { decode(node.quoted(self.tree.text).as_bytes()) } else { Some(Cow::Borrowed(node.inner(self.tree.text))) }
    }

    /// The text of a string; empty if it is something else.
    pub fn str(self) -> Cow<'a, str> {
        self.text().unwrap_or_default()
    }

    /// The text of a string, or any other value as JSON: without white space, and with its members sorted.
    pub fn to_text(self) -> Cow<'a, str> {
        self.text().unwrap_or_else(|| match serde_json::from_slice::<serde_json::Value>(self.bytes()) {
            Ok(value) => Cow::Owned(value.to_string()),
            // A number that no float can have.
            Err(_) => String::from_utf8_lossy(self.bytes()),
        })
    }

    /// Whether it is a string with this text.
    pub fn is(self, text: &str) -> bool {
        self.node().is_some_and(|node| node.kind == Kind::String && node.is_text(self.tree.text, text))
    }

    /// Whether it is `true`.
    pub fn is_true(self) -> bool {
        self.kind() == Kind::Bool && self.bytes() == b"true"
    }

    /// The member of an object. If there are several with this name, the last one counts, as in `serde_json`.
    pub fn get(self, name: &str) -> Item<'a> {
        self.find(name).map_or(self.none(), |index| Item { index, ..self })
    }

    /// As [`Item::get`], for several members in one pass.
    pub fn get_all<const N: usize>(self, names: [&str; N]) -> [Item<'a>; N] {
        let mut found = [self.none(); N];
        let mut inner = self.inner(Kind::Object);
        while let (Some(key), Some(value)) = (inner.next().and_then(Item::node), inner.next()) {
            let plain = (!key.escaped).then(|| key.inner(self.tree.text));
            for (name, found) in names.iter().zip(&mut found) {
                if plain.map_or_else(|| key.is_text(self.tree.text, name), |plain| plain == *name) {
                    *found = value;
                }
            }
        }
        found
    }

    /// Whether an object has a member, be it `null`.
    pub fn has(self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// The index of a member's value, of the last one with this name.
    fn find(self, name: &str) -> Option<usize> {
        let end = self.node().filter(|node| node.kind == Kind::Object)?.next as usize;
        let (mut at, mut found) = (self.index + 1, None);
        while at < end {
            let key = self.tree.nodes.get(at)?;
            if key.is_text(self.tree.text, name) {
                found = Some(at + 1);
            }
            at = self.tree.nodes.get(at + 1)?.next as usize;
        }
        found
    }

    /// The elements of an array; none of anything else.
    pub fn items(self) -> impl Iterator<Item = Item<'a>> {
        let mut inner = self.inner(Kind::Array);
        std::iter::from_fn(move || inner.next())
    }

    /// The members of an object, in the order of the text; none of anything else.
    pub fn members(self) -> impl Iterator<Item = (Cow<'a, str>, Item<'a>)> {
        let mut inner = self.inner(Kind::Object);
        std::iter::from_fn(move || Some((inner.next()?.text().unwrap_or_default(), inner.next()?)))
    }

    fn inner(self, kind: Kind) -> Inner<'a> {
        let end = self.node().filter(|node| node.kind == kind).map_or(0, |node| node.next as usize);
        Inner { tree: self.tree, at: self.index.saturating_add(1), end }
    }
}

/// The values that are directly in another one.
struct Inner<'a> {
    tree: &'a Tree<'a>,
    at: usize,
    end: usize,
}

impl<'a> Inner<'a> {
    fn next(&mut self) -> Option<Item<'a>> {
        let index = self.at;
        if index >= self.end {
            return None;
        }
        self.at = self.tree.nodes.get(index)?.next as usize;
        Some(Item { tree: self.tree, index })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// The same value from serde, if the two agree.
    fn same(ours: Item<'_>, theirs: &Value) -> Result<(), TestCaseError> {
        let kind = match theirs {
            Value::Null => Kind::Null,
            Value::Bool(_) => Kind::Bool,
            Value::Number(_) => Kind::Number,
            Value::String(_) => Kind::String,
            Value::Array(_) => Kind::Array,
            Value::Object(_) => Kind::Object,
        };
        prop_assert_eq!(ours.kind(), kind);
        prop_assert_eq!(&serde_json::from_slice::<Value>(ours.bytes()).unwrap(), theirs);
        let text = ours.text();
        prop_assert_eq!(text.as_deref(), theirs.as_str());
        prop_assert_eq!(ours.is_true(), *theirs == Value::Bool(true));
        prop_assert!(theirs.as_str().is_none_or(|text| ours.is(text)));
        prop_assert!(!ours.is("something else"));
        let elements = theirs.as_array().map(Vec::as_slice).unwrap_or_default();
        prop_assert_eq!(ours.items().count(), elements.len());
        for (ours, theirs) in ours.items().zip(elements) {
            same(ours, theirs)?;
        }
        let members: Vec<_> = theirs.as_object().into_iter().flatten().collect();
        prop_assert!(ours.members().count() >= members.len());
        for (name, theirs) in members {
            prop_assert!(ours.has(name));
            let [first, none, last] = ours.get_all([name, "something else", name]);
            prop_assert!(none.is_null() && first.bytes() == ours.get(name).bytes() && last.bytes() == first.bytes());
            same(ours.get(name), theirs)?;
        }
        prop_assert!(!ours.has("something else") && ours.get("something else").is_null());
        Ok(())
    }

    fn json() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            Just("null".to_owned()),
            Just("true".to_owned()),
            Just("-1.5e3".to_owned()),
            r#""(\\n|\\u00e9|\\ud83d\\ude00|[ab\u{e9} ]){0,4}""#,
        ];
        leaf.prop_recursive(4, 40, 4, |inner| {
            // Names that occur twice, and escaped ones.
            let member = (r#"(a|b|\\u0061|\\\\u0061|\\n){0,2}"#, inner.clone()).prop_map(|(name, value)| format!(" \"{name}\" :{value}"));
            prop_oneof![
                prop::collection::vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(" ,"))),
                prop::collection::vec(member, 0..4).prop_map(|all| format!("{{{}}}", all.join(","))),
            ]
        })
    }

    #[test]
    fn a_name_with_a_backslash_is_not_the_escaped_one() {
        let tree = Tree::parse(br#"{"a\\u0062":1,"a\u0062":2}"#).unwrap();
        assert_eq!((tree.root().get(r"a\u0062").bytes(), tree.root().get("ab").bytes()), (&b"1"[..], &b"2"[..]));
    }

    proptest! {
        #[test]
        fn a_tree_is_what_serde_finds(text in json()) {
            let tree = Tree::parse(text.as_bytes());
            prop_assert!(tree.is_some(), "{}", text);
            same(tree.unwrap().root(), &serde_json::from_str(&text).unwrap())?;
        }

        #[test]
        fn what_serde_refuses_is_refused(text in "[\\[\\]{}:,\"\\\\u1d8ca. trun\n-]{0,30}", bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            for text in [text.as_bytes(), &bytes] {
                prop_assert_eq!(Tree::parse(text).is_some(), serde_json::from_slice::<Value>(text).is_ok(), "{:?}", text);
            }
        }
    }

    #[test]
    fn what_is_missing_is_null() {
        let text = br#"{"a":{"b":[1,{"c":"d"}]},"a":{"b":[2]}}"#;
        let tree = Tree::parse(text).unwrap();
        let root = tree.root();
        assert_eq!(root.get("a").get("b").bytes(), b"[2]", "the last one counts");
        for none in [root.get("x"), root.get("x").get("y"), root.get("a").get("b").get("c")] {
            assert!(none.is_null() && none.bytes().is_empty() && none.text().is_none() && none.items().next().is_none());
        }
        assert!(Tree::parse(b"\"\\ud800\"").is_none() && Tree::parse(b"\"\xff\"").is_none() && Tree::parse(b"{} {}").is_none());
    }
}
