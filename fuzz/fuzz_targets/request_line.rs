//! A request line means one thing: what is taken stands in it letter for letter, and nothing in it needs decoding.
#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;
use spillway::proxy::call::{Call, read};

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
    assert!(path.split('/').all(|part| part != "." && part != ".."), "{path}");
    let named = match &call {
        Call::GetModel(_, id) => Some(id.clone()),
        Call::Inference(inference) => inference.model.clone(),
        Call::Object(object) => {
            assert!(path.ends_with(&object.path), "{path}: {object:?}");
            object.name.clone()
        }
        Call::ListModels(_) | Call::Usage => None,
        #[allow(unreachable_patterns, reason = "calls that are to come")]
        _ => None,
    };
    if let Some(name) = named {
        assert!(target.contains(&name), "{target}: {name}");
    }
});
