//! When a request fits that a node's share has no room for.

use std::sync::Arc;
use std::time::Duration;

use super::{ask, granted, now, tokens};
use crate::limits::*;

#[test]
fn what_the_node_itself_has_used_is_free_again_at_a_known_time() {
    let rules = Rules { requests_per_minute: Some(20), tokens_per_minute: Some(100), ..Rules::default() };
    let scope = Scope::new(Rank::Consumer, "c".into(), rules, true);
    let wait = |kind, need, millis| scope.wait(LimitId { kind, calendar: None }, None, &tokens(need), now(millis));
    assert_eq!(wait(LimitKind::Requests, 1, 0), None, "others have it all");
    scope.set_share(Some(granted(&scope, &[3, 50])));
    let scopes = [Arc::clone(&scope)];
    let _first = ask(&scopes, tokens(30), now(0)).unwrap();
    let _second = ask(&scopes, tokens(10), now(20_000)).unwrap();
    assert!(matches!(ask(&scopes, tokens(11), now(30_000)), Err(Refused::Share(_))));
    assert_eq!(wait(LimitKind::Tokens, 10, 30_000), None, "it fits");
    assert_eq!(wait(LimitKind::Tokens, 11, 30_500), Some(Duration::from_millis(30_500)), "when the first one is a minute old");
    assert_eq!(wait(LimitKind::Tokens, 41, 30_000), Some(Duration::from_secs(51)), "and the second one");
    assert_eq!(wait(LimitKind::Tokens, 60, 30_000), Some(Duration::from_secs(51)), "what is more than the share is asked for then");
    assert_eq!(wait(LimitKind::Requests, 1, 30_000), None);
    let _third = ask(&scopes, tokens(1), now(30_000)).unwrap();
    assert_eq!(wait(LimitKind::Requests, 1, 30_000), Some(Duration::from_secs(31)));
    assert_eq!(wait(LimitKind::Concurrent, 1, 30_000), None, "there is no such limit");
}
