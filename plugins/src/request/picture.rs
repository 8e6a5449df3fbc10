//! How large and how fine the images are that a request asks for: what they take at most.
//!
//! Source: OpenAI's guide to image generation. An image of 1024 by 1024 pixels takes 272, 1056 or 4160 tokens, by its quality;
//! other sizes as many more as they have more pixels.

/// Pixels of the size for which tokens are known.
const PIXELS: u64 = 1024 * 1024;
/// Pixels if the backend chooses the size: the most that it chooses.
const ANY_SIZE: u64 = 1024 * 1536;
/// Most pixels of one side: more is no size.
const LONGEST: u64 = 1 << 16;

/// What a request says of the images that it asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Picture {
    /// Tokens for [`PIXELS`], if the quality is one that is known.
    tokens: Option<u64>,
    pixels: Option<u64>,
}

impl Picture {
    /// Reads `quality`.
    pub(super) fn read_quality(&mut self, text: &str) {
        self.tokens = match text {
            "low" => Some(272),
            "medium" => Some(1056),
            _ => None,
        };
    }

    /// Reads `size`.
    pub(super) fn read_size(&mut self, text: &str) {
        let side = |digits: &str| digits.parse().ok().filter(|side| (1..=LONGEST).contains(side));
        self.pixels = text.split_once('x').and_then(|(width, height)| Some(side(width)? * side(height)?));
    }

    /// The most tokens of one image.
    pub fn tokens(&self) -> u64 {
        (self.tokens.unwrap_or(4160) * self.pixels.unwrap_or(ANY_SIZE)).div_ceil(PIXELS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_takes_what_its_quality_and_size_say_or_the_most() {
        let tokens = |quality: &str, size: &str| {
            let mut picture = Picture::default();
            picture.read_quality(quality);
            picture.read_size(size);
            picture.tokens()
        };
        for (quality, square, tall) in
            [("low", 272, 408), ("medium", 1056, 1584), ("high", 4160, 6240), ("auto", 4160, 6240), ("hd", 4160, 6240)]
        {
            assert_eq!((tokens(quality, "1024x1024"), tokens(quality, "1024x1536")), (square, tall), "{quality}");
            for any in ["auto", "", "x", "0x0", "1024x", "-1x5", "99999999999x2"] {
                assert_eq!(tokens(quality, any), tall, "{quality} {any}");
            }
        }
        assert_eq!(Picture::default().tokens(), 6240);
        assert!(tokens("high", "65536x65536") > 4160 * 4000, "nothing overflows");
    }
}
