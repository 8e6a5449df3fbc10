//! Whom a client certificate names. That it is genuine was checked when the connection was made.

use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};

/// The names in a certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// The subject as RFC 4514 writes it, most general part last: `CN=app,O=Contoso`.
    pub subject: String,
    /// DNS names, URIs and mail addresses of its subject alternative name.
    pub alternatives: Vec<String>,
}

/// Reads the names out of a certificate (DER); `None` if it can't be read.
pub fn names(der: &[u8]) -> Option<CertificateNames> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut parts = Vec::new();
    for set in certificate.subject().iter() {
        for attribute in set.iter() {
            let value = attribute.as_str().ok()?;
            let name = x509_parser::objects::oid2abbrev(attribute.attr_type(), x509_parser::objects::oid_registry())
                .map_or_else(|_| attribute.attr_type().to_id_string(), str::to_owned);
            parts.push(format!("{name}={}", escaped(value)));
        }
    }
    parts.reverse();
    let mut alternatives = Vec::new();
    for extension in certificate.extensions() {
        let ParsedExtension::SubjectAlternativeName(san) = extension.parsed_extension() else { continue };
        for name in &san.general_names {
            match name {
                // Names of hosts and mail hosts don't know case.
                GeneralName::DNSName(name) => alternatives.push(name.to_ascii_lowercase()),
                GeneralName::RFC822Name(name) => alternatives.push((*name).to_owned()),
                GeneralName::URI(name) => alternatives.push((*name).to_owned()),
                _ => {}
            }
        }
    }
    Some(CertificateNames { subject: parts.join(","), alternatives })
}

/// RFC 4514, 2.4: what would otherwise end a part or begin another.
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
