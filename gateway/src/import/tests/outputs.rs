//! What holds for every output.

use super::*;

/// Hostile and broken texts end in an error or a config, never in a panic.
#[test]
fn nothing_panics() {
    for (_, source, inputs) in all() {
        for (name, text) in inputs {
            let step = (text.len() / 150).max(1);
            for end in (0..text.len()).step_by(step).filter(|end| text.is_char_boundary(*end)) {
                let _ = import(source, &[(name, &text[..end])]);
                let _ = import(source, &[(name, &text[end..])]);
            }
        }
    }
    let deep = format!("[{}'x'{}]", "concat(".repeat(5_000), ")".repeat(5_000));
    let _ = import(
        Source::Apim,
        &[("deep.json", &format!(r#"{{"resources":[{{"type":"Microsoft.ApiManagement/service/backends","name":"{deep}"}}]}}"#))],
    );
    let nested =
        format!(r#"<retry condition="@({}context.Response.StatusCode == 429{})" count="1" />"#, "(".repeat(5_000), ")".repeat(5_000));
    let _ = import(Source::ApimPolicy, &[("deep.xml", &nested)]);
}
