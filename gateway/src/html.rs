//! Text in HTML and SVG.

/// Text as it is written between tags, and in attributes in double quotation marks.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
