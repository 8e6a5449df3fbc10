//! Who owns a consumer, which keys owners may make, and where their page is.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Config, lineage};

/// The page `/me` for people who sign in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Portal {
    /// A listener of its own.
    pub listener: Option<PortalListener>,
    /// The gateway's address as programs see it, without a trailing slash; `None` if it isn't known.
    pub gateway_url: Option<String>,
    /// Whom people who own nothing should ask.
    pub contact: Option<String>,
}

/// The listener for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortalListener {
    /// Its address.
    pub listen: SocketAddr,
    /// Its address as browsers see it, without a trailing slash.
    pub url: String,
}

/// Which keys the owners of a consumer may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IssuedKeyRules {
    /// The most keys that are valid at the same time.
    pub max: usize,
    /// The longest time from the making of a key to its expiry.
    pub max_lifetime: Duration,
}

impl Default for IssuedKeyRules {
    fn default() -> Self {
        IssuedKeyRules { max: 5, max_lifetime: Duration::from_secs(90 * 86_400) }
    }
}

/// What the issuer says of a person, as far as it decides what that person owns.
#[derive(Debug, Clone, Copy)]
pub struct PersonNames<'p> {
    /// The subject: never given to somebody else.
    pub subject: &'p str,
    /// Names such as the user principal name and the mail address.
    pub names: &'p [String],
    /// Ids of groups.
    pub groups: &'p [String],
    /// Application roles.
    pub roles: &'p [String],
}

impl PersonNames<'_> {
    /// Whether one of `owners` means this person.
    ///
    /// A name counts only if it has an `@`: at some issuers people choose their name, and one could be the name of a
    /// group. Names are compared without regard to case, as mail systems do.
    pub fn is_among(&self, owners: &[String]) -> bool {
        let is_name = |owner: &str| owner.contains('@') && self.names.iter().any(|name| name.eq_ignore_ascii_case(owner));
        let is_listed =
            |owner: &String| self.subject == owner || self.groups.contains(owner) || self.roles.contains(owner) || is_name(owner);
        owners.iter().any(is_listed)
    }
}

impl Config {
    /// Whether a person owns the group with this index, itself or one above it, and so all of its consumers.
    pub fn owns_group(&self, person: &PersonNames<'_>, group: usize) -> bool {
        lineage(&self.groups, Some(group)).any(|(_, group)| person.is_among(&group.owners))
    }

    /// Whether a person owns the consumer with this index, itself or through its group.
    pub fn owns_consumer(&self, person: &PersonNames<'_>, consumer: usize) -> bool {
        let of_group = |group: Option<usize>| group.is_some_and(|group| self.owns_group(person, group));
        self.consumers.get(consumer).is_some_and(|consumer| person.is_among(&consumer.owners) || of_group(consumer.group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn people_are_known_by_subject_group_role_and_by_names_with_an_at_sign() {
        let (names, groups, roles) = (texts(&["Kim@contoso.example", "admins"]), texts(&["g-1"]), texts(&["Team.Crm"]));
        let kim = PersonNames { subject: "s-1", names: &names, groups: &groups, roles: &roles };
        for (owner, is_owner) in [
            ("s-1", true),
            ("g-1", true),
            ("Team.Crm", true),
            ("kim@contoso.example", true),
            ("KIM@CONTOSO.EXAMPLE", true),
            // A name that a person may have chosen, and that could be a group's.
            ("admins", false),
            // Ids are compared exactly.
            ("S-1", false),
            ("team.crm", false),
            ("kim", false),
            ("", false),
        ] {
            assert_eq!(kim.is_among(&texts(&["other", owner])), is_owner, "{owner}");
        }
        assert!(!kim.is_among(&[]));
    }
}
