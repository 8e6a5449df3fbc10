//! WebSocket frames (RFC 6455, section 5.2): reads them as they pass, and writes them. Extensions are not supported.

/// Reads the frames of one side.
#[derive(Debug)]
pub struct Frames {
    /// Whether this side masks its frames: callers must, servers must not.
    masked: bool,
    /// An incomplete head of a frame.
    head: Vec<u8>,
    /// Bytes of the current frame's payload that have not arrived yet.
    left: u64,
    /// The payload's mask, and how many of its bytes have arrived.
    mask: [u8; 4],
    at: usize,
    /// Whether the current frame is part of a message, its first frame, and its last.
    of_message: bool,
    begins: bool,
    last: bool,
    /// Whether the message is binary.
    binary: bool,
    /// The current control frame: its opcode, and its payload without the mask.
    control: (u8, Vec<u8>),
    /// Whether a close frame has begun.
    closed: bool,
    lost: bool,
}

/// The next thing on one side of a socket.
#[derive(Debug)]
pub enum Frame<'b> {
    /// A part of a message.
    Part(Part<'b>),
    /// A whole control frame, which may come between a message's frames: its opcode and its payload.
    Control(u8, Vec<u8>),
}

/// A part of a message.
#[derive(Debug)]
pub struct Part<'b> {
    /// Its bytes, still masked.
    pub(crate) payload: &'b [u8],
    mask: [u8; 4],
    at: usize,
    /// Whether it is the message's beginning.
    pub begins: bool,
    /// Whether it is the message's end.
    pub ends: bool,
    /// Whether the message is binary.
    pub binary: bool,
}

impl Part<'_> {
    /// Its bytes, unmasked.
    pub fn unmasked(&self) -> impl Iterator<Item = u8> {
        self.payload.iter().enumerate().map(|(at, byte)| byte ^ self.mask[(self.at + at) % 4])
    }
}

/// The head of a server's frame: `first` is its first byte, `length` is the payload's length.
pub fn frame_head(first: u8, length: usize) -> Vec<u8> {
    let mut head = Vec::with_capacity(10);
    head.push(first);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length @ 0..126), _) => head.push(length),
        (_, Ok(length)) => {
            head.push(126);
            head.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            head.push(127);
            head.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    head
}

impl Frames {
    /// For a server's frames.
    pub fn of_server() -> Self {
        Frames {
            masked: false,
            head: Vec::new(),
            left: 0,
            mask: [0; 4],
            at: 0,
            of_message: false,
            begins: false,
            last: true,
            binary: false,
            control: (0, Vec::new()),
            closed: false,
            lost: false,
        }
    }

    /// For a caller's frames.
    pub fn of_caller() -> Self {
        Frames { masked: true, ..Frames::of_server() }
    }

    /// Whether the frame boundaries are lost after an error.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Whether this side has said that it closes the socket.
    pub fn has_closed(&self) -> bool {
        self.closed
    }

    /// Whether it is between two messages.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.left == 0 && self.head.is_empty() && self.last
    }

    /// As [`Frames::next`], but skips control frames.
    pub(crate) fn next_part<'b>(&mut self, bytes: &mut &'b [u8]) -> Option<Part<'b>> {
        loop {
            if let Frame::Part(part) = self.next(bytes)? {
                return Some(part);
            }
        }
    }

    /// Takes the next part or control frame out of `bytes`; `None` if none is complete.
    pub fn next<'b>(&mut self, bytes: &mut &'b [u8]) -> Option<Frame<'b>> {
        while !bytes.is_empty() && !self.lost {
            if self.left == 0 && !self.frame_begins(bytes) {
                return None;
            }
            let here = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            let (payload, behind) = bytes.split_at(here);
            *bytes = behind;
            self.left -= here as u64;
            let at = self.at;
            self.at = (self.at + here) % 4;
            if self.of_message {
                let (begins, ends) = (std::mem::take(&mut self.begins), self.left == 0 && self.last);
                return Some(Frame::Part(Part { payload, mask: self.mask, at, begins, ends, binary: self.binary }));
            }
            let mask = self.mask;
            self.control.1.extend(payload.iter().enumerate().map(|(index, byte)| byte ^ mask[(at + index) % 4]));
            if self.left == 0 {
                return Some(Frame::Control(self.control.0, std::mem::take(&mut self.control.1)));
            }
        }
        None
    }

    /// Reads a frame's head; `false` if it isn't complete yet.
    fn frame_begins(&mut self, bytes: &mut &[u8]) -> bool {
        while let Some((first, rest)) = bytes.split_first() {
            self.head.push(*first);
            *bytes = rest;
            let Some(second) = self.head.get(1) else { continue };
            // Extensions are not supported: this frame can't be read.
            if (second & 0x80 != 0) != self.masked || self.head[0] & 0x70 != 0 {
                self.lost = true;
                return false;
            }
            let extended = match second & 0x7f {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            let lengths = 2 + extended;
            if self.head.len() < lengths + if self.masked { 4 } else { 0 } {
                continue;
            }
            self.left = match extended {
                0 => u64::from(second & 0x7f),
                _ => self.head[2..lengths].iter().fold(0, |length, byte| (length << 8) | u64::from(*byte)),
            };
            if let Some(mask) = self.head.get(lengths..lengths + 4).and_then(|mask| mask.try_into().ok()) {
                self.mask = mask;
            }
            self.at = 0;
            let opcode = self.head[0] & 0x0f;
            self.of_message = opcode < 8;
            // RFC 6455, 5.5: at most 125 bytes, and no parts. A short length in a long form would be read by some only.
            if !self.of_message && (self.head[0] & 0x80 == 0 || extended > 0 || opcode > 10) {
                self.lost = true;
                return false;
            }
            self.closed |= opcode == 8;
            self.control = (opcode, Vec::new());
            if self.of_message {
                // A message must end before the next one begins, and is text or binary: otherwise readers could differ.
                if (opcode != 0) != self.last || opcode > 2 {
                    self.lost = true;
                    return false;
                }
                self.last = self.head[0] & 0x80 != 0;
                if opcode != 0 {
                    self.begins = true;
                    self.binary = opcode == 2;
                }
            }
            self.head.clear();
            if self.left > 0 || self.last || !self.of_message {
                return true;
            }
        }
        false
    }

    /// Bytes of an incomplete head.
    #[cfg(test)]
    pub(crate) fn held(&self) -> usize {
        self.head.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_side_that_closes_says_so() {
        let closed = |bytes: &[u8]| {
            let (mut frames, mut rest) = (Frames::of_server(), bytes);
            while frames.next(&mut rest).is_some() {}
            frames.has_closed()
        };
        assert!(closed(&[0x88, 0]) && closed(&[0x81, 1, b'x', 0x88, 2, 3, 232]));
        assert!(!closed(&[0x81, 2, 0x88, 0]) && !closed(&[0x89, 1, 0x88]) && !closed(&[0x88]));
    }

    #[test]
    fn a_control_frame_is_short_and_whole() {
        let lost = |bytes: &[u8]| {
            let (mut frames, mut rest) = (Frames::of_server(), bytes);
            while frames.next(&mut rest).is_some() {}
            frames.is_lost()
        };
        assert!(!lost(&[0x89, 3, 1, 2, 3]) && !lost(&[0x8a, 0]));
        let long = [&[0x89, 126, 0, 126][..], &[0; 126]].concat();
        for bytes in [&[0x89, 126, 0, 3, 1, 2, 3][..], &[0x89, 127, 0, 0, 0, 0, 0, 0, 0, 1, 1], &long, &[0x09, 1, 1], &[0x8b, 0]] {
            assert!(lost(bytes), "{bytes:?}");
        }
    }
}
