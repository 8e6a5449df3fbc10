//! A socket's turns and their usage don't depend on how its bytes are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spillway_fuzz::{cuts, pieces};
use spillway_plugins::tokens::SocketTap;

fn turns(pieces: &[&[u8]]) -> Vec<String> {
    let (mut tap, mut turns) = (SocketTap::default(), Vec::new());
    pieces.iter().for_each(|piece| tap.push(piece, |turn| turns.push(format!("{turn:?}"))));
    turns
}

fuzz_target!(|input: &[u8]| {
    let Some((cuts, frames)) = cuts(input) else { return };
    assert_eq!(turns(&[frames]), turns(&pieces(frames, cuts)));
});
