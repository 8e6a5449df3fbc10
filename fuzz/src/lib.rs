//! What the targets share.

/// Cuts `bytes` into pieces whose lengths `cuts` tells, over and over. Without cuts it stays whole.
pub fn pieces<'b>(bytes: &'b [u8], cuts: &[u8]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for cut in cuts.iter().cycle().take_while(|_| !cuts.is_empty()) {
        let (piece, after) = rest.split_at(rest.len().min(usize::from(*cut) + 1));
        pieces.push(piece);
        rest = after;
        if rest.is_empty() {
            return pieces;
        }
    }
    vec![bytes]
}

/// Takes the lengths of pieces off the front: one byte says how many there are.
pub fn cuts(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (count, rest) = input.split_first()?;
    let count = usize::from(count % 8);
    (rest.len() >= count).then(|| rest.split_at(count))
}

/// Reads `name: value` lines into a map; what can't stand in a head is left out.
pub fn headers(text: &[u8]) -> http::HeaderMap {
    let mut headers = http::HeaderMap::new();
    for line in text.split(|byte| *byte == b'\n').take(64) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = http::HeaderName::from_bytes(line[..colon].trim_ascii());
        let value = http::HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// Changes an input that has several messages, each of which begins with `begin`: all of it, or the last message, or a
/// copy of that behind it. So messages come up that are almost the same.
pub fn mutate_messages(data: &mut [u8], (size, most): (usize, usize), seed: u32, begin: &[u8]) -> usize {
    let last = data[..size].windows(begin.len()).rposition(|part| part == begin);
    let Some(last) = last.filter(|_| !seed.is_multiple_of(4)) else { return libfuzzer_sys::fuzzer_mutate(data, size, most) };
    let length = size - last;
    let copies = seed % 4 == 1 && size + length <= most;
    if copies {
        data.copy_within(last..size, size);
    }
    let from = if copies { size } else { last };
    from + libfuzzer_sys::fuzzer_mutate(&mut data[from..], length, most - from)
}
