//! Numbers in one notation: `1,000`, `1'000` and `١٠٠٠` are `1000`.

/// The digit zero of each script with digits of its own.
const ZEROS: [u32; 16] = [0x30, 0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xe50, 0x1040, 0xff10];

/// A digit as ASCII; any other character unchanged.
pub(super) fn ascii(one: char) -> char {
    let digit = ZEROS.iter().find_map(|zero| (one as u32).checked_sub(*zero).filter(|digit| *digit < 10));
    digit.and_then(|digit| char::from_digit(digit, 10)).unwrap_or(one)
}

/// A number without its separators. What could be read in two ways (`1.000`) or isn't a number (`1.2.3`, `10:30`) stays
/// unchanged.
pub(super) fn plain(text: &str) -> String {
    let text: String = text.chars().map(|one| if matches!(one, '’' | '\u{a0}' | '\u{202f}' | '\u{2009}') { '\'' } else { one }).collect();
    let separators: Vec<char> = text.chars().filter(|one| !one.is_ascii_digit()).collect();
    let (Some(first), Some(last)) = (separators.first().copied(), separators.last().copied()) else { return text };
    if !separators.iter().all(|one| matches!(one, ',' | '.' | '\'')) {
        return text;
    }
    let groups: Vec<&str> = text.split(|one: char| !one.is_ascii_digit()).collect();
    let grouped = |groups: &[&str]| {
        groups.iter().skip(1).all(|group| group.len() == 3) && groups.first().is_some_and(|group| (1..=3).contains(&group.len()))
    };
    let alike = separators.iter().all(|one| *one == first);
    match groups.split_last() {
        Some((_, _)) if alike && grouped(&groups) && (separators.len() > 1 || first != '.') => groups.concat(),
        // A decimal comma.
        Some((fraction, [whole])) if first == ',' => format!("{whole}.{fraction}"),
        // Groups, and a fraction after another separator.
        Some((fraction, whole))
            if separators.iter().filter(|one| **one == last).count() == 1 && last != '\'' && grouped(whole) && whole.len() > 1 =>
        {
            format!("{}.{fraction}", whole.concat())
        }
        _ => text,
    }
}

/// Numbers up to ninety, and powers of ten, as words.
pub(super) fn word(word: &str) -> Option<u64> {
    const WORDS: [(&str, u64); 30] = [
        ("zero null zéro cero", 0),
        ("one eins uno", 1),
        ("two zwei zwo deux dos", 2),
        ("three drei trois tres", 3),
        ("four vier quatre cuatro", 4),
        ("five fünf cinq cinco", 5),
        ("six sechs seis", 6),
        ("seven sieben sept siete", 7),
        ("eight acht huit ocho", 8),
        ("nine neun neuf nueve", 9),
        ("ten zehn dix diez", 10),
        ("eleven elf onze once", 11),
        ("twelve zwölf douze doce dozen dutzend douzaine docena", 12),
        ("thirteen dreizehn treize trece", 13),
        ("fourteen vierzehn quatorze catorce", 14),
        ("fifteen fünfzehn quinze quince", 15),
        ("sixteen sechzehn seize dieciséis", 16),
        ("seventeen siebzehn diecisiete", 17),
        ("eighteen achtzehn dieciocho", 18),
        ("nineteen neunzehn diecinueve", 19),
        ("twenty zwanzig vingt veinte", 20),
        ("thirty dreißig dreissig trente treinta", 30),
        ("forty vierzig quarante cuarenta", 40),
        ("fifty fünfzig cinquante cincuenta", 50),
        ("sixty sechzig soixante sesenta", 60),
        ("seventy siebzig setenta", 70),
        ("eighty achtzig ochenta", 80),
        ("ninety neunzig noventa", 90),
        ("hundred hundreds hundert cent cents cien ciento", 100),
        ("thousand thousands tausend mille mil", 1000),
    ];
    const LARGE: [(&str, u64); 2] = [
        ("million millions millionen millón millones", 1_000_000),
        ("billion billions milliarde milliarden milliard milliards", 1_000_000_000),
    ];
    WORDS.iter().chain(&LARGE).find(|(words, _)| words.split(' ').any(|one| one == word)).map(|(_, value)| *value)
}

/// Numbers in one word that are not parsed: `zweihundert`, `einundzwanzig`, `veintiuno`.
pub(super) fn is_compound(word: &str) -> bool {
    ["hundert", "tausend", "million", "cientos", "cientas"].iter().any(|part| word.contains(part))
        || (word.contains("und") && (word.ends_with("zig") || word.ends_with("ßig")))
        || word.starts_with("veinti")
}

/// Joins a number in words with the ones before it: two hundred fifty is 250.
pub(super) fn join(before: u64, next: u64) -> Option<u64> {
    if next >= 100 && before > 0 && before < next {
        return before.checked_mul(next);
    }
    let room = [1_000_000_000, 1_000_000, 1000, 100, 10].into_iter().find(|step| before > 0 && before.is_multiple_of(*step))?;
    (next > 0 && next < room).then(|| before.checked_add(next)).flatten()
}
