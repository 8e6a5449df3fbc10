//! The keys of the consumers in the configs that are measured.

/// The key of a consumer.
pub fn key(number: usize) -> String {
    format!("key-{number:08}")
}
