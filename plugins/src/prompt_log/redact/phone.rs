//! Telephone numbers: international ones, national ones that begin with 0, and North American ones.
//!
//! A telephone number has no checksum, so only its form distinguishes it from a date, a time, a version, a price or an
//! id. Digits alone are a telephone number only after `+` or `0`.

use std::ops::Range;

use super::bytes::{at_is, before, blank, digit_at, ends_word, in_uuid, run, starts_word};

const FEWEST: usize = 7;
const MOST: usize = 15;
/// The longest national number, with its 0.
const MOST_NATIONAL: usize = 13;

/// The telephone number that begins with some digits in a row, or with a sign before them; what is before `done` belongs
/// to others.
pub fn at(bytes: &[u8], number: &Range<usize>, done: usize) -> Option<Range<usize>> {
    let sign = number.start.checked_sub(1).filter(|sign| *sign >= done && matches!(bytes[*sign], b'+' | b'('));
    sign.into_iter().chain([number.start]).find_map(|start| {
        let end = match bytes[start] {
            b'+' => international(bytes, start),
            b'(' => bracketed(bytes, start),
            b'0' if starts_number(bytes, start) => national(bytes, start),
            b'1'..=b'9' if starts_number(bytes, start) => north_american(bytes, start),
            _ => None,
        }?;
        (!in_uuid(bytes, start, end)).then_some(start..end)
    })
}

/// Digits in a row, and the separator before them.
struct Group {
    gap: Range<usize>,
    digits: Range<usize>,
}

/// Whether it is the first digit of a number, and not within a date, a version or an id.
fn starts_number(bytes: &[u8], at: usize) -> bool {
    let earlier = at.checked_sub(1).and_then(|at| before(bytes, at));
    starts_word(bytes, at)
        && match before(bytes, at) {
            Some(b'.' | b'/' | b':') => earlier.is_none_or(|byte| !byte.is_ascii_digit()),
            Some(b'-') => earlier.is_none_or(|byte| !byte.is_ascii_alphanumeric()),
            Some(b'_' | b'$') => false,
            _ => true,
        }
}

/// Where the digits after a separator begin: one character, ` - `, ` / ` or brackets.
fn after_gap(bytes: &[u8], mut at: usize, brackets: bool) -> Option<usize> {
    let mut last = None;
    for _ in 0..3 {
        let len = match bytes.get(at)? {
            b'-' | b'/' | b'.' => 1,
            b'(' | b')' if brackets => 1,
            // A non-breaking hyphen.
            0xe2 if bytes[at..].starts_with("\u{2011}".as_bytes()) => 3,
            _ => blank(bytes, at),
        };
        // A dot joins digits only if it is alone: otherwise a sentence ends.
        if len == 0 || last == Some(bytes[at]) || last == Some(b'.') || (bytes[at] == b'.' && last.is_some()) {
            return None;
        }
        last = Some(bytes[at]);
        at += len;
        if digit_at(bytes, at) {
            return Some(at);
        }
    }
    None
}

/// Groups of digits from `at`, `most` digits in all, with brackets only near the beginning.
fn groups(bytes: &[u8], at: usize, most: usize, brackets: bool) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let (mut gap, mut total) = (at..at, 0);
    loop {
        let end = bytes[gap.end..].iter().take(most + 1).take_while(|byte| byte.is_ascii_digit()).count() + gap.end;
        total += end - gap.end;
        if total > most || end == gap.end {
            return groups;
        }
        groups.push(Group { gap: gap.clone(), digits: gap.end..end });
        let Some(next) = after_gap(bytes, end, brackets && groups.len() < 3) else { return groups };
        gap = end..next;
    }
}

/// Removes groups at the end that belong to something else (a time, a unit); `None` if the whole is an id.
fn trim(bytes: &[u8], mut groups: Vec<Group>) -> Option<Vec<Group>> {
    while let Some(last) = groups.last() {
        let end = last.digits.end;
        let extension = at_is(bytes, end, |byte| byte == b'x') && digit_at(bytes, end + 1);
        let decimals = at_is(bytes, end, |byte| matches!(byte, b'.' | b':')) && digit_at(bytes, end + 1);
        if extension || (ends_word(bytes, end) && !decimals && !at_is(bytes, end, |byte| byte == b'_')) {
            return Some(groups);
        }
        if groups.len() == 1 || blank(bytes, last.gap.start) == 0 {
            return None;
        }
        groups.pop();
    }
    None
}

fn digits<'b>(bytes: &'b [u8], groups: &'b [Group]) -> impl Iterator<Item = u8> + 'b {
    groups.iter().flat_map(|group| bytes[group.digits.clone()].iter().copied())
}

fn count(groups: &[Group]) -> usize {
    groups.iter().map(|group| group.digits.len()).sum()
}

fn end(groups: &[Group]) -> Option<usize> {
    groups.last().map(|group| group.digits.end)
}

/// `+49 30 123456`, `+1 (415) 555-2671`
fn international(bytes: &[u8], plus: usize) -> Option<usize> {
    let sum = before(bytes, plus).is_some_and(|byte| byte == b')' || byte == b'+') || !starts_word(bytes, plus);
    if sum || !at_is(bytes, plus + 1, |byte| matches!(byte, b'1'..=b'9')) {
        return None;
    }
    let groups = trim(bytes, groups(bytes, plus + 1, MOST, true))?;
    // "+1 000 000 inhabitants"
    let thousands = groups.len() > 1
        && groups.iter().skip(1).all(|group| group.digits.len() == 3)
        && groups.last().is_some_and(|group| &bytes[group.digits.clone()] == b"000");
    if count(&groups) < FEWEST || thousands { None } else { end(&groups) }
}

/// `030/1234567`, `01 23 45 67 89`, `0049 30 123456`
fn national(bytes: &[u8], start: usize) -> Option<usize> {
    let foreign = digit_at(bytes, start + 1) && bytes[start + 1] == b'0';
    let groups = trim(bytes, groups(bytes, start, if foreign { MOST + 2 } else { MOST_NATIONAL }, foreign))?;
    let total = count(&groups);
    if foreign {
        let country = digits(bytes, &groups).nth(2).is_some_and(|digit| digit != b'0');
        return (country && total >= FEWEST + 2 && !is_other(bytes, &groups)).then(|| end(&groups))?;
    }
    // A single 0 begins an ISBN or a decimal; in one piece, a number with fewer digits is as likely a code.
    let fewest = if groups.len() == 1 { 9 } else { FEWEST };
    if total < fewest || groups.iter().any(|group| group.digits.len() < 2) || is_isbn(bytes, start) || is_other(bytes, &groups) {
        return None;
    }
    end(&groups)
}

/// Whether groups that begin with 0 are a date, opening hours, a count or a part of a larger number.
fn is_other(bytes: &[u8], groups: &[Group]) -> bool {
    let value = |at: usize| {
        let group = groups.get(at).filter(|group| group.digits.len() <= 4)?;
        Some(bytes[group.digits.clone()].iter().fold(0_u32, |value, digit| value * 10 + u32::from(digit - b'0')))
    };
    let len = |at: usize| groups.get(at).map_or(0, |group| group.digits.len());
    let gap = |at: usize| groups.get(at).map(|group| bytes[group.gap.start]);
    let all = |wanted: usize| groups.iter().all(|group| group.digits.len() == wanted);
    let alphabet = groups.len() == 1 && groups.first().is_some_and(|group| &bytes[group.digits.clone()] == b"0123456789");
    let day_and_month =
        len(0) == 2 && len(1) == 2 && matches!((value(0), value(1)), (Some(1..=12), Some(1..=31)) | (Some(1..=31), Some(1..=12)));
    let year = matches!(value(2), Some(1900..=2099)) || (len(2) == 2 && gap(1) == gap(2) && gap(1) != Some(b' ') && gap(3) != gap(2));
    let minutes = |at: usize| len(at) == 4 && value(at).is_some_and(|time| time <= 2400 && time % 100 < 60);
    let hours = groups.len() == 2 && gap(1) == Some(b'-') && minutes(0) && minutes(1);
    // 01 02 03 04
    let counted = all(2) && (1..groups.len()).all(|at| value(at) == value(at - 1).map(|value| value + 1));
    // 12 034 567
    let first = groups.first().map_or(0, |group| group.digits.start);
    let thousands = all(3) && before(bytes, first) == Some(b' ') && first >= 2 && bytes[first - 2].is_ascii_digit();
    // 3704 0044 0532
    let account =
        len(0) == 4 && len(1) == 4 && bytes[..first].ends_with(b" ") && bytes[..first].iter().rev().skip(1).take(4).all(u8::is_ascii_digit);
    alphabet || account || (day_and_month && year) || hours || (counted && groups.len() > 1) || thousands
}

/// `ISBN 0306406152`
fn is_isbn(bytes: &[u8], start: usize) -> bool {
    let window = &bytes[start.saturating_sub(9)..start];
    window.windows(4).any(|word| word.eq_ignore_ascii_case(b"isbn"))
}

/// `(030) 1234567`, `(415) 555-2671`, `(11) 91234-5678`
fn bracketed(bytes: &[u8], open: usize) -> Option<usize> {
    let close = run(bytes, open + 1, |byte| byte.is_ascii_digit());
    let area = &bytes[open + 1..close];
    if !(2..=6).contains(&area.len()) || !starts_word(bytes, open) || bytes.get(close) != Some(&b')') {
        return None;
    }
    let mut at = close + 1;
    at += if at_is(bytes, at, |byte| matches!(byte, b'-' | b'/')) { 1 } else { blank(bytes, at) };
    let groups = trim(bytes, groups(bytes, at, MOST_NATIONAL - area.len(), false))?;
    let lens: Vec<usize> = groups.iter().map(|group| group.digits.len()).collect();
    let fits = match (area, lens.as_slice()) {
        ([b'0', b'1'..=b'9', ..], _) => area.len() + count(&groups) >= FEWEST,
        ([b'2'..=b'9', _, _], [3, 4, ..] | [7]) | ([b'1'..=b'9', _], [4 | 5, 4]) => true,
        _ => false,
    };
    if fits { end(&groups) } else { None }
}

/// `415-555-2671`, `1.800.555.2671`
fn north_american(bytes: &[u8], start: usize) -> Option<usize> {
    let separator = |at: usize| bytes.get(at).copied().filter(|byte| matches!(byte, b'-' | b'.'));
    let trunk = if bytes[start] == b'1' && separator(start + 1).is_some() { 2 } else { 0 };
    let number = bytes.get(start + trunk..start + trunk + 12)?;
    let end = start + trunk + 12;
    let between = separator(start + trunk + 3)?;
    let shape = number.iter().enumerate().all(|(place, byte)| match place {
        3 | 7 => *byte == between,
        0 | 4 => matches!(byte, b'2'..=b'9'),
        _ => byte.is_ascii_digit(),
    });
    let longer = at_is(bytes, end, |byte| matches!(byte, b'-' | b'.')) && at_is(bytes, end + 1, |byte| byte.is_ascii_alphanumeric());
    let extension = at_is(bytes, end, |byte| byte == b'x') && digit_at(bytes, end + 1);
    (shape && !longer && (extension || ends_word(bytes, end))).then_some(end)
}
