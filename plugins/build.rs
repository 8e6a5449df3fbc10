//! Writes the tables of the tokenizers, so that the gateway can load them and give their memory back: `bpe-openai` itself
//! never gives them back.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    for (name, tokenizer) in [("cl100k_base", bpe_openai::cl100k_base()), ("o200k_base", bpe_openai::o200k_base())] {
        std::fs::write(folder.join(name), rmp_serde::to_vec(&tokenizer.bpe)?)?;
    }
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}
