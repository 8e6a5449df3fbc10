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
    let config = Config::parse(text, Path::new("test.toml"), &Secrets::default()).unwrap();
    start(&config, Clock::new()).await.unwrap()
}
