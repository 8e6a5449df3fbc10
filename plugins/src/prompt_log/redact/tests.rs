//! What goes, what stays, and what must hold for any text.

#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

/// Every class; built once, since property tests ask for it often.
fn all() -> &'static Redactor {
    static ALL: std::sync::LazyLock<Redactor> =
        std::sync::LazyLock::new(|| Redactor::new(&Class::NAMES.map(|(_, class)| class), &[]).unwrap());
    &ALL
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    let redactor = all();
    let wrong: Vec<_> =
        cases.iter().map(|(text, want)| (text, redactor.redact(text), want)).filter(|(_, got, want)| got != *want).collect();
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.iter().map(|(t, g, w)| format!("{t}\n  is   {g}\n  want {w}\n")).collect::<String>()
    );
}

/// Each is a whole match by itself.
const EMAILS: &[&str] = &[
    "bob@example.com",
    "bob+tag@example.com",
    "bob.smith@mail.sub.example.co.uk",
    "BOB@EXAMPLE.ORG",
    "b@x.io",
    "bob_smith-1@ex-ample.de",
    "müller@example.de",
    "info@bücher.example",
    "пользователь@пример.рф",
    "用户@例子.中国",
    "x%y@example.net",
    "o'neil@example.ie",
    "git@github.com",
    "a1@b2.museum",
    "bob@xn--bcher-kva.xn--p1ai",
    "first.last@gmail.com",
    "99@qq.com",
    "_x_@example.com",
];
const PHONES: &[&str] = &[
    "+49 30 123456",
    "+4930123456",
    "+49 (0)30 123456",
    "+49 (0) 30 / 123456",
    "0049 30 123456",
    "004930123456",
    "+1 (415) 555-2671",
    "+14155552671",
    "+1-415-555-2671",
    "+1.415.555.2671",
    "+44 20 7946 0958",
    "+33 1 23 45 67 89",
    "030/1234567",
    "030 1234567",
    "030-1234567",
    "030 / 1234567",
    "(030) 1234567",
    "(415) 555-2671",
    "(415)555-2671",
    "01 23 45 67 89",
    "01.23.45.67.89",
    "01512 3456789",
    "015123456789",
    "0171/2345678",
    "415-555-2671",
    "415.555.2671",
    "1-800-555-2671",
    "(11) 91234-5678",
    "+86 138 0013 8000",
    "+91 98765 43210",
    "+43 1 5335678",
    "07911 123456",
    "089 12 34 56 78",
    "+49\u{a0}30\u{a0}123456",
    "+41 44 668 18 00",
    "06 12 34 56 78",
    "03-1234-5678",
    "+81-3-1234-5678",
    "+683 4000",
];
const IBANS: &[&str] = &[
    "DE89370400440532013000",
    "DE89 3704 0044 0532 0130 00",
    "de89370400440532013000",
    "de89 3704 0044 0532 0130 00",
    "GB82 WEST 1234 5698 7654 32",
    "GB82WEST12345698765432",
    "FR1420041010050500013M02606",
    "FR14 2004 1010 0505 0001 3M02 606",
    "NL91ABNA0417164300",
    "NL91 ABNA 0417 1643 00",
    "BE68 5390 0754 7034",
    "AT611904300234573201",
    "CH93 0076 2011 6238 5295 7",
    "ES9121000418450200051332",
    "IT60X0542811101000000123456",
    "NO9386011117947",
    "PL61109010140000071219812874",
    "SE4550000000058398257466",
    "DK5000400440116243",
    "FI2112345600000785",
    "IE29AIBK93115212345678",
    "PT50000201231234567890154",
    "MT84MALT011000012345MTLCAST001S",
    "LU280019400644750000",
    "CZ6508000000192000145399",
    "GR1601101250000000012300695",
    "SA0380000000608010167519",
    "TR330006100519786457841326",
    "BR9700360305000010009795493P1",
    "AE070331234567890123456",
];
const CARDS: &[&str] = &[
    "4111111111111111",
    "4111 1111 1111 1111",
    "4111-1111-1111-1111",
    "5555555555554444",
    "5555 5555 5555 4444",
    "5105105105105100",
    "2223003122003222",
    "378282246310005",
    "3782 822463 10005",
    "371449635398431",
    "6011111111111117",
    "6011 1111 1111 1117",
    "30569309025904",
    "3056 930902 5904",
    "38520000023237",
    "3530111333300000",
    "3566 0020 2036 0505",
    "4222222222222",
    "6759649826438453",
    "6200000000000005",
    "6304000000000000",
    "4012888888881881",
];

fn secrets() -> Vec<String> {
    let long = "Ab3dEf6hIj9lMn2pQr5tUv8xYz1bCd4fGh7jKl0n";
    let mut all: Vec<String> = [
        ("sk", "-"),
        ("sk", "-proj-"),
        ("sk", "-ant-api03-"),
        ("gh", "p_"),
        ("gh", "o_"),
        ("gh", "u_"),
        ("gh", "s_"),
        ("gh", "r_"),
        ("github", "_pat_"),
        ("gl", "pat-"),
        ("xo", "xb-123-"),
        ("xo", "xp-"),
        ("xo", "xa-"),
        ("xo", "xr-"),
        ("xo", "xs-"),
        ("xo", "xe-"),
        ("sk", "_live_"),
        ("rk", "_live_"),
        ("AI", "za"),
        ("np", "m_"),
        ("py", "pi-"),
        ("sp", "w_"),
        ("hf", "_"),
    ]
    .map(|(a, b)| format!("{a}{b}{long}"))
    .to_vec();
    all.push(["spw", "_", long, "0aB9zQ"].concat());
    all.push(["AK", "IA", "IOSFODNN7EXAMPLE"].concat());
    all.push(["AS", "IA", "IOSFODNN7EXAMPLE"].concat());
    all.push(["SG", ".ngeVfQFYQlKU0ufo8x5d1A.", "TwL2iGABf9DHoTf-09kqeF8tAmbihYzrnopKc-1s5cr"].concat());
    all.push(["ey", "JhbGciOiJIUzI1NiJ9.", "ey", "JzdWIiOiIxMjM0NTY3ODkwIn0", ".dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"].concat());
    for kind in ["", "RSA ", "EC ", "OPENSSH ", "ENCRYPTED "] {
        all.push(format!("-----BEGIN {kind}PRIVATE {}-----\nMIIEow{long}\n{long}==\n-----END {kind}PRIVATE KEY-----", "KEY"));
    }
    all
}

#[test]
fn whole_matches() {
    let redactor = all();
    let mut wrong = Vec::new();
    let secrets = secrets();
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    for (name, values) in [("email", EMAILS), ("phone", PHONES), ("iban", IBANS), ("card", CARDS), ("secret", &secrets)] {
        for value in values {
            for (left, right) in
                [("", ""), ("call ", " now"), ("(", ")"), ("\"", "\","), ("x: ", "."), ("a\n", "\nb"), ("<", ">"), ("in 12 ", ", or")]
            {
                let got = redactor.redact(&format!("{left}{value}{right}")).into_owned();
                if got != format!("{left}[{name}]{right}") {
                    wrong.push(format!("{left}{value}{right} -> {got}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn values_behind_names() {
    let key = concat!("0123456789ab", "cdef0123456789abcdef");
    let k = |text: &str| text.replace("KEY", key);
    let cases = [
        ("password = hunter2", "password = [secret]"),
        ("Password: hunter2", "Password: [secret]"),
        ("passwd: x9", "passwd: [secret]"),
        ("pwd=abc", "pwd=[secret]"),
        ("DB_PASSWORD=s3cr3t!", "DB_PASSWORD=[secret]"),
        ("secret=abc", "secret=[secret]"),
        ("?token=abc&x=1", "?token=[secret]&x=1"),
        ("api_key=KEY", "api_key=[secret]"),
        ("{\"password\": \"hunter 2\", \"a\": 1}", "{\"password\": \"[secret]\", \"a\": 1}"),
        ("{\\\"password\\\": \\\"hunter2\\\"}", "{\\\"password\\\": \\\"[secret]\\\"}"),
        ("password='it\\'s'", "password='[secret]'"),
        ("api-key: KEY", "api-key: [secret]"),
        ("Ocp-Apim-Subscription-Key: KEY", "Ocp-Apim-Subscription-Key: [secret]"),
        ("curl -H 'api-key: KEY' x", "curl -H 'api-key: [secret]' x"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [secret]"),
        ("authorization: Basic dXNlcjpwYXNz", "authorization: Basic [secret]"),
        ("\"Authorization\": \"Bearer xyz\"", "\"Authorization\": \"Bearer [secret]\""),
        ("-H \"Authorization: Bearer KEY\"", "-H \"Authorization: Bearer [secret]\""),
        ("Bearer KEY", "Bearer [secret]"),
        ("aws_secret_access_key = wJalr/XUtnFEMI+K7", "aws_secret_access_key = [secret]"),
        ("AccountName=a;AccountKey=abc/d+==;E=x", "AccountName=a;AccountKey=[secret];E=x"),
        ("SharedAccessKeyName=R;SharedAccessKey=abc=", "SharedAccessKeyName=R;SharedAccessKey=[secret]"),
        ("?sv=1&sig=abcdefghijklmnopqrst%3D&se=2", "?sv=1&sig=[secret]&se=2"),
        ("https://user:pass@host.com/x", "https://user:[secret]@host.com/x"),
        ("postgres://u:p%40w@db:5432/x", "postgres://u:[secret]@db:5432/x"),
        ("let password: &str = \"hunter2\";", "let password: &str = \"[secret]\";"),
        ("password: str = 'x1'", "password: str = '[secret]'"),
        ("'password' => 'x'", "'password' => '[secret]'"),
        ("user=a, password=b, host=c", "user=a, password=[secret], host=c"),
        ("password := \"x\"", "password := \"[secret]\""),
        ("headers[\"x-api-key\"] = \"abc\"", "headers[\"x-api-key\"] = \"[secret]\""),
        ("API key: KEY", "API key: [secret]"),
        ("**Password:** hunter2", "**Password:** [secret]"),
        ("f(password=abc)", "f(password=[secret])"),
        ("token: KEY", "token: [secret]"),
        ("password=\"open end", "password=\"[secret]"),
        ("Passwort: geheim.", "Passwort: [secret]."),
        ("client_secret: 'a b'", "client_secret: '[secret]'"),
    ]
    .map(|(a, b)| (k(a), b));
    check(&cases.iter().map(|(a, b)| (a.as_str(), *b)).collect::<Vec<_>>());
}

#[test]
fn within_text() {
    check(&[
        ("Mail a@b.com, c@d.org; or +49 30 123456.", "Mail [email], [email]; or [phone]."),
        ("git@github.com:org/repo.git", "[email]:org/repo.git"),
        ("mailto:bob@example.com?subject=x", "mailto:[email]?subject=x"),
        ("1,4111111111111111,12/26", "1,[card],12/26"),
        ("0301234567,5,foo", "[phone],5,foo"),
        ("tel:+4930123456", "tel:[phone]"),
        ("IBAN: DE89 3704 0044 0532 0130 00 BIC: X", "IBAN: [iban] BIC: X"),
        ("at 10:30 call 030 1234567 until 12:00", "at 10:30 call [phone] until 12:00"),
        ("030 1234567 10:30", "[phone] 10:30"),
        ("[email] and [phone]", "[email] and [phone]"),
    ]);
}

/// As people see it, and as it is written.
#[test]
fn other_forms_hide_nothing() {
    check(&[
        ("mail john＠example.com now", "mail [email] now"),
        ("mail john\u{200b}@exam\u{ad}ple.com, you", "mail [email], you"),
        ("ｊｏｈｎ＠ｅｘａｍｐｌｅ．ｃｏｍ", "[email]"),
        ("tel ＋４９ １７０ １２３４５６７.", "tel [phone]."),
        ("tel +٤٩١٧٠١٢٣٤٥٦٧.", "tel [phone]."),
        ("tel +49\u{2010}170\u{2212}1234567.", "tel [phone]."),
        ("４１１１ １１１１\u{3000}１１１１ １１１１", "[card]"),
        ("4111\u{200b}1111\u{200b}1111\u{200b}1111", "[card]"),
        ("ＤＥ８９ ３７０４ ００４４ ０５３２ ０１３０ ００", "[iban]"),
        ("password：hunter2", "password：[secret]"),
        ("pass\u{ad}word=hunter2 größe", "pass\u{ad}word=[secret] größe"),
        ("｀größe…½ ｆｕｌｌ", "｀größe…½ ｆｕｌｌ"),
        ("２０２４－０１－１５ １２：３０", "２０２４－０１－１５ １２：３０"),
        ("4111.1111.1111.1111 and 4111_1111_1111_1111.", "[card] and [card]."),
        ("4111 1111\n1111 1111 is it", "[card] is it"),
        ("mailto:john%40example.com?x", "mailto:[email]?x"),
        ("<password>hunter2</password>", "<password>[secret]</password>"),
        ("<db:Password x='1'>hunter 2</db:Password>", "<db:Password x='1'>[secret]</db:Password>"),
        ("password:\n  hunter2\nnext: 1", "password:\n  [secret]\nnext: 1"),
        ("apiKey:\r\n  \"hunter2\"\r\n", "apiKey:\r\n  \"[secret]\"\r\n"),
        ("mysql --password hunter2 -u x", "mysql --password [secret] -u x"),
        ("x --api-key 'a b' y", "x --api-key '[secret]' y"),
        (r#"{"a":"x\njohn@example.com\u0021"}"#, r#"{"a":"x\n[email]\u0021"}"#),
    ]);
}

#[test]
fn these_stay() {
    let redactor = all();
    let texts = [
        "The quick brown fox jumps over the lazy dog.",
        "xoxo, xox-Ab3dEf6hIj9lMn2p, xoxo-Ab3dEf6hIj9lMn2p, and xoxbAb3dEf6hIj9lMn2p xox",
        "Der Zug um 08:15 am 01.02.2024 kostet 1.234,56 EUR.",
        "Le 14/07/2024 à 20h30, place n° 12.",
        "El año 2019-2024 fue bueno; 3 de 4.",
        "2024-01-15T10:30:00+01:00",
        "2024-01-15 10:30:00,123 INFO [main] x=5 took 1200 ms",
        "01/02/2024 - 03/02/2024",
        "01-02-2024 10:00",
        "01.02.24 10:00",
        "02/03/2024 1234",
        "version 1.2.3, v10.20.30-rc.1, lodash@4.17.21, react@18.2.0",
        "192.168.1.1 10.0.0.255 255.255.255.255:8080 fe80::1",
        "$1,234,567.89 and 1 234 567,89 €",
        "550e8400-e29b-41d4-a716-446655440000",
        "01234567-8901-2345-6789-012345678901",
        "4111111111111112",
        "4111 1111 1111 1112",
        "DE89370400440532013001",
        "DE89 3704 0044 0532 0130 01",
        "order 123456789012",
        "1700000000",
        "1700000000000",
        "1700000000.123456",
        "commit 0a1b2c3d4e5f60718293a4b5c6d7e8f901234567",
        "d41d8cd98f00b204e9800998ecf8427e",
        "ISBN 978-3-16-148410-0",
        "ISBN 0-306-40615-2",
        "ISBN 0306406152",
        "ISBN-10: 0306406152",
        "@Override public void run() {}",
        "a @ b",
        "@app.route('/x')",
        "x = a@b",
        "C = A @ B.T",
        "@media (min-width: 100px)",
        "user@localhost",
        "https://medium.com/@user/post",
        "foo(@x)",
        "3.14159265358979",
        "0.4111111111111111",
        "0.1234567890",
        "1e+10",
        "+1,000,000",
        "+1 000 000 people",
        "x+1234567",
        "@@ -10,7 +10,8 @@",
        "pages 123-4567",
        "12 345 678",
        "| 1 | 2 | 3 |\n|---|---|---|\n| 10 | 20 | 30 |",
        "0800-1700",
        "01 02 03 04 05",
        "0x0123456789abcdef",
        "0123456789",
        "0123456789abcdef",
        "000123456",
        "max_tokens: 1000",
        "\"max_tokens\": 4096",
        "token: string",
        "password: str",
        "password: String,",
        "let token = Token::new(x);",
        "password = get_password()",
        "token = self.next_token()",
        "if token == other {",
        "self.token = token",
        "\"eos_token\": \"<|endoftext|>\"",
        "\"bos_token\": \"<s>\", \"unk_token\": \"[UNK]\"",
        "api_key = os.environ[\"KEY\"]",
        "api_key=$API_KEY",
        "Authorization: Bearer $TOKEN",
        "Authorization: Bearer <token>",
        "password: null",
        "PWD=/home/me",
        "The secret: be kind.",
        "token: a piece of a word",
        "secret::Key",
        "sk-learn",
        "task-force-of-the-united-nations",
        "sk-fading-circle-and-more-of-it",
        "eyJhbGciOi",
        "npm_config_cache",
        "https://example.com:8080/a@b",
        "http://user@host/x",
        "Bearer of bad news and many other things",
        "SG.com",
        "AKIARA",
        "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----",
        "-----BEGIN PUBLIC KEY-----\nMII\n-----END PUBLIC KEY-----",
        "{\"id\": 1234567890123, \"n\": [1, 2, 3]}",
        "sum_{i=0}^{100} i^2 = 338350",
        "日本語の文章です。2024年1月15日、10時30分。",
        "Привет, мир! 15.01.2024",
        "a: b\nkey: value\nname = x",
        "match token { Token::A => 1, }",
        "fn f(password: &str, token: &Token) -> u32",
        "key=value; sig=short",
        "01067 Dresden",
        "00:00:00.000000",
        "1 1 1 1 1 1",
        "AD 2024, GB 12 and DE 89",
        "password=\"\"",
        "password = password",
        "token=%s",
        "13:45:12.345678 [0012] GET /v1/x 200 0.012",
        "51 23 45 67 89 12 34 11 22",
        "Room 0.12, bus 010 20",
        "4111\n1111\n1111\n1111",
        "4111 1111\n1111\n1111 1111",
        "4111.111111111111",
        "4111_111111111111.csv",
        "100%40 of 100%, a%40b",
        "<password></password> <password>${PW}</password> <password>string</password> <passwords>none</passwords>",
        "<input type=\"password\"></input>",
        "password:\n  type: string\n  maxLength: 20",
        "password:\n  string",
        "Enter your password:\n  then2 press return",
        "password:\nhunter2 was here",
        "use the --password option, --password to ask, --token x1",
        "--password $PASSWORD --password <password> --password-file /run/secrets/a1b2c3",
        "|----|----|",
        "",
    ];
    let wrong: Vec<_> = texts
        .iter()
        .map(|text| (text, redactor.redact(text)))
        .filter(|(_, got)| !matches!(got, Cow::Borrowed(_)))
        .map(|(t, g)| format!("{t} -> {g}\n"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn a_cut_key_goes_too() {
    let text = format!("-----BEGIN RSA PRIVATE {}-----\nMIIabc\ndef==", "KEY");
    assert_eq!(all().redact(&text), "[secret]");
}

#[test]
fn only_what_is_asked_for() {
    let redactor = Redactor::new(&[Class::Phone], &[("badge".to_owned(), r"(?i)\bemp-\d+\b".to_owned())]).unwrap();
    assert_eq!(redactor.redact("a@b.com EMP-12 +49 30 123456"), "a@b.com [badge] [phone]");
    assert_eq!(Redactor::new(&[], &[]).unwrap().redact("a@b.com"), "a@b.com");
}

#[test]
fn bad_patterns_are_refused() {
    let build =
        |name: &str, pattern: &str| Redactor::new(&[], &[(name.to_owned(), pattern.to_owned())]).map(|_| ()).map_err(|why| why.to_string());
    assert!(build("x", "a*").unwrap_err().contains("'x' matches the empty string"));
    assert!(build("x", "(").unwrap_err().contains("'x'"));
    assert!(build("x", r"(?:\w{100}){1000}").unwrap_err().contains("'x'"));
    assert!(build("a b", "a").is_err() && build("", "a").is_err());
    assert!(build("x", r"\d+").is_ok());
}

const HOSTILE: &[&str] = &[
    "1 1 1 1 ",
    "a@a@a@",
    "+1 +1",
    "0",
    "01 ",
    "0-",
    "(0",
    "4",
    "4444 ",
    "DE89 ",
    "DE89",
    "password=",
    "password:\"",
    "authorization=",
    "token:token",
    "sk-",
    "eyJ-",
    "eyJ.",
    "SG.",
    "://",
    "://a:",
    "a.",
    "@a.",
    "[",
    "-----BEGIN PRIVATE KEY-----",
    "Bearer ",
    "sig=",
    "\\\"",
    "password=\\\"x",
    "api_key=<",
    "=",
    "é",
    "'password=",
    "ghp_",
    "xox",
    "xoxb-",
    "x@y.zz ",
    "[email]",
    "--password '",
    "</password>",
    "password:\n x",
    "a%40a.",
    "\\u0040",
    "\\\\",
    "a＠b.",
    "4111.\n",
];

#[test]
fn hostile_lengths_finish() {
    let redactor = all();
    for (index, piece) in HOSTILE.iter().enumerate() {
        // A megabyte of each takes long without optimisation; quadratic time shows in less.
        let len = if index < 3 { 1 << 20 } else { 1 << 17 };
        let _ = redactor.redact(&piece.repeat(len / piece.len()));
    }
}

/// Each is found only when the one before it is gone.
#[test]
fn a_row_of_any_length_goes() {
    for (piece, count) in [("+49 30345", 5), ("+49 30345", 1000), ("a@b.de+49 30345", 50)] {
        let text = format!("first\n{}\nlast", piece.repeat(count));
        let once = all().redact(&text).into_owned();
        assert_eq!(all().redact(&once), once, "{count} times {piece}");
        assert!(!once.contains("30345") && once.starts_with("first\n[") && once.ends_with("]\nlast"), "{once}");
    }
}

fn canaries() -> Vec<String> {
    [EMAILS, PHONES, IBANS, CARDS].iter().flat_map(|list| list.iter().map(|value| (*value).to_owned())).chain(secrets()).collect()
}

proptest! {
    #[test]
    fn twice_is_once(text in "\\PC{0,80}", pieces in proptest::collection::vec(any::<prop::sample::Index>(), 0..6), glue in "[ .,:;@+()/\\-=\"'0-9a-z\\[\\]]{0,12}") {
        let canaries = canaries();
        let extra = ["password=", "token: ", "[email]", "[secret]", "https://u:", "Bearer ", "01", "@", "=\"", "+49", "％40", "\\u0040", "\u{200b}", "٤٩", "--password ", "\\n", "</password>", "Authorization: Basic "];
        let mut mixed = text;
        for piece in pieces {
            mixed += &glue;
            mixed += if piece.index(2) == 0 { extra[piece.index(extra.len())] } else { &canaries[piece.index(canaries.len())] };
        }
        let own = [("own".to_owned(), r"\[?[a-z]{3}\]?\d".to_owned()), ("ends".to_owned(), "^z.|x$".to_owned())];
        for redactor in [all(), &Redactor::new(&[Class::Email, Class::Phone, Class::Card], &own).unwrap()] {
            let once = redactor.redact(&mixed).into_owned();
            prop_assert_eq!(redactor.redact(&once), once.as_str(), "{}", mixed);
        }
    }

    #[test]
    fn no_canary_survives(left in "([A-Za-zäß]{1,9}[ ,.\n]{1,2}){0,8}", right in "([ ,.\n]{1,2}[A-Za-zäß]{2,9}){0,8}", which in any::<prop::sample::Index>(), around in any::<prop::sample::Index>()) {
        let pairs = [(" ", " "), ("\"", "\""), ("'", "'"), ("(", ")"), ("\n", "\n"), ("<", ">"), (": ", "."), ("=", ","), ("\\n", "\\n"), ("[", "]"), ("—", "!"), ("`", "`"), (",", ";"), ("\t", "\r\n")];
        let canaries = canaries();
        let (canary, (before, after)) = (&canaries[which.index(canaries.len())], pairs[around.index(pairs.len())]);
        let text = format!("{left}{before}{canary}{after}{right}");
        let got = all().redact(&text).into_owned();
        prop_assert!(!got.contains(canary.as_str()) && got.contains('['), "{} -> {}", text, got);
        // Nor most of it.
        let middle: String = canary.chars().skip(canary.chars().count() / 4).take(canary.chars().count() / 2).collect();
        prop_assert!(!got.contains(&middle) || middle.len() < 5, "{} -> {}", text, got);
    }

    #[test]
    fn any_text_is_survived(text in any::<String>(), pieces in "[@+0-9a-zé \u{a0}\u{202f}\\\\\"'=:/.\\[\\]-]{0,60}") {
        let redactor = all();
        let _ = redactor.redact(&text);
        let _ = redactor.redact(&pieces);
    }
}
