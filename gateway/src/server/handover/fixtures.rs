//! For tests: a process that could be one of the two.

use std::path::Path;

use crate::clock::Clock;
use crate::config::{Config, Secrets};
use crate::server::{Running, start};

const TEXT: &str = r#"
[server]
listen = ["127.0.0.1:0"]
admin = "127.0.0.1:0"
[log]
access = "off"
[[backends]]
name = "a"
kind = "mock"
[[pools]]
name = "pool"
models = ["m"]
members = [{ backend = "a" }]
"#;

/// A gateway with one mock.
pub(super) async fn running() -> Running {
    running_with(TEXT).await
}

/// A gateway with this config.
pub(super) async fn running_with(text: &str) -> Running {
    running_by(text, Clock::new()).await
}

/// The first one, by a clock that stands: its work takes no time.
pub(super) async fn running_at_once() -> Running {
    running_by(TEXT, Clock::standing()).await
}

async fn running_by(text: &str, clock: Clock) -> Running {
    let config = Config::parse(text, Path::new("test.toml"), &Secrets::default()).unwrap();
    start(&config, clock).await.unwrap()
}
