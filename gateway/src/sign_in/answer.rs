//! The issuer's answer: the query of the redirect back (RFC 6749, 4.1.2; RFC 9207).

use super::error::{IssuerCode, SignInError};

/// Longest query that is read: codes of Entra have about 2000 characters.
const LONGEST: usize = 16 * 1024;

/// The issuer's answer.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Answer {
    /// Which login it belongs to.
    pub(super) state: Option<String>,
    /// To be exchanged for tokens.
    pub(super) code: Option<String>,
    /// Who sent it.
    pub(super) issuer: Option<String>,
    /// The error, if it is one.
    pub(super) error: Option<IssuerCode>,
}

impl Answer {
    /// Parses a query.
    ///
    /// # Errors
    /// [`SignInError::Answer`]
    pub(super) fn parse(query: &str) -> Result<Self, SignInError> {
        if query.len() > LONGEST {
            return Err(SignInError::Answer("it is too long"));
        }
        let [mut state, mut code, mut issuer, mut error, mut description] = [const { None }; 5];
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let field = match name {
                "state" => &mut state,
                "code" => &mut code,
                "iss" => &mut issuer,
                "error" => &mut error,
                "error_description" => &mut description,
                _ => continue,
            };
            let text = percent_encoding::percent_decode_str(&value.replace('+', " ")).decode_utf8().map(|text| text.into_owned());
            let text = text.map_err(|_| SignInError::Answer("it is not UTF-8"))?;
            // RFC 6749, 3.1: none may occur twice.
            if field.replace(text).is_some() {
                return Err(SignInError::Answer("a parameter occurs twice"));
            }
        }
        let error = error.map(|error| IssuerCode::of(&error, description.as_deref()));
        Ok(Answer { state, code, issuer, error })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameters_are_decoded_and_unknown_ones_ignored() {
        let answer = Answer::parse("code=a%2Bb+c&state=s&session_state=x&iss=https%3A%2F%2Fissuer&flag").unwrap();
        let fields = [answer.code.as_deref(), answer.state.as_deref(), answer.issuer.as_deref()];
        assert_eq!(fields, [Some("a+b c"), Some("s"), Some("https://issuer")]);
        assert_eq!(answer.error, None);
    }

    proptest! {
        #[test]
        fn any_query_is_read_or_refused(query in ".{0,300}") {
            let _ = Answer::parse(&query);
        }

        #[test]
        fn what_an_issuer_encodes_is_what_is_read(code in ".{1,100}", state in "[A-Za-z0-9_-]{43}") {
            let encoded = percent_encoding::utf8_percent_encode(&code, percent_encoding::NON_ALPHANUMERIC);
            let answer = Answer::parse(&format!("state={state}&code={encoded}"));
            let answer = answer.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert_eq!((answer.code, answer.state), (Some(code), Some(state)));
        }
    }

    #[test]
    fn an_answer_with_two_meanings_is_none() {
        for query in ["state=a&state=a", "code=a&code=b", "error=a&error=b", "code=%ff", &format!("code={}", "x".repeat(20_000))] {
            assert!(Answer::parse(query).is_err(), "{query:.40}");
        }
    }
}
