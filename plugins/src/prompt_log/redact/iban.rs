//! International bank account numbers: a country, the length for that country, and a checksum.

use std::ops::Range;

use super::bytes::{blank, ends_word, starts_word};

/// The account number whose check digits begin some digits in a row.
pub fn at(bytes: &[u8], number: &Range<usize>) -> Option<Range<usize>> {
    // Two letters, and two digits or more.
    let start = number.start.checked_sub(2).filter(|_| number.len() > 1)?;
    let len = starts_word(bytes, start).then(|| country_len(bytes[start], bytes[start + 1]))??;
    iban_end(bytes, start, len).map(|end| start..end)
}

/// The end of the number of `len` letters and digits that begins at `start`, if its checksum is correct.
fn iban_end(bytes: &[u8], start: usize, len: usize) -> Option<usize> {
    let mut characters = [0_u8; 34];
    let characters = characters.get_mut(..len)?;
    let mut at = start;
    for (place, character) in characters.iter_mut().enumerate() {
        if place > 0 && !bytes.get(at)?.is_ascii_alphanumeric() {
            at += if bytes[at] == b'-' { 1 } else { blank(bytes, at) };
        }
        *character = bytes.get(at).copied().filter(u8::is_ascii_alphanumeric)?;
        at += 1;
    }
    (ends_word(bytes, at) && remainder(characters) == 1).then_some(at)
}

/// The number modulo 97, its first four characters moved to its end and its letters counted from 10.
fn remainder(characters: &[u8]) -> u32 {
    let (head, tail) = characters.split_at(4);
    tail.iter().chain(head).fold(0, |rest, character| match character {
        b'0'..=b'9' => (rest * 10 + u32::from(character - b'0')) % 97,
        letter => (rest * 100 + u32::from(letter.to_ascii_uppercase() - b'A') + 10) % 97,
    })
}

/// The length of a country's numbers (from the SWIFT registry, and of countries that use the form without being in it).
fn country_len(first: u8, second: u8) -> Option<usize> {
    Some(match &[first.to_ascii_uppercase(), second.to_ascii_uppercase()] {
        b"NO" => 15,
        b"BE" => 16,
        b"DK" | b"FK" | b"FI" | b"FO" | b"GL" | b"NL" | b"SD" => 18,
        b"MK" | b"SI" => 19,
        b"AT" | b"BA" | b"EE" | b"KZ" | b"LT" | b"LU" | b"MN" | b"XK" => 20,
        b"CH" | b"HR" | b"LI" | b"LV" => 21,
        b"BG" | b"BH" | b"CR" | b"DE" | b"GB" | b"GE" | b"IE" | b"ME" | b"RS" | b"VA" => 22,
        b"AE" | b"GI" | b"IL" | b"IQ" | b"OM" | b"SO" | b"TL" => 23,
        b"AD" | b"CZ" | b"ES" | b"MD" | b"PK" | b"RO" | b"SA" | b"SE" | b"SK" | b"TN" | b"VG" => 24,
        b"AO" | b"CV" | b"GW" | b"LY" | b"MZ" | b"PT" | b"ST" => 25,
        b"DZ" | b"IR" | b"IS" | b"TR" => 26,
        b"BI" | b"CF" | b"CG" | b"CM" | b"DJ" | b"FR" | b"GA" | b"GQ" | b"GR" | b"IT" | b"KM" | b"MC" | b"MG" | b"MR" | b"SM" | b"TD" => 27,
        b"AL" | b"AZ" | b"BF" | b"BJ" | b"BY" | b"CI" | b"CY" | b"DO" | b"GT" | b"HN" | b"HU" | b"LB" | b"MA" | b"ML" | b"NE" | b"NI"
        | b"PL" | b"SN" | b"SV" | b"TG" => 28,
        b"BR" | b"EG" | b"PS" | b"QA" | b"UA" => 29,
        b"JO" | b"KW" | b"MU" | b"YE" => 30,
        b"MT" | b"SC" => 31,
        b"LC" => 32,
        b"RU" => 33,
        _ => return None,
    })
}
