//! The memory that several nodes share: a connection to Redis or Valkey that is made when it is first needed, and made
//! again when it breaks.

use std::time::Duration;

use redis::Client;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::sync::OnceCell;

use crate::config;

/// The URL of Redis can't be used.
#[derive(Debug, thiserror::Error)]
#[error("redis.url: {0}")]
pub struct RedisError(String);

/// A connection, and the prefix of every key.
pub struct SharedMemory {
    client: Client,
    connection: OnceCell<ConnectionManager>,
    prefix: String,
}

impl SharedMemory {
    /// Does not connect yet.
    ///
    /// # Errors
    /// If the URL can't be used.
    pub fn new(config: &config::Redis) -> Result<Self, RedisError> {
        crate::http_client::install_crypto();
        // The full message may repeat the URL, and with it the password: only the kind of error is shown.
        let client = Client::open(config.url.expose()).map_err(|error| RedisError(format!("{:?}", error.kind())))?;
        Ok(SharedMemory { client, connection: OnceCell::new(), prefix: config.prefix.clone() })
    }

    /// The connection.
    ///
    /// # Errors
    /// If there is no connection.
    pub async fn connection(&self) -> redis::RedisResult<ConnectionManager> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(Duration::from_secs(1)))
            .set_response_timeout(Some(Duration::from_secs(1)))
            .set_number_of_retries(1);
        let connect = || async { self.client.get_connection_manager_with_config(config).await };
        self.connection.get_or_try_init(connect).await.cloned()
    }

    /// The full key for this name.
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}
