//! The tokenizers of OpenAI's models, as values: what one takes, tens of megabytes, is given back when it is dropped.

use bpe_openai::byte_pair_encoding::BytePairEncoding;

/// A family of tokenizers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// GPT-3.5, GPT-4 and the embeddings.
    Cl100k,
    /// GPT-4o and everything since.
    O200k,
}

impl Encoding {
    /// All of them, in order of declaration.
    pub const ALL: [Encoding; 2] = [Encoding::Cl100k, Encoding::O200k];

    /// The family of a model; unknown names count as new models.
    pub fn of(model: &str) -> Encoding {
        let model = model.strip_prefix("ft:").unwrap_or(model);
        let newer = ["gpt-4o", "gpt-4.1", "gpt-4.5"].iter().any(|name| model.starts_with(name));
        let older = ["gpt-4", "gpt-3.5", "gpt-35", "text-embedding", "davinci", "babbage"].iter().any(|name| model.starts_with(name));
        if older && !newer { Encoding::Cl100k } else { Encoding::O200k }
    }
}

/// Why a tokenizer can't be loaded. Its tables are part of the program, so a test would find it.
#[derive(Debug, thiserror::Error)]
#[error("the tables of the tokenizer can't be read")]
pub struct Unloadable;

/// How texts are split before they are encoded: the rules of `tiktoken_ext/openai_public.py`. A negative look-ahead is
/// written as a pattern whose last character is not part of the match (`true`), as `bpe-openai` does.
const CL100K: [(&str, bool); 3] = [
    ("(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+$", false),
    ("\\s+\\s", true),
    ("\\s+", false),
];
const O200K: [(&str, bool); 3] = [
    (
        concat!(
            "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
            "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
            "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+$",
        ),
        false,
    ),
    ("\\s+\\s", true),
    ("\\s+", false),
];

/// With this factor no two tokens of either family have the same hash: `bpe-openai`'s build script has it.
const HASH_FACTOR: u64 = 17_846_336_922_010_275_747;

/// The tokens that the build script wrote.
fn split(mut tokens: &[u8]) -> Result<Vec<Vec<u8>>, Unloadable> {
    let mut all = Vec::new();
    while let Some((length, rest)) = tokens.split_first() {
        let (token, rest) = rest.split_at_checked(usize::from(*length)).ok_or(Unloadable)?;
        all.push(token.to_vec());
        tokens = rest;
    }
    Ok(all)
}

/// A loaded tokenizer.
pub struct Tokenizer(bpe_openai::Tokenizer);

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokenizer")
    }
}

impl Tokenizer {
    /// Makes a tokenizer's tables of its tokens, which takes a processor one or two seconds.
    ///
    /// # Errors
    /// [`Unloadable`]
    pub fn load(encoding: Encoding) -> Result<Self, Unloadable> {
        let (tokens, patterns): (&[u8], _) = match encoding {
            Encoding::Cl100k => (include_bytes!(concat!(env!("OUT_DIR"), "/cl100k_base")), &CL100K),
            Encoding::O200k => (include_bytes!(concat!(env!("OUT_DIR"), "/o200k_base")), &O200K),
        };
        let pairs = BytePairEncoding::from_dictionary(split(tokens)?, Some(HASH_FACTOR));
        bpe_openai::Tokenizer::new_lookahead(pairs, patterns, false).map(Tokenizer).map_err(|_| Unloadable)
    }

    /// The number of tokens of a text; special tokens in it count as plain text.
    pub fn count(&self, text: &str) -> u64 {
        self.0.count(text) as u64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::tokens::tests::{CL100K, O200K};

    proptest! {
        #[test]
        fn they_count_as_the_crate_that_they_are_from_counts(text in "\\PC{0,60}|[a-zA-Z' \r\n\t0-9/]{0,80}") {
            prop_assert_eq!(O200K.count(&text), bpe_openai::o200k_base().count(text.as_str()) as u64);
            prop_assert_eq!(CL100K.count(&text), bpe_openai::cl100k_base().count(text.as_str()) as u64);
        }
    }
}
