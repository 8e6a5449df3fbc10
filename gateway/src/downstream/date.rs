//! The time in the head of an answer (RFC 9110, 5.6.7), written anew each second.

use std::cell::RefCell;
use std::time::{Duration, UNIX_EPOCH};

thread_local!(static WRITTEN: RefCell<(i64, String)> = const { RefCell::new((i64::MIN, String::new())) });

/// Writes a second since 1970 as a line.
pub(super) fn write_line(second: i64, to: &mut Vec<u8>) {
    WRITTEN.with_borrow_mut(|(of, text)| {
        if *of != second {
            let since = Duration::from_secs(u64::try_from(second).unwrap_or(0));
            (*of, *text) = (second, httpdate::fmt_http_date(UNIX_EPOCH + since));
        }
        to.extend_from_slice(b"date: ");
        to.extend_from_slice(text.as_bytes());
        to.extend_from_slice(b"\r\n");
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_date() {
        let mut text = Vec::new();
        for second in [784_111_777, 784_111_777, 784_111_778, -1] {
            write_line(second, &mut text);
        }
        let first = "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";
        assert_eq!(
            String::from_utf8(text).unwrap(),
            format!("{first}{first}date: Sun, 06 Nov 1994 08:49:38 GMT\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n")
        );
    }
}
