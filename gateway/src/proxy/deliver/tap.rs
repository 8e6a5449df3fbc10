//! Reads the usage in an answer that is passed on, whatever its form. The bytes for the caller don't change.

use std::io::Write;

use bytes::Bytes;
use flate2::write::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use spillway_plugins::stream::StreamWatch;
use spillway_plugins::tokens::{AnswerUsage, OutputMeter, Reported};

/// Most bytes that are decoded of one answer: a few compressed bytes can become any number.
const MOST_DECODED: usize = 256 << 20;

/// Reads an answer that is not read event by event.
pub(in crate::proxy) enum Tap {
    /// A plain answer.
    Plain(AnswerUsage),
    /// An event stream, of which nothing is held back.
    Events(Box<StreamWatch>),
    /// Compressed, though that was not requested.
    Compressed(Box<Decoder>),
}

impl Tap {
    /// For an answer with this `Content-Encoding`, read by `watch` if it is a stream; `None` if its coding is unknown.
    pub(in crate::proxy) fn of(coding: Option<&[u8]>, watch: Option<StreamWatch>) -> Option<Self> {
        let inner = match watch {
            None => Inner::Plain(AnswerUsage::default()),
            Some(watch) => Inner::Events(Box::new(watch)),
        };
        let coding = coding.map_or(&b"identity"[..], <[u8]>::trim_ascii);
        let sink = |inner| Sink { inner, left: MOST_DECODED };
        let is = |names: &[&str]| names.iter().any(|name| coding.eq_ignore_ascii_case(name.as_bytes()));
        Some(match inner {
            Inner::Plain(usage) if is(&["identity"]) => Tap::Plain(usage),
            Inner::Events(watch) if is(&["identity"]) => Tap::Events(watch),
            inner if is(&["gzip", "x-gzip"]) => Tap::Compressed(Box::new(Decoder::Gzip(MultiGzDecoder::new(sink(inner))))),
            inner if is(&["deflate"]) => Tap::Compressed(Box::new(Decoder::Deflate(Some(sink(inner))))),
            _ => return None,
        })
    }

    /// Takes the next piece.
    pub(in crate::proxy) fn push(&mut self, piece: &[u8]) {
        match self {
            Tap::Plain(usage) => usage.push(piece),
            Tap::Events(watch) => drop(watch.feed(Bytes::copy_from_slice(piece))),
            Tap::Compressed(decoder) => decoder.push(piece),
        }
    }

    /// The reported usage, once the answer has ended or nothing more of it is read.
    pub(in crate::proxy) fn read(&mut self) -> Reported {
        if let Tap::Plain(usage) = self {
            return usage.read();
        }
        match self.watch() {
            Some(watch) => {
                watch.end();
                watch.state().reported.clone()
            }
            None => match self {
                Tap::Compressed(decoder) => match decoder.inner() {
                    Some(Inner::Plain(usage)) => usage.read(),
                    _ => Reported::default(),
                },
                _ => Reported::default(),
            },
        }
    }

    /// How many bytes of a plain answer were read here, as far as they could be decoded.
    pub(in crate::proxy) fn length(&mut self) -> u64 {
        match self {
            Tap::Plain(usage) => usage.length(),
            Tap::Events(_) => 0,
            Tap::Compressed(decoder) => match decoder.inner() {
                Some(Inner::Plain(usage)) => usage.length(),
                _ => 0,
            },
        }
    }

    fn watch(&mut self) -> Option<&mut StreamWatch> {
        match self {
            Tap::Events(watch) => Some(watch),
            Tap::Compressed(decoder) => match decoder.inner() {
                Some(Inner::Events(watch)) => Some(watch),
                _ => None,
            },
            Tap::Plain(_) => None,
        }
    }

    /// The measured text of a stream that was read here.
    pub(in crate::proxy) fn take_output(&mut self) -> Option<OutputMeter> {
        self.watch().map(StreamWatch::take_output)
    }

    /// Whether its bytes are not compressed.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Tap::Plain(_))
    }
}

/// Decodes, only to read.
pub(in crate::proxy) enum Decoder {
    Gzip(MultiGzDecoder<Sink>),
    /// No byte has come, so the form is not known yet.
    Deflate(Option<Sink>),
    /// RFC 9110, 8.4.1.2: with a zlib header.
    Zlib(ZlibDecoder<Sink>),
    /// Without a header, as some servers send it.
    Raw(DeflateDecoder<Sink>),
}

impl Decoder {
    fn push(&mut self, piece: &[u8]) {
        if let (Decoder::Deflate(sink), Some(first)) = (&mut *self, piece.first())
            && let Some(sink) = sink.take()
        {
            *self = if first & 0x8f == 0x08 { Decoder::Zlib(ZlibDecoder::new(sink)) } else { Decoder::Raw(DeflateDecoder::new(sink)) };
        }
        // Bytes that can't be decoded are ignored; the decoded ones before are kept.
        let _ = match self {
            Decoder::Gzip(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Decoder::Zlib(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Decoder::Raw(decoder) => decoder.write_all(piece).and_then(|()| decoder.flush()),
            Decoder::Deflate(_) => Ok(()),
        };
    }

    fn inner(&mut self) -> Option<&mut Inner> {
        match self {
            Decoder::Gzip(decoder) => Some(&mut decoder.get_mut().inner),
            Decoder::Zlib(decoder) => Some(&mut decoder.get_mut().inner),
            Decoder::Raw(decoder) => Some(&mut decoder.get_mut().inner),
            Decoder::Deflate(sink) => sink.as_mut().map(|sink| &mut sink.inner),
        }
    }
}

/// Takes the decoded bytes.
pub(in crate::proxy) struct Sink {
    inner: Inner,
    left: usize,
}

enum Inner {
    Plain(AnswerUsage),
    Events(Box<StreamWatch>),
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.left = self.left.checked_sub(bytes.len()).ok_or(std::io::ErrorKind::FileTooLarge)?;
        match &mut self.inner {
            Inner::Plain(usage) => usage.push(bytes),
            Inner::Events(watch) => drop(watch.feed(Bytes::copy_from_slice(bytes))),
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use spillway_plugins::api::Api;
    use spillway_plugins::tokens::Usage;

    use super::*;

    fn tap(coding: &'static str, stream: bool) -> Option<Tap> {
        Tap::of(Some(coding.as_bytes()), stream.then(|| StreamWatch::new(Api::Chat, 1, false)))
    }

    #[test]
    fn what_is_compressed_unasked_is_read_in_any_pieces() {
        let usage = r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":6}}"#;
        let stream = format!("data: {{\"choices\":[]}}\n\ndata: {usage}");
        for (text, is_stream) in [(usage, false), (stream.as_str(), true)] {
            let gzip = |text: &str| {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(text.as_bytes()).unwrap();
                encoder.finish().unwrap()
            };
            let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
            zlib.write_all(text.as_bytes()).unwrap();
            let mut raw = DeflateEncoder::new(Vec::new(), Compression::fast());
            raw.write_all(text.as_bytes()).unwrap();
            let (one, other) = text.split_at(20);
            for (coding, bytes) in [
                ("gzip", gzip(text)),
                ("X-Gzip", [gzip(one), gzip(other)].concat()),
                ("deflate", zlib.finish().unwrap()),
                ("deflate", raw.finish().unwrap()),
                ("identity", text.as_bytes().to_vec()),
            ] {
                for size in [1, 7, bytes.len()] {
                    let mut tap = tap(coding, is_stream).unwrap();
                    bytes.chunks(size).for_each(|piece| tap.push(piece));
                    let expected = Some(Usage { input: 5, output: 6, ..Usage::default() });
                    assert_eq!(tap.read().usage(Api::Chat), expected, "{coding} in pieces of {size}");
                }
            }
        }
        assert!(tap("br", false).is_none());
        let mut broken = tap("gzip", false).unwrap();
        broken.push(b"no gzip at all");
        assert_eq!(broken.read(), Reported::default());
    }
}
