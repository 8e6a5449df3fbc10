//! A request line means one thing: what is taken stands in it letter for letter, nothing in it needs decoding or can
//! climb, another reader of URLs finds the same, and another spelling of a path is taken only for what it is short for.
#![no_main]

use http::{Method, Uri};
use libfuzzer_sys::fuzz_target;
use spillway::operation::{Operation, read};

/// Whether a model's name is segments of a path with slashes between them.
fn is_model(name: &str) -> bool {
    name.split('/').all(is_segment)
}

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
    // A slash in a model's name may be written as `%2F`.
    let plain = path.replace("%2F", "/").replace("%2f", "/");
    assert!(plain.bytes().all(|byte| byte.is_ascii_graphic() && !b"%;\\#?".contains(&byte)), "{path}");
    let short = normalised(&plain);
    if short != plain {
        assert!(!matches!(call, Operation::Object(_)), "what names a stored thing is as short as it gets: {path}");
        assert_eq!(read(&method, &short, query).ok().as_ref(), Some(&call), "{path} is short for {short}");
    }
    let path = short.as_str();
    let (named, path_names) = match &call {
        Operation::GetModel(_, id) => (Some(id), true),
        Operation::Inference(inference) => (inference.model.as_ref(), path.contains("/deployments/")),
        Operation::Object(object) => {
            assert!(path.ends_with(&object.path), "{path}: {object:?}");
            assert!(object.model.as_ref().is_none_or(|model| is_model(model) && path.contains(&**model)), "{path}: {object:?}");
            (object.name.as_ref(), true)
        }
        Operation::ListModels(_) | Operation::Usage => (None, true),
    };
    if let Some(name) = named {
        assert!(if matches!(call, Operation::Object(_)) { is_segment(name) } else { is_model(name) }, "{target}: {name}");
        let found =
            if path_names { format!("{path}/").contains(&format!("/{name}/")) } else { query.is_some_and(|query| query.contains(name)) };
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
