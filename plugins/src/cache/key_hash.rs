//! Where a key is in a table of this process.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Hashes eight bytes of a key, which is a hash already. It is multiplied by a secret: whoever finds keys with some equal bits must not
/// thereby find keys for one place.
#[derive(Debug, Clone, Copy)]
pub struct KeyState {
    add: u64,
    times: u64,
}

impl Default for KeyState {
    fn default() -> Self {
        let random = || RandomState::new().build_hasher().finish();
        KeyState { add: random(), times: random() | 1 }
    }
}

impl BuildHasher for KeyState {
    type Hasher = KeyHasher;

    fn build_hasher(&self) -> KeyHasher {
        KeyHasher { state: *self, hash: 0 }
    }
}

/// The hasher of a [`KeyState`], for one number.
#[derive(Debug)]
pub struct KeyHasher {
    state: KeyState,
    hash: u64,
}

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(self.hash ^ u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let product = u128::from(number ^ self.state.add) * u128::from(self.state.times);
        self.hash = product as u64 ^ (product >> 64) as u64;
    }

    fn finish(&self) -> u64 {
        self.hash
    }
}
