//! Sign-in of persons with an OIDC issuer: authorisation code with PKCE (RFC 6749, 7636, 9700; OpenID Connect Core 1.0, 3.1).
//! Nothing here knows of listeners.
//!
//! | file | what |
//! |---|---|
//! | `client` | an application at an issuer, for one config |
//! | `login` | a login under way: sealed into a cookie, so that strangers can't fill memory |
//! | `answer` | the issuer's answer in the query of the redirect |
//! | `exchange` | a code becomes an ID token |
//! | `identity` | an ID token becomes a person |
//! | `fresh` | when a person authenticated, for acts that need it to be a short time ago |
//! | `logout` | the issuer ends sessions |
//! | `sessions` | who is signed in |
//! | `state` | what outlives a config, and is handed over in an upgrade |

mod answer;
mod client;
mod error;
mod exchange;
mod fresh;
mod identity;
mod login;
mod logout;
mod pace;
mod person;
mod secret_text;
mod sessions;
mod state;

pub use client::{Asked, SignIn};
pub use error::{LackingToken, SignInError};
pub use login::{LIFETIME as LOGIN_LIFETIME, ReturnTo};
pub use logout::{LoggedOut, LogoutError};
pub use person::Person;
pub use sessions::{Found, SentSignIn, SessionChanges, Sessions};
pub use state::{SignInHandover, SignInState};
