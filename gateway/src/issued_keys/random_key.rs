//! Random numbers for keys and their ids, from the system.

use ring::rand::{SecureRandom as _, SystemRandom};
use spillway_plugins::auth::key_text;

/// The system has no source of random numbers, or a broken one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the system has no source of random numbers")]
pub struct NoRandomNumbers;

/// A new key.
///
/// # Errors
/// If the system has no random numbers.
pub fn random_key() -> Result<String, NoRandomNumbers> {
    let mut bytes = [0; 256];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomNumbers)?;
    let mut next = bytes.iter();
    let mut short = false;
    let key = key_text::generate(|| {
        next.next().copied().unwrap_or_else(|| {
            short = true;
            0
        })
    });
    // The key needs 40 of these 256 bytes, and one in 32 is skipped: only a broken generator runs short.
    if short { Err(NoRandomNumbers) } else { Ok(key) }
}

/// A new id: `key-` and 16 hexadecimal digits.
///
/// # Errors
/// If the system has no random numbers.
pub fn random_id() -> Result<String, NoRandomNumbers> {
    let mut bytes = [0; 8];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomNumbers)?;
    Ok(format!("key-{:016x}", u64::from_be_bytes(bytes)))
}
