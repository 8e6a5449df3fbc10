//! A request line means one thing: what is taken stands in it letter for letter, nothing in it needs decoding or can
//! climb, another reader of URLs finds the same, and no other spelling of a path is taken for it.
#![no_main]

use http::{Method, Uri};
use libfuzzer_sys::fuzz_target;
use spillway::proxy::call::{Call, read};

/// Whether a name can be a whole segment of a path, and only that.
fn is_segment(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

/// A path as servers normalise it: without empty and dot segments, once decoded.
fn normalised(path: &str) -> String {
    let decoded = path.replace("%2e", ".").replace("%2E", ".").replace("%2f", "/").replace("%2F", "/").replace('\\', "/");
    let mut segments = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

fuzz_target!(|head: &[u8]| {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut fields);
    if !matches!(request.parse(head), Ok(httparse::Status::Complete(_))) {
        return;
    }
    let (Some(method), Some(target)) = (request.method, request.path) else { return };
    let Ok(method) = Method::from_bytes(method.as_bytes()) else { return };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let Ok(call) = read(&method, path, query) else { return };
    assert!(path.bytes().all(|byte| byte.is_ascii_graphic() && !b"%;\\#?".contains(&byte)), "{path}");
    assert_eq!(normalised(path), path, "what is taken is as short as it gets");
    let (named, path_names) = match &call {
        Call::GetModel(_, id) => (Some(id), true),
        Call::Inference(inference) => (inference.model.as_ref(), path.contains("/deployments/")),
        Call::Object(object) => {
            assert!(path.ends_with(&object.path), "{path}: {object:?}");
            assert!(object.model.as_ref().is_none_or(|model| is_segment(model) && path.contains(model)), "{path}: {object:?}");
            (object.name.as_ref(), true)
        }
        Call::ListModels(_) | Call::Usage => (None, true),
    };
    if let Some(name) = named {
        assert!(is_segment(name), "{target}: {name}");
        let found =
            if path_names { path.split('/').any(|segment| segment == name) } else { query.is_some_and(|query| query.contains(name)) };
        assert!(found, "{target}: {name}");
    }
    // Fragments are refused before this.
    if !target.contains('#')
        && let Ok(uri) = Uri::try_from(target)
    {
        let again = read(&method, uri.path(), uri.query());
        assert_eq!(again.ok().as_ref(), Some(&call), "{target}");
    }
});
