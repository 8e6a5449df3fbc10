//! Those that send every call to the PTU, and one that knows which it refuses.

use super::{Asking, Controller, Way};
use crate::call::Call;

/// Azure's own spillover: the PTU is always asked first.
pub struct Native;

impl Controller for Native {
    fn ask(&mut self, _: usize, _: &Call, _: &Asking) -> Way {
        Way::Ptu
    }
}

/// First come, first served, without a refusal.
pub struct Clairvoyant;

impl Controller for Clairvoyant {
    fn ask(&mut self, _: usize, _: &Call, asking: &Asking) -> Way {
        if asking.full { Way::Elsewhere } else { Way::Ptu }
    }
}
