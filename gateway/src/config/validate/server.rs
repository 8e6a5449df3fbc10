//! `[server]`.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{portal, sign_in};
use crate::config::checker::Checker;
use crate::config::raw::{RawClientAuth, RawCors, RawServer, RawServerTls, RawTlsVersion};
use crate::config::{Server, ServerTls};

pub(super) fn read(raw: &RawServer, check: &mut Checker<'_>) -> Option<Server> {
    let mut listen = Vec::new();
    for (index, text) in raw.listen.iter().enumerate() {
        listen.extend(check.address(&format!("server.listen[{index}]"), text));
    }
    if raw.listen.is_empty() && check.problems.is_empty() {
        check.problem("server.listen", r#"at least one address is needed, such as "127.0.0.1:8080""#);
    }
    let admin = check.address("server.admin", raw.admin.as_deref().unwrap_or("127.0.0.1:9090"))?;
    if admin.port() != 0 && listen.contains(&admin) {
        check.problem("server.admin", format!("{admin} is a listen address already; the admin API needs one of its own"));
    }
    let admin_token = raw.admin_token.as_ref().and_then(|secret| check.secret("server.admin_token", secret));
    let sign_in = raw.sign_in.as_ref().and_then(|raw| sign_in::read(raw, check));
    if Server::is_open(admin, raw.admin_token.is_some(), raw.sign_in.is_some()) {
        check.problem(
            "server.admin",
            format!("{admin} can be reached from other machines: set admin_token or [server.sign_in], or use a loopback address"),
        );
    }
    for (index, address) in listen.iter().enumerate() {
        if address.port() != 0 && listen[..index].contains(address) {
            check.problem(&format!("server.listen[{index}]"), format!("{address} is listed twice"));
        }
    }
    let tls = raw.tls.as_ref().map(|raw| tls(raw, check));
    let others: Vec<SocketAddr> = listen.iter().copied().chain([admin]).collect();
    let portal = portal::read(raw, &others, check);
    let max_body = check.size(raw.max_body, 32 << 20, "server.max_body");
    let max_buffered = check.size(raw.max_buffered, 512 << 20, "server.max_buffered");
    if max_buffered < max_body {
        check.problem("server.max_buffered", "must be at least max_body, or the largest bodies could never be accepted");
    }
    Some(Server {
        listen,
        admin,
        admin_token,
        sign_in,
        threads: positive(raw.threads, "server.threads", check),
        max_body,
        max_buffered,
        max_connections: positive(raw.max_connections, "server.max_connections", check).unwrap_or(10_000),
        max_in_flight: positive(raw.max_in_flight, "server.max_in_flight", check).unwrap_or(10_000),
        header_timeout: check.span(raw.header_timeout, 10, "server.header_timeout"),
        body_timeout: check.span(raw.body_timeout, 30, "server.body_timeout"),
        min_body_rate: raw.min_body_rate.map_or(1 << 10, |rate| rate.0),
        write_timeout: check.span(raw.write_timeout, 30, "server.write_timeout"),
        keepalive: check.span(raw.keepalive, 75, "server.keepalive"),
        h2c: raw.h2c.unwrap_or(false),
        fast_path: raw.fast_path.unwrap_or(true),
        response_headers: raw.response_headers.unwrap_or(true),
        lb_delay: raw.lb_delay.map_or(Duration::ZERO, |delay| delay.0),
        drain_timeout: raw.drain_timeout.map_or(Duration::from_secs(300), |limit| limit.0),
        watch: raw.watch.unwrap_or(true),
        tls,
        cors_origins: raw.cors.as_ref().map_or_else(Vec::new, |cors| origins(cors, check)),
        state_dir: raw.state_dir.as_deref().map(|path| state_dir(path, check)),
        portal,
    })
}

/// Checks that a path can be that of a folder. The folder need not be there: the gateway makes it.
fn state_dir(path: &str, check: &mut Checker<'_>) -> PathBuf {
    let key = "server.state_dir";
    if path.trim().is_empty() {
        check.problem(key, "is empty, which would be the folder that the gateway is started in: name a folder, or leave it out");
    }
    let found = std::fs::metadata(path);
    if found.as_ref().is_ok_and(|found| !found.is_dir()) || found.is_err_and(|error| error.kind() == ErrorKind::NotADirectory) {
        check.problem_here(key, format!("'{path}' is, or is below, a file: name a folder"));
    }
    path.into()
}

fn origins(raw: &RawCors, check: &mut Checker<'_>) -> Vec<String> {
    for (at, origin) in raw.origins.iter().enumerate() {
        let host = origin.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).map(|(_, host)| host);
        let is_origin =
            host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '*', '@', ' ']) && *host == host.to_lowercase());
        if origin != "*" && !is_origin {
            check.problem(
                &format!("server.cors.origins[{at}]"),
                format!(
                    "'{origin}' is not an origin: write scheme, host in lower case, and optionally a port, such as \"https://app.example\""
                ),
            );
        }
    }
    raw.origins.clone()
}

fn tls(raw: &RawServerTls, check: &mut Checker<'_>) -> ServerTls {
    if raw.client_ca.is_none() && (raw.client_auth.is_some() || raw.client_crl.is_some()) {
        check.problem("server.tls", "'client_auth' and 'client_crl' need a 'client_ca'");
    }
    let tls = ServerTls {
        cert: raw.cert.as_str().into(),
        key: raw.key.as_str().into(),
        client_ca: raw.client_ca.as_ref().map(Into::into),
        client_crl: raw.client_crl.as_ref().map(Into::into),
        client_required: raw.client_auth == Some(RawClientAuth::Required),
        tls12: raw.min_version != Some(RawTlsVersion::Tls13),
    };
    if let Err(error) = crate::config::tls::load(&tls) {
        check.problem_here(&format!("server.tls.{}", error.key), error.what);
    }
    tls
}

fn positive(given: Option<usize>, key: &str, check: &mut Checker<'_>) -> Option<usize> {
    if given == Some(0) {
        check.problem(key, "must be at least 1");
    }
    given
}
