//! Why a report can't be made.

/// Why a report can't be made, as text; empty if it was printed already.
pub(super) struct Failure(pub(super) String);

impl<E: ToString> From<E> for Failure {
    fn from(error: E) -> Self {
        Failure(error.to_string())
    }
}
