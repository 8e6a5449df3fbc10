use ring::rand::SystemRandom;

use super::*;

const LIMITS: Limits = Limits { session: Duration::from_secs(8 * 3600), idle: Duration::from_secs(1800) };

fn at(seconds: u64) -> Tick {
    // As clocks do, ticks begin after an hour, so that an earlier time is a valid tick.
    Tick(0) + Duration::from_secs(100_000 + seconds)
}

fn person(subject: &str) -> Person {
    Person {
        subject: subject.to_owned(),
        name: "Ada".to_owned(),
        email: None,
        roles: Vec::new(),
        groups: Vec::new(),
        too_many_groups: false,
    }
}

fn begin(sessions: &Sessions, subject: &str, now: Tick) -> String {
    let new = Beginning { person: person(subject), realm: "realm", sid: None, authenticated: None };
    sessions.begin(new, LIMITS, now, &SystemRandom::new()).unwrap()
}

#[test]
fn a_session_ends_after_its_idle_time_and_use_begins_that_again() {
    let sessions = Sessions::default();
    let token = begin(&sessions, "ada", at(0));
    assert!(sessions.find(&token, "realm", LIMITS, at(1799), false).is_some(), "a look is no use");
    assert!(sessions.find(&token, "realm", LIMITS, at(1799), true).is_some());
    let id = sessions.find(&token, "realm", LIMITS, at(3598), false).unwrap().id;
    assert!(sessions.is_live(&id, "realm", LIMITS, at(3598)) && !sessions.is_live(&id, "realm", LIMITS, at(3599)));
    assert_eq!(sessions.find(&token, "realm", LIMITS, at(3599), true), None);
    assert_eq!(sessions.find(&token, "realm", LIMITS, at(1800), true), None, "an ended one doesn't come back");
}

#[test]
fn a_session_ends_after_its_lifetime_however_busy_it_is() {
    let sessions = Sessions::default();
    let token = begin(&sessions, "ada", at(0));
    let busy = (0..8 * 3600).step_by(900).all(|second| sessions.find(&token, "realm", LIMITS, at(second), true).is_some());
    assert!(busy);
    assert_eq!(sessions.find(&token, "realm", LIMITS, at(8 * 3600), true), None);
}

#[test]
fn limits_that_a_reload_shortens_hold_for_sessions_that_are_there() {
    let sessions = Sessions::default();
    let token = begin(&sessions, "ada", at(0));
    let shorter = Limits { session: Duration::from_secs(60), ..LIMITS };
    assert_eq!(sessions.find(&token, "realm", shorter, at(61), true), None);
}

#[test]
fn a_session_of_another_issuer_or_application_is_none() {
    let sessions = Sessions::default();
    let token = begin(&sessions, "ada", at(0));
    assert_eq!(sessions.find(&token, "another", LIMITS, at(1), true), None);
}

#[test]
fn no_text_but_the_token_finds_a_session() {
    let sessions = Sessions::default();
    let token = begin(&sessions, "ada", at(0));
    let id = sessions.find(&token, "realm", LIMITS, at(1), true).unwrap().id.to_string();
    for guess in ["", "x", &id, &token[1..], &format!("{token} "), &csrf(&token)] {
        assert_eq!(sessions.find(guess, "realm", LIMITS, at(1), true), None, "{guess}");
    }
    assert!(!format!("{sessions:?}").contains(&token));
}

#[test]
fn one_person_and_all_together_have_a_bounded_number_of_sessions() {
    let sessions = Sessions::default();
    let first = begin(&sessions, "other", at(0));
    let tokens: Vec<String> = (0..20).map(|second| begin(&sessions, "ada", at(second + 1))).collect();
    let live = tokens.iter().filter(|token| sessions.find(token, "realm", LIMITS, at(30), false).is_some()).count();
    assert_eq!(live, OF_ONE);
    assert!(sessions.find(&tokens[19], "realm", LIMITS, at(30), false).is_some(), "the latest stays");
    assert!(sessions.find(&first, "realm", LIMITS, at(30), true).is_some(), "nobody else's ends");
    for number in 0..MOST {
        begin(&sessions, &format!("person {number}"), at(31));
    }
    assert_eq!(sessions.list("realm", LIMITS, at(32)).len(), MOST);
}

#[test]
fn sign_outs_and_ages_reach_the_process_that_takes_over() {
    let (old, new) = (Sessions::default(), Sessions::default());
    let (stays, leaves) = (begin(&old, "ada", at(0)), begin(&old, "bob", at(0)));
    let mut sent = SentSignIn::default();
    let send = |sent: &mut SentSignIn, now: Tick| {
        let changes = serde_json::to_string(&old.changes(sent, now)).unwrap();
        assert!(!changes.contains(&stays) && !changes.contains(&leaves), "no token crosses");
        // The clock of the other process shows another time.
        new.take_over(serde_json::from_str(&changes).unwrap(), Tick(now.0 + 5_000_000_000_000));
    };
    send(&mut sent, at(1000));
    let late = begin(&old, "cem", at(1001));
    old.end(&old.find(&leaves, "realm", LIMITS, at(1001), false).unwrap().id);
    send(&mut sent, at(1002));
    assert!(old.changes(&mut sent, at(1003)).is_empty());
    let there = |token: &str, second: u64| new.find(token, "realm", LIMITS, Tick(at(second).0 + 5_000_000_000_000), false).is_some();
    assert!(there(&stays, 1799) && there(&late, 1799) && !there(&leaves, 1003));
    assert!(!there(&stays, 1800), "its idle time goes on");
}

#[test]
fn a_session_that_is_idle_in_the_old_process_may_live_in_the_new_one() {
    let (old, new) = (Sessions::default(), Sessions::default());
    let token = begin(&old, "ada", at(0));
    let mut sent = SentSignIn::default();
    new.take_over(old.changes(&mut sent, at(1)), at(1));
    assert!(new.find(&token, "realm", LIMITS, at(1700), true).is_some());
    // Somebody signs in at the old process, which then forgets what is idle there.
    begin(&old, "bob", at(1900));
    assert!(old.find(&token, "realm", LIMITS, at(1900), false).is_none());
    new.take_over(old.changes(&mut sent, at(1901)), at(1901));
    assert!(new.find(&token, "realm", LIMITS, at(1901), false).is_some());
}

#[test]
fn a_login_of_another_issuer_ends_no_session() {
    let sessions = Sessions::default();
    let token = begin(&sessions, "ada", at(0));
    let other = Beginning { person: person("bob"), realm: "before the reload", sid: None, authenticated: None };
    sessions.begin(other, LIMITS, at(1), &SystemRandom::new()).unwrap();
    assert!(sessions.find(&token, "realm", LIMITS, at(2), false).is_some());
}

#[test]
fn all_sessions_of_a_person_or_of_everybody_can_be_ended() {
    let sessions = Sessions::default();
    let (ada, again, bob) = (begin(&sessions, "ada", at(0)), begin(&sessions, "ada", at(1)), begin(&sessions, "bob", at(2)));
    assert_eq!(sessions.end_all(Some("ada")), 2);
    let live = |token: &str| sessions.find(token, "realm", LIMITS, at(3), false).is_some();
    assert_eq!((live(&ada), live(&again), live(&bob)), (false, false, true));
    assert_eq!((sessions.end_all(None), live(&bob)), (1, false));
}

#[test]
fn the_issuer_ends_one_of_its_sessions_or_all_of_a_person() {
    let sessions = Sessions::default();
    let begin = |subject: &str, realm: &str, sid: Option<&str>| {
        let new = Beginning { person: person(subject), realm, sid: sid.map(str::to_owned), authenticated: None };
        sessions.begin(new, LIMITS, at(0), &SystemRandom::new()).unwrap()
    };
    let live = |token: &str| sessions.find(token, "realm", LIMITS, at(1), false).is_some();
    let logout = |sid: Option<&str>, subject: Option<&str>| {
        sessions.end_at_issuer("realm", &Logout { sid: sid.map(str::to_owned), subject: subject.map(str::to_owned) }).len()
    };
    let (one, other, plain, bob) =
        (begin("ada", "realm", Some("1")), begin("ada", "realm", Some("2")), begin("ada", "realm", None), begin("bob", "realm", Some("3")));
    let elsewhere = begin("ada", "another", Some("1"));
    assert_eq!((logout(Some("4"), None), logout(Some("1"), Some("bob")), logout(None, None)), (0, 0, 0));
    assert_eq!((logout(Some("1"), None), live(&one), live(&other), live(&plain)), (1, false, true, true));
    // Which of the issuer's sessions the third one belongs to isn't known: it goes with any of the person's.
    assert_eq!((logout(Some("2"), Some("ada")), live(&other), live(&plain), live(&bob)), (2, false, false, true));
    let again = begin("ada", "realm", Some("5"));
    assert_eq!((logout(None, Some("ada")), live(&again), live(&bob)), (1, false, true));
    assert!(sessions.find(&elsewhere, "another", LIMITS, at(1), false).is_some(), "of another application");
}

#[test]
fn when_a_person_authenticated_reaches_the_process_that_takes_over() {
    let (old, new) = (Sessions::default(), Sessions::default());
    let beginning = Beginning { person: person("ada"), realm: "realm", sid: Some("1".to_owned()), authenticated: Some(at(0)) };
    let token = old.begin(beginning, LIMITS, at(60), &SystemRandom::new()).unwrap();
    let changes = serde_json::to_string(&old.changes(&mut SentSignIn::default(), at(100))).unwrap();
    new.take_over(serde_json::from_str(&changes).unwrap(), at(500));
    assert_eq!(new.find(&token, "realm", LIMITS, at(500), false).unwrap().authenticated, Some(at(400)));
    assert_eq!(new.end_at_issuer("realm", &Logout { sid: Some("1".to_owned()), subject: None }).len(), 1);
}
