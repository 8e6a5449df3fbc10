use proptest::prelude::*;

use super::*;

const PLAIN: &str = "POST /v1/chat/completions?a=b HTTP/1.1\r\nHost: gateway:8080\r\nAuthorization: Bearer x\r\n\
                     content-type: application/json\r\nContent-Length: 12\r\n\r\n";

fn of(head: &str) -> Scan {
    scan(head.as_bytes())
}

fn with(field: &str) -> String {
    PLAIN.replacen("\r\n\r\n", &format!("\r\n{field}\r\n\r\n"), 1)
}

#[test]
fn a_plain_request_is_taken_and_its_body_is_left() {
    let mut bytes = BytesMut::from(format!("{PLAIN}{{\"model\":\"").as_str());
    let Scan::Strict(found) = scan(&bytes) else { panic!("it is plain") };
    assert_eq!((found.end, found.body, found.closes), (PLAIN.len(), 12, false));
    let (head, _) = found.take(&mut bytes, HeaderMap::new()).unwrap();
    assert_eq!(&bytes[..], b"{\"model\":\"");
    assert_eq!((head.method.as_str(), head.raw_path(), head.uri.query()), ("POST", &b"/v1/chat/completions?a=b"[..], Some("a=b")));
    assert_eq!(head.version, http::Version::HTTP_11);
    let fields: Vec<_> = head.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    assert_eq!(
        fields,
        [("host", "gateway:8080"), ("authorization", "Bearer x"), ("content-type", "application/json"), ("content-length", "12")]
    );
}

#[test]
fn whatever_bears_on_framing_has_one_form() {
    for plain in [
        with("connection: Keep-Alive"),
        with("connection: close"),
        with("x-any: \tthing "),
        PLAIN.replace("gateway:8080", "[::1]:8080"),
        PLAIN.replace("application/json", "Application/JSON; charset=utf-8"),
        PLAIN.replace("Length: 12", "Length: 0"),
    ] {
        assert!(matches!(of(&plain), Scan::Strict(_)), "{plain:?}");
    }
    for other in [
        PLAIN.replace("POST", "PUT"),
        PLAIN.replace("POST", "post"),
        PLAIN.replace("POST /", "POST  /"),
        PLAIN.replace("/v1/", "http://a/v1/"),
        PLAIN.replace("HTTP/1.1", "HTTP/1.0"),
        PLAIN.replace("\r\n", "\n"),
        PLAIN.replacen("\r\n", "\n", 1),
        PLAIN.replace("Bearer x\r\n", "Bearer x\r\n y\r\n"),
        PLAIN.replace("Host:", "Host :"),
        PLAIN.replace("Host: gateway:8080\r\n", ""),
        PLAIN.replace("Host: gateway", "Host: user@gateway"),
        PLAIN.replace("Host: gateway:8080", "Host: "),
        PLAIN.replace("Host: gateway", "Host: gate way"),
        PLAIN.replace("Length: 12", "Length: +12"),
        PLAIN.replace("Length: 12", "Length: 012"),
        PLAIN.replace("Length: 12", "Length: 12, 12"),
        PLAIN.replace("Length: 12", "Length: "),
        PLAIN.replace("Length: 12", "Length: 1234567890123456789"),
        PLAIN.replace("application/json", "application/jsonp"),
        PLAIN.replace("application/json", "text/plain"),
        PLAIN.replace("content-type: application/json\r\n", ""),
        PLAIN.replace("Content-Length: 12\r\n", ""),
        with("content-length: 12"),
        with("host: other"),
        with("content-type: application/json"),
        with("transfer-encoding: chunked"),
        with("Transfer-Encoding: identity"),
        with("expect: 100-continue"),
        with("upgrade: h2c"),
        with("connection: upgrade"),
        with("connection: close, x-secret"),
        with("connection: close\r\nconnection: keep-alive"),
        with("x\u{e9}: 1"),
        with(&"x: 1\r\n".repeat(64)),
        with(&format!("x: {}", "y".repeat(MAX_HEAD))),
        "PRI * HTTP/2.0\r\n\r\n".to_owned(),
        "GET".to_owned(),
        "\u{16}\u{3}\u{1}".to_owned(),
    ] {
        assert_eq!(of(&other), Scan::Other, "{other:?}");
    }
}

#[test]
fn a_part_of_a_head_needs_more() {
    for end in 0..PLAIN.len() {
        assert_eq!(of(&PLAIN[..end]), Scan::Incomplete, "{end}");
    }
    let long = format!("POST /{}", "a".repeat(MAX_HEAD));
    assert_eq!(of(&long), Scan::Other, "Pingora refuses it");
}

proptest! {
    /// Nothing that decides where a request ends is read from a field that isn't there, and what is taken can be read back.
    #[test]
    fn what_is_taken_is_what_was_sent(
        fields in proptest::collection::vec(("[!#-'*+.^-z|~0-9A-Z-]{1,12}", "[ -~]{0,20}"), 0..20),
        length in 0usize..5000,
        behind in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let special = ["host", "content-length", "content-type", "connection", "expect", "upgrade", "transfer-encoding"];
        let fields: Vec<_> = fields.into_iter().filter(|(name, _)| !special.contains(&name.to_ascii_lowercase().as_str())).collect();
        let mut text = format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n");
        fields.iter().for_each(|(name, value)| text += &format!("{name}: {value}\r\n"));
        let mut bytes = BytesMut::from((text + "\r\n").as_bytes());
        bytes.extend_from_slice(&behind);
        let Scan::Strict(found) = scan(&bytes) else { panic!("it has the form") };
        prop_assert_eq!(found.body, length);
        let (head, _) = found.take(&mut bytes, HeaderMap::new()).unwrap();
        prop_assert_eq!(&bytes[..], &behind[..]);
        for (name, value) in &fields {
            let mut values = head.headers.get_all(name.as_str()).iter();
            prop_assert!(values.any(|given| given.as_bytes() == value.trim_matches([' ', '\t']).as_bytes()));
        }
    }

    #[test]
    fn any_bytes_are_looked_at_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = scan(&bytes);
        let mut begun = b"POST /x HTTP/1.1\r\n".to_vec();
        begun.extend_from_slice(&bytes);
        if let Scan::Strict(found) = scan(&begun) {
            prop_assert!(found.end <= begun.len());
        }
    }
}

#[test]
fn hosts_are_hosts() {
    for good in ["x", "gateway.example.com", "my_gateway:8080", "127.0.0.1:80", "[::1]:8080", "[::1]", "a:"] {
        assert!(is_host(good.as_bytes()), "{good}");
    }
    for bad in ["", "a b", "a/b", "u@a", "a,b", "a:b", "a:123456", "a:1:2", "[::1", "[::1]x", "a\tb", "a?b", "a\\b", ":80"] {
        assert!(!is_host(bad.as_bytes()), "{bad}");
    }
}

#[test]
fn lengths_are_numbers() {
    let is_length = |text: &[u8]| length(text).is_some();
    assert!(is_length(b"0") && is_length(b"123"));
    for bad in ["", "+1", "-1", "01", "1,1", "1, 1", "1 ", "0x1", "9999999999999999999"] {
        assert!(!is_length(bad.as_bytes()), "{bad}");
    }
}

#[test]
fn targets_hide_nothing() {
    for bad in ["/a\0", "/a\r", "/a%00", "/a?b=%0d%0A", "/%7F", "/a#b", "/a\\b", "/a%1f"] {
        assert!(!is_target(bad.as_bytes()), "{bad}");
    }
    for good in ["/v1/models", "/a?b=%20&c=%C3%A9", "/a%", "/a%0", "/a%zz"] {
        assert!(is_target(good.as_bytes()), "{good}");
    }
}
