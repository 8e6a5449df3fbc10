//! The names in a client certificate. The TLS handshake has verified the certificate.

use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

/// The names in a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// The subject as in RFC 4514, most general part last: `CN=app,O=Contoso`.
    pub subject: String,
    /// DNS names, URIs and mail addresses of its subject alternative name.
    pub alternatives: Vec<String>,
}

/// Reads the names in a certificate (DER); `None` if it can't be parsed.
pub fn names(der: &[u8]) -> Option<CertificateNames> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut parts = Some(Vec::new());
    for attribute in certificate.subject().iter().flat_map(|set| set.iter()) {
        // A subject that can't be decoded can't match; the alternative names still can.
        let part = attribute.as_str().ok().map(|value| format!("{}={}", short_name(&attribute.attr_type().to_id_string()), escaped(value)));
        parts = parts.zip(part).map(|(mut parts, part)| {
            parts.push(part);
            parts
        });
    }
    let mut parts = parts.unwrap_or_default();
    parts.reverse();
    let mut alternatives = Vec::new();
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(san) = extension.parsed_extension() else { continue };
        for name in &san.general_names {
            match name {
                // Host names are not case-sensitive.
                GeneralName::DNSName(name) => alternatives.push(name.to_ascii_lowercase()),
                GeneralName::RFC822Name(name) => alternatives.push((*name).to_owned()),
                GeneralName::URI(name) => alternatives.push((*name).to_owned()),
                _ => {}
            }
        }
    }
    Some(CertificateNames { subject: parts.join(","), alternatives })
}

/// The names of attributes as `openssl -nameopt rfc2253` prints them; others have their number.
fn short_name(id: &str) -> &str {
    match id {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.42" => "GN",
        "2.5.4.43" => "initials",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        other => other,
    }
}

/// Escapes as in RFC 4514, 2.4: characters that would end a part or begin another one.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for (at, letter) in value.char_indices() {
        let edge = (at == 0 && matches!(letter, ' ' | '#')) || (at + 1 == value.len() && letter == ' ');
        if edge || matches!(letter, '"' | '+' | ',' | ';' | '<' | '>' | '\\') {
            text.push('\\');
        }
        text.push(letter);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_a_part_is_escaped() {
        assert_eq!(escaped("Contoso, Inc."), "Contoso\\, Inc.");
        assert_eq!(escaped(" #a+b "), "\\ #a\\+b\\ ");
        assert_eq!(escaped("#a"), "\\#a");
        assert_eq!(escaped("Müller"), "Müller");
    }

    #[test]
    fn garbage_has_no_names() {
        assert!(names(b"").is_none() && names(b"garbage").is_none());
    }
}
