//! Finds out from the frames of an HTTP/2 connection whether a head is under way (RFC 9113, 4.1 and 6.2).

/// The first bytes of an HTTP/2 connection (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length, type, flags and stream of a frame.
const FRAME_HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;

/// The state of the frames.
#[derive(Debug)]
pub(super) struct Http2Heads {
    /// The rest of the preface, later the rest of the current frame's payload.
    payload: usize,
    /// The bytes of the next frame's head.
    frame_head: [u8; FRAME_HEAD],
    came: usize,
    /// Whether a field block is under way: its last frame has not ended yet.
    block: bool,
    /// Whether the current frame is the block's last.
    last: bool,
}

impl Default for Http2Heads {
    fn default() -> Self {
        Http2Heads { payload: PREFACE.len(), frame_head: [0; FRAME_HEAD], came: 0, block: false, last: false }
    }
}

impl Http2Heads {
    /// Reads the next bytes. Returns whether a head ended in them.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> bool {
        let mut ended = false;
        loop {
            let skipped = self.payload.min(bytes.len());
            (self.payload, bytes) = (self.payload - skipped, &bytes[skipped..]);
            if self.payload > 0 {
                return ended;
            }
            if std::mem::take(&mut self.last) {
                self.block = false;
                ended = true;
            }
            let taken = (FRAME_HEAD - self.came).min(bytes.len());
            self.frame_head[self.came..][..taken].copy_from_slice(&bytes[..taken]);
            (self.came, bytes) = (self.came + taken, &bytes[taken..]);
            if self.came < FRAME_HEAD {
                return ended;
            }
            self.came = 0;
            let [high, middle, low, kind, flags, ..] = self.frame_head;
            self.payload = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
            if kind == HEADERS || kind == CONTINUATION {
                self.block = true;
                self.last = flags & END_HEADERS != 0;
            }
        }
    }

    /// Whether a request's head, or the head of a frame, has begun and not ended.
    pub(super) fn is_under_way(&self) -> bool {
        self.block || self.came > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: usize) -> Vec<u8> {
        let mut frame = vec![0, (payload >> 8) as u8, payload as u8, kind, flags, 0, 0, 0, 1];
        frame.extend(std::iter::repeat_n(HEADERS, payload));
        frame
    }

    #[test]
    fn a_head_ends_with_its_last_frame_in_whatever_pieces_it_comes() {
        const SETTINGS: u8 = 4;
        const DATA: u8 = 0;
        for (frames, under_way) in [
            (vec![frame(SETTINGS, 0, 6)], false),
            (vec![frame(HEADERS, END_HEADERS, 30)], false),
            (vec![frame(HEADERS, END_HEADERS, 0)], false),
            (vec![frame(HEADERS, 0, 300)], true),
            (vec![frame(HEADERS, 0, 30), frame(CONTINUATION, 0, 0)], true),
            (vec![frame(HEADERS, 0, 30), frame(CONTINUATION, 0, 9), frame(CONTINUATION, END_HEADERS, 5)], false),
            (vec![frame(HEADERS, END_HEADERS, 30)[..20].to_vec()], true),
            (vec![frame(DATA, 0, 300)[..100].to_vec()], false),
            (vec![frame(DATA, 0, 300), frame(SETTINGS, 0, 6)[..3].to_vec()], true),
        ] {
            let bytes = [PREFACE.to_vec(), frames.concat()].concat();
            for size in 1..=bytes.len() {
                let mut heads = Http2Heads::default();
                let ended = bytes.chunks(size).filter(|piece| heads.push(piece)).count();
                assert_eq!(heads.is_under_way(), under_way, "{frames:?} by {size}");
                assert_eq!(ended > 0, !under_way && frames[0][3] == HEADERS);
            }
        }
    }
}
