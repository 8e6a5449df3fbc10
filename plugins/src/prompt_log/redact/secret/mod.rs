//! Keys, tokens and passwords: found by their form ([`shape`]), by the name that they are assigned to ([`assigned`]),
//! by the tag or option that holds them ([`marked`]),
//! or by the block or URL that contains them ([`block`]).

mod assigned;
mod block;
mod marked;
mod shape;

use std::ops::Range;

pub use shape::Shapes;

impl Shapes {
    /// Calls `hit` with the range of each secret.
    pub fn find(&self, text: &str, hit: &mut dyn FnMut(Range<usize>)) {
        self.tokens(text, hit);
        assigned::find(text.as_bytes(), hit);
        // Finding one byte, or none, takes less than to begin a search for several.
        if memchr::memchr(b'-', text.as_bytes()).is_some() {
            block::private_keys(text.as_bytes(), hit);
            marked::options(text.as_bytes(), hit);
        }
        if memchr::memchr(b'<', text.as_bytes()).is_some() {
            marked::elements(text.as_bytes(), hit);
        }
        if memchr::memchr(b':', text.as_bytes()).is_some() {
            block::url_passwords(text.as_bytes(), hit);
        }
    }
}
