//! Payment card numbers: an issuer's prefix, a length that it uses and a check digit (Luhn).

use std::ops::Range;

use super::bytes::{before, blank, digit_at, ends_word, in_uuid, starts_word};

const LONGEST: usize = 19;

/// The card number that begins with some digits in a row.
pub fn at(bytes: &[u8], number: &Range<usize>) -> Option<Range<usize>> {
    // No issuer's numbers begin with another digit.
    let begins = matches!(bytes[number.start], b'2'..=b'6') && starts_number(bytes, number.start);
    begins.then(|| card_end(bytes, number.start))?.map(|end| number.start..end)
}

/// Whether it is the first digit of a number, and not of decimals.
fn starts_number(bytes: &[u8], at: usize) -> bool {
    starts_word(bytes, at) && !(before(bytes, at) == Some(b'.') && at >= 2 && bytes[at - 2].is_ascii_digit())
}

/// The end of the longest card number that begins at `start`. All of its groups except the last have four digits or
/// more, with the same separator between them: a sequence of small numbers is not a card number.
fn card_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut digits = [0_u8; LONGEST];
    let (mut len, mut at, mut best) = (0, start, None);
    let mut separator: Option<&[u8]> = None;
    let (mut groups, mut broken) = (0, false);
    loop {
        let group = len;
        groups += 1;
        while digit_at(bytes, at) {
            *digits.get_mut(len)? = bytes[at] - b'0';
            len += 1;
            at += 1;
            // Too long for a card, but a shorter one may have been found before this group.
            if len == LONGEST && digit_at(bytes, at) {
                return best;
            }
        }
        let decimals = bytes.get(at) == Some(&b'.') && digit_at(bytes, at + 1);
        // Two numbers with a dot or `_` between them are decimals, or a name.
        let parted = groups > 2 || !matches!(separator, Some(b"." | b"_"));
        if parted && is_card(&digits[..len]) && ends_word(bytes, at) && !decimals && !in_uuid(bytes, start, at) {
            best = Some(at);
        }
        let gap = match bytes.get(at) {
            Some(b'-' | b'.' | b'_') => 1,
            // A number is broken at the end of a line, a column of numbers isn't one number.
            Some(b'\n') if separator.is_some() && !broken => {
                broken = true;
                at += 1;
                0
            }
            _ => blank(bytes, at),
        };
        if gap == 0 && broken && before(bytes, at) == Some(b'\n') && len - group >= 4 && len < LONGEST && digit_at(bytes, at) {
            continue;
        }
        let gap = &bytes[at.min(bytes.len())..at + gap];
        if len - group < 4 || len == LONGEST || gap.is_empty() || *separator.get_or_insert(gap) != gap || !digit_at(bytes, at + gap.len()) {
            return best;
        }
        at += gap.len();
    }
}

fn is_card(digits: &[u8]) -> bool {
    digits.len() >= 13 && is_issued(digits) && luhn(digits)
}

/// Whether an issuer has numbers with this beginning and length.
fn is_issued(digits: &[u8]) -> bool {
    let beginning = digits.iter().take(4).fold(0, |number, digit| number * 10 + u32::from(*digit));
    match (beginning, digits.len()) {
        // Visa
        (4000..=4999, 13 | 16 | 19) => true,
        // Mastercard
        (5100..=5599 | 2221..=2720, 16) => true,
        // American Express
        (3400..=3499 | 3700..=3799, 15) => true,
        // Diners Club
        (3000..=3059 | 3095 | 3600..=3699 | 3800..=3999, 14..) => true,
        // JCB
        (3528..=3589, 16..) => true,
        // Discover, UnionPay
        (6011 | 6440..=6599 | 6200..=6299, 16..) => true,
        // Maestro
        (5000..=5099 | 5600..=5899 | 6300..=6399 | 6700..=6799, _) => true,
        _ => false,
    }
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match u32::from(*digit) {
            digit if place % 2 == 0 => digit,
            digit => digit * 2 / 10 + digit * 2 % 10,
        })
        .sum();
    sum.is_multiple_of(10)
}
