//! The owners of cached answers.

/// Who may get an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheOwner<'n> {
    /// Callers without a name.
    Anonymous,
    /// One consumer, by its name.
    Consumer(&'n str),
    /// All consumers with this namespace.
    Shared(&'n str),
}

impl CacheOwner<'_> {
    /// Whether several callers may get the same answer.
    pub fn is_shared(self) -> bool {
        !matches!(self, CacheOwner::Consumer(_))
    }

    /// The beginning of the namespace of this owner's requests. Behind it comes what changes the answer, such as headers: two owners
    /// never have the same namespace, whatever the caller puts there.
    pub fn namespace(self) -> String {
        let (kind, name) = match self {
            CacheOwner::Anonymous => ('a', ""),
            CacheOwner::Consumer(name) => ('c', name),
            CacheOwner::Shared(name) => ('s', name),
        };
        // With its length, so that no part of a name can be read as a part of what follows.
        let mut namespace = String::with_capacity(ROOM + name.len());
        namespace.push(kind);
        push_number(name.len(), &mut namespace);
        namespace.push(':');
        namespace.push_str(name);
        namespace
    }
}

/// Bytes for what else is in most namespaces.
const ROOM: usize = 56;

/// Appends a number, without the machinery of `format!`: every request has one.
fn push_number(number: usize, to: &mut String) {
    if number >= 10 {
        push_number(number / 10, to);
    }
    to.push(char::from(b'0' + (number % 10) as u8));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::Api;
    use crate::cache::key;

    proptest! {
        #[test]
        fn no_two_owners_share_a_key(
            (one, other) in ("[a-c0-9:]{0,5}", "[a-c0-9:]{0,5}"),
            (here, there) in ("[a-c0-9:]{0,5}", "[a-c0-9:]{0,5}"),
            (first, second) in (0usize..3, 0usize..3),
            text in "[a-z]{0,5}",
        ) {
            let owner = |kind: usize, name| [CacheOwner::Anonymous, CacheOwner::Consumer(name), CacheOwner::Shared(name)][kind];
            let (one, other) = (owner(first, one.as_str()), owner(second, other.as_str()));
            let body = format!("{{\"input\":\"{text}\"}}");
            let key = |owner: CacheOwner<'_>, around: &str| key(&(owner.namespace() + around), Api::Chat, "m", body.as_bytes());
            prop_assert_eq!(key(one, &here) == key(other, &there), one == other && here == there);
        }
    }
}
