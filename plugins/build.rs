//! Writes the tokens of the tokenizers, one after the other, each with its length before it. The gateway makes its tables of them
//! when it needs them: the tables are thirty times as large, and hardly compress.

use std::error::Error;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    for (name, tokenizer) in [("cl100k_base", bpe_openai::cl100k_base()), ("o200k_base", bpe_openai::o200k_base())] {
        let mut tokens = Vec::new();
        for id in 0..u32::try_from(tokenizer.bpe.num_tokens())? {
            let token = tokenizer.bpe.token_bytes(id);
            tokens.push(u8::try_from(token.len())?);
            tokens.extend_from_slice(token);
        }
        std::fs::write(folder.join(name), tokens)?;
    }
    println!("cargo::rerun-if-changed=build.rs");
    Ok(())
}
