//! Names of members that the gateway uses, and names that some other reader would take for them.
//!
//! JSON readers differ: some use the first of two equal names, some the last; those of Go and .NET ignore case, some
//! also ignore separators. So a name that the gateway uses may occur at most once in its object, and exactly as written
//! here; every similar name is refused.

use std::collections::HashSet;

use crate::fnv::fnv1a;

/// Longest name in a table.
const LONGEST: usize = 32;

/// A table of names that the gateway uses; at most 128, of lower-case letters, digits and `_`.
#[derive(Debug)]
pub struct Names {
    words: &'static [&'static str],
    /// The words of each length, one bit for each.
    by_length: [u128; LONGEST + 1],
    /// The words of each length without separators.
    by_letters: [u128; LONGEST + 1],
}

/// What a name means to a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// The word with this number.
    Word(usize),
    /// Not the word with this number, but some reader would take it for that word.
    Like(usize),
    /// A name that is not used.
    Other,
}

impl Names {
    /// The table of these words.
    pub const fn new(words: &'static [&'static str]) -> Self {
        assert!(words.len() <= 128);
        let (mut by_length, mut by_letters) = ([0; LONGEST + 1], [0; LONGEST + 1]);
        let mut index = 0;
        while index < words.len() {
            let bytes = words[index].as_bytes();
            let (mut at, mut letters) = (0, 0);
            while at < bytes.len() {
                letters += (bytes[at] != b'_') as usize;
                at += 1;
            }
            by_length[bytes.len()] |= 1 << index;
            by_letters[letters] |= 1 << index;
            index += 1;
        }
        Names { words, by_length, by_letters }
    }

    /// The word with a number.
    pub fn word(&self, index: usize) -> &'static str {
        self.words.get(index).copied().unwrap_or_default()
    }

    /// Looks up a decoded name.
    pub fn look_up(&self, name: &[u8]) -> Known {
        let first = name.first().copied().unwrap_or_default();
        let same_length = self.by_length.get(name.len()).copied().unwrap_or_default();
        let is_word = |index: &usize| {
            let word = self.words[*index].as_bytes();
            word.first() == Some(&first) && word == name
        };
        if let Some(index) = bits(same_length).find(is_word) {
            return Known::Word(index);
        }
        let (mut letters, mut count) = ([0; LONGEST], 0);
        for letter in folded(name) {
            let Some(place) = letters.get_mut(count) else { return Known::Other };
            *place = letter;
            count += 1;
        }
        let letters = &letters[..count];
        let is_alike = |index: &usize| self.words[*index].bytes().filter(|byte| *byte != b'_').eq(letters.iter().copied());
        bits(self.by_letters[count]).find(is_alike).map_or(Known::Other, Known::Like)
    }
}

/// The positions of the bits that are set.
fn bits(mut mask: u128) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let index = (mask != 0).then(|| mask.trailing_zeros() as usize)?;
        mask &= mask - 1;
        Some(index)
    })
}

/// The letters of a name as the most lenient reader compares them: without `_` and `-`, in lower case, with the few
/// letters of other alphabets whose lower or upper case is an ASCII letter.
fn folded(name: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = name;
    std::iter::from_fn(move || {
        loop {
            let (letter, after) = match rest {
                [] => return None,
                [b'_' | b'-', after @ ..] => {
                    rest = after;
                    continue;
                }
                // ſ, K (the Kelvin sign), İ and ı.
                [0xC5, 0xBF, after @ ..] => (b's', after),
                [0xE2, 0x84, 0xAA, after @ ..] => (b'k', after),
                [0xC4, 0xB0 | 0xB1, after @ ..] => (b'i', after),
                [byte, after @ ..] => (byte.to_ascii_lowercase(), after),
            };
            rest = after;
            return Some(letter);
        }
    })
}

/// Equal for names that a lenient reader considers equal (FNV-1a of their letters).
fn letters_hash(name: &[u8]) -> u64 {
    fnv1a(folded(name))
}

/// What two readers could read in different ways.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguity {
    /// A name that the gateway uses occurs twice in its object.
    #[error("'{name}' is given more than once")]
    Twice {
        /// The name.
        name: &'static str,
    },
    /// Another name of the top level occurs twice, perhaps in different case.
    #[error("a member of the body is given more than once (byte {at})")]
    OtherTwice {
        /// Position of the second one.
        at: usize,
    },
    /// A name that could be taken for one that the gateway uses.
    #[error("the name at byte {at} could be read as '{name}'; write exactly '{name}'")]
    Alike {
        /// The name that the gateway uses.
        name: &'static str,
        /// Position of the other name.
        at: usize,
    },
    /// More models are named than any real request has.
    #[error("more than {most} models are named")]
    Models {
        /// The most.
        most: usize,
    },
    /// A name with half a surrogate pair, which readers decode differently.
    #[error("the name at byte {at} is not valid: it has half a surrogate pair")]
    HalfPair {
        /// Its position.
        at: usize,
    },
}

/// Which names of a text the gateway uses.
#[derive(Debug)]
pub struct Scope {
    /// Those of the top level. There no name at all may occur twice.
    pub top: Names,
    /// Those of all inner objects.
    pub deeper: Names,
    /// Whether a member's value is the caller's own, with names that only the caller understands, such as the
    /// properties of a schema: nothing in it is checked. The arguments are the member's decoded name, and whether its
    /// value is an object.
    pub apart: fn(&[u8], bool) -> bool,
    /// Whether the names directly in a member's object are free, but not those further inside.
    pub free: fn(&[u8]) -> bool,
}

/// Names of members that contain names of stored objects, at any depth.
pub(crate) const STORED: [&str; 10] = [
    "file_id",
    "file_ids",
    "vector_store_id",
    "vector_store_ids",
    "container",
    "container_id",
    "skill_id",
    "previous_message_id",
    "comparison_response_id",
    "tunnel_id",
];

/// Several lists as one of `N` words.
pub(crate) const fn joined<const N: usize>(lists: &[&[&'static str]]) -> [&'static str; N] {
    let (mut all, mut list, mut count) = ([""; N], 0, 0);
    while list < lists.len() {
        let mut at = 0;
        while at < lists[list].len() {
            all[count] = lists[list][at];
            (at, count) = (at + 1, count + 1);
        }
        list += 1;
    }
    assert!(count == N);
    all
}

const REQUEST_DEEPER: [&str; 27] = joined(&[
    &["type", "role", "content", "text", "id", "model", "file", "encrypted_content", "skills", "audio", "source"],
    &["previous_response_id", "response_id", "conversation", "include_usage", "tools", "definition"],
    &STORED,
]);

const SOCKET_DEEPER: [&str; 18] =
    joined(&[&["type", "id", "model", "audio", "input", "transcription", "input_audio_transcription", "tools"], &STORED]);

/// The names in a request body. To use a further name, add it here: the first pass over a body
/// ([`crate::request::read_fields`]) then checks it at every depth, and later passes need not.
pub static REQUEST: Scope = Scope {
    top: Names::new(&[
        "model",
        "messages",
        "stream",
        "input",
        "stream_options",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "temperature",
        "tools",
        "tool_choice",
        "instructions",
        "system",
        "prompt",
        "n",
        "best_of",
        "store",
        "background",
        "previous_response_id",
        "conversation",
        "input_file_id",
        "items",
        "container",
        "service_tier",
        "user",
        "metadata",
        "prompt_cache_key",
        "prompt_cache_retention",
        "safety_identifier",
        "models",
        "fallbacks",
        "context_window_fallbacks",
        "content_policy_fallbacks",
        "top_p",
        "top_k",
        "seed",
        "stop",
        "presence_penalty",
        "frequency_penalty",
        "logprobs",
        "top_logprobs",
        "logit_bias",
        "response_format",
        "text",
        "reasoning",
        "reasoning_effort",
        "thinking",
        "modalities",
        "audio",
        "include",
        "functions",
        "function_call",
        "parallel_tool_calls",
        "truncation",
        "context_management",
        "web_search_options",
        "data_sources",
        "mcp_servers",
        "documents",
        "chat_template",
        "suffix",
        "voice",
        "speed",
        "size",
        "quality",
        "dimensions",
        "encoding_format",
        "endpoint",
        "session",
        "session_id",
        "thread",
        "diagnostics",
    ]),
    deeper: Names::new(&REQUEST_DEEPER),
    apart: |name, is_object| match name {
        // Arguments of a tool's call; a request's own input is not an object.
        b"input" | b"arguments" => is_object,
        b"parameters" | b"schema" | b"input_schema" | b"output_schema" | b"input_examples" | b"guided_json" | b"structured_outputs" => true,
        b"documents" | b"metadata" | b"annotations" | b"headers" | b"env" | b"logit_bias" => true,
        b"chat_template_kwargs" | b"mm_processor_kwargs" | b"vllm_xargs" => true,
        _ => false,
    },
    // Of a stored prompt: the caller chooses the names, and the values may be files.
    free: |name| name == b"variables",
};

/// The names in a caller's message on a realtime socket. See [`crate::realtime`].
pub static SOCKET: Scope = Scope {
    top: Names::new(&["type", "model", "session", "response", "item", "audio"]),
    deeper: Names::new(&SOCKET_DEEPER),
    apart: |name, is_object| match name {
        // Audio is configured in an object of this name.
        b"input" => false,
        _ => (REQUEST.apart)(name, is_object),
    },
    free: |name| (REQUEST.free)(name),
};

/// The names of a text so far.
#[derive(Debug, Default)]
pub(crate) struct Others(HashSet<u64>);

impl Others {
    /// Whether a name of the top level that isn't used is new.
    pub(crate) fn is_new(&mut self, name: &[u8]) -> bool {
        self.0.insert(letters_hash(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_known_exactly_or_come_near() {
        let top = |name: &str| match REQUEST.top.look_up(name.as_bytes()) {
            Known::Word(index) => (true, REQUEST.top.word(index)),
            Known::Like(index) => (false, REQUEST.top.word(index)),
            Known::Other => (false, ""),
        };
        assert_eq!(top("max_tokens"), (true, "max_tokens"));
        for (name, like) in [
            ("Model", "model"),
            ("MODEL", "model"),
            ("maxTokens", "max_tokens"),
            ("max-tokens", "max_tokens"),
            ("__stream", "stream"),
            ("Previous_Response_Id", "previous_response_id"),
            ("\u{17f}tream", "stream"),
            ("max_to\u{212a}ens", "max_tokens"),
            ("\u{130}nput", "input"),
            ("N", "n"),
        ] {
            assert_eq!(top(name), (false, like), "{name}");
        }
        for other in ["", "_", "models_", "x_model", "model ", "\u{ff4d}odel", &"m".repeat(10_000)] {
            assert!(matches!(top(other), (false, "" | "models")), "{other}");
        }
    }

    proptest! {
        #[test]
        fn whatever_a_lenient_reader_takes_for_a_word_is_known(index in 0..REQUEST.top.words.len(), mask in any::<u32>(), dashes in any::<u32>()) {
            let word = REQUEST.top.word(index);
            let name: String = word.chars().enumerate().flat_map(|(at, letter)| {
                let letter = if mask >> (at % 32) & 1 == 1 { letter.to_ascii_uppercase() } else { letter };
                let dash = (dashes >> (at % 32) & 1 == 1).then_some('-');
                dash.into_iter().chain(Some(letter))
            }).collect();
            let expected = if name == word { Known::Word(index) } else { Known::Like(index) };
            prop_assert_eq!(REQUEST.top.look_up(name.as_bytes()), expected);
            prop_assert_eq!(letters_hash(name.as_bytes()), letters_hash(word.as_bytes()));
        }
    }
}
