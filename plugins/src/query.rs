//! Query strings: a parameter's name as an upstream reads it, and the keys in them.

/// A parameter's name in lower case, percent-decoded: as an upstream reads it.
pub fn name(pair: &str) -> String {
    let mut name = decoded(pair.split('=').next().unwrap_or(pair));
    name.make_ascii_lowercase();
    String::from_utf8_lossy(&name).into_owned()
}

/// Percent-decodes a text; invalid sequences stay unchanged.
fn decoded(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let (mut plain, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while let Some(&byte) = bytes.get(at) {
        let hex = text.get(at + 1..at + 3).filter(|_| byte == b'%').and_then(|pair| u8::from_str_radix(pair, 16).ok());
        plain.push(hex.unwrap_or(byte));
        at += if hex.is_some() { 3 } else { 1 };
    }
    plain
}

/// The parameter in which callers of API Management may send their key.
const SUBSCRIPTION_KEY: &str = "subscription-key";

/// A query without its keys.
#[derive(PartialEq, Eq)]
pub struct WithoutKeys {
    /// The rest of it.
    pub query: String,
    /// The keys, percent-decoded.
    pub keys: Vec<Vec<u8>>,
}

/// Removes the keys from a query; `None` if there are none.
pub fn without_keys(query: &str) -> Option<WithoutKeys> {
    let is_key = |pair: &&str| name(pair) == SUBSCRIPTION_KEY;
    let keys: Vec<Vec<u8>> =
        query.split('&').filter(is_key).map(|pair| decoded(pair.split_once('=').map_or("", |(_, value)| value))).collect();
    let rest = || query.split('&').filter(|pair| !is_key(pair)).collect::<Vec<_>>().join("&");
    (!keys.is_empty()).then(|| WithoutKeys { query: rest(), keys })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_an_upstream_reads() {
        for (pair, expected) in [("api-version=x", "api-version"), ("MOD%65L=b", "model"), ("a%zz=1", "a%zz"), ("x", "x"), ("%", "%")] {
            assert_eq!(name(pair), expected);
        }
    }

    #[test]
    fn keys_are_taken_out_however_their_name_is_written() {
        let taken = |query: &str| without_keys(query).map(|found| (found.query, found.keys));
        assert_eq!(taken("api-version=1&subscription-key=k&x=y"), Some(("api-version=1&x=y".into(), vec![b"k".to_vec()])));
        assert_eq!(taken("Subscription%2DKey=a%2Bb&subscription-key=c"), Some((String::new(), vec![b"a+b".to_vec(), b"c".to_vec()])));
        assert_eq!(taken("subscription-key"), Some((String::new(), vec![Vec::new()])));
        for query in ["", "api-version=1", "x=subscription-key", "subscription-key2=k"] {
            assert_eq!(taken(query), None, "{query}");
        }
    }

    proptest::proptest! {
        /// Nothing of a key's parameter is left, whatever stands around it.
        #[test]
        fn no_key_is_left(before in "[a-z&=%]{0,12}", key in "[A-Z0-9]{4,12}", after in "[a-z&=%]{0,12}") {
            let found = without_keys(&format!("{before}&subscription-key={key}&{after}"));
            let found = found.ok_or_else(|| proptest::test_runner::TestCaseError::fail("no key"))?;
            proptest::prop_assert!(!found.query.contains(&key));
            proptest::prop_assert!(found.keys.contains(&key.into_bytes()));
            proptest::prop_assert!(without_keys(&found.query).is_none());
        }
    }
}
