//! What is imported is TOML, or a reason why nothing was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spillway::import::{Source, import};

fuzz_target!(|input: &[u8]| {
    let Some((kind, text)) = input.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    let (_, source) = Source::NAMES[usize::from(*kind) % Source::NAMES.len()];
    match import(source, &[("input", text)]) {
        Ok(imported) => {
            let read = toml::from_str::<toml::Table>(&imported.toml);
            assert!(read.is_ok(), "{read:?}\n{}", imported.toml);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
