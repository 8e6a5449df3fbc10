//! The format of a key: `spw_`, 40 random letters and digits, and a checksum of 6. With the prefix, scanners find
//! leaked keys; the checksum distinguishes a key from a similar text.

/// The prefix of every key.
const PREFIX: &str = "spw_";
const RANDOM: usize = 40;
const CHECKSUM: usize = 6;
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A new key. `random` gives a random byte each time; the key has 238 bits of them.
pub fn generate(mut random: impl FnMut() -> u8) -> String {
    let mut key = PREFIX.to_owned();
    while key.len() < PREFIX.len() + RANDOM {
        // Bytes that would make some letters more likely than others are skipped.
        let byte = usize::from(random());
        if byte < LETTERS.len() * 4 {
            key.push(char::from(LETTERS[byte % LETTERS.len()]));
        }
    }
    let checksum = checksum(&key);
    key + &checksum
}

/// Whether a text is one of our keys: prefix, length, letters and checksum.
pub fn is_key(text: &str) -> bool {
    text.len() == PREFIX.len() + RANDOM + CHECKSUM
        && text.starts_with(PREFIX)
        && text.bytes().skip(PREFIX.len()).all(|byte| byte.is_ascii_alphanumeric())
        && text.split_at(PREFIX.len() + RANDOM).1 == checksum(&text[..PREFIX.len() + RANDOM])
}

/// The part of a key that may be shown: its beginning and its last four characters.
pub fn hint(key: &str) -> String {
    let beginning: String = key.chars().take(PREFIX.len() + 4).collect();
    let end: Vec<char> = key.chars().rev().take(4).collect();
    format!("{beginning}…{}", end.into_iter().rev().collect::<String>())
}

/// A text with each key in it replaced. What has a key's beginning and is nearly as long counts as one, too: somebody may have
/// mistyped or cut it.
pub fn masked(text: &str) -> String {
    const NEARLY: usize = 20;
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(PREFIX) {
        let (before, key) = rest.split_at(at);
        let own = &key[PREFIX.len()..];
        let own = own.find(PREFIX).map_or(own, |next| &own[..next]);
        let letters = own.bytes().take_while(u8::is_ascii_alphanumeric).count();
        let (key, after) = key.split_at(PREFIX.len() + letters);
        masked += before;
        masked += if letters >= NEARLY { "(a key)" } else { key };
        rest = after;
    }
    masked + rest
}

fn checksum(text: &str) -> String {
    let mut left = usize::try_from(crc32fast::hash(text.as_bytes())).unwrap_or(0);
    let mut digits = [b'0'; CHECKSUM];
    for digit in digits.iter_mut().rev() {
        *digit = LETTERS[left % LETTERS.len()];
        left /= LETTERS.len();
    }
    digits.iter().map(|byte| char::from(*byte)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_a_text_are_masked_and_hints_stay() {
        let key = generate(|| 7);
        let hint = hint(&key);
        let text = format!("'{key}', {} and {hint}; spw_short spw_", &key[..40]);
        assert_eq!(masked(&text), format!("'(a key)', (a key) and {hint}; spw_short spw_"));
        assert_eq!(masked("nothing of it"), "nothing of it");
        assert_eq!(masked(&format!("{key}{key}spw_ä")), "(a key)(a key)spw_ä");
    }

    #[test]
    fn keys_are_told_from_words() {
        let mut next = 0_u8;
        let key = generate(|| {
            next = next.wrapping_mul(167).wrapping_add(13);
            next
        });
        assert!(is_key(&key) && key.len() == 50, "{key}");
        let mut broken = key.clone().into_bytes();
        broken[10] = if broken[10] == b'a' { b'b' } else { b'a' };
        assert!(!is_key(std::str::from_utf8(&broken).unwrap()));
        for other in ["", "spw_", &key[1..], &format!("{key}x"), &key.replace("spw_", "sk-_")] {
            assert!(!is_key(other), "{other}");
        }
        let hint = hint(&key);
        assert!(hint.starts_with("spw_") && hint.chars().count() == 13 && key.ends_with(&hint[hint.len() - 4..]), "{hint}");
    }
}
