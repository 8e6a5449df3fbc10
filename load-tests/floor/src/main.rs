//! The floor: what a bare Pingora proxy costs. Pingora's own loop, a second try on 429 at the other
//! upstream, and nothing else. `floor LISTEN FIRST SECOND`, each an address; with `CERT KEY` behind them, paths of PEM
//! files, it speaks TLS towards callers and upstreams.

#![allow(clippy::disallowed_methods)] // bare is what it is

use std::net::SocketAddr;

use async_trait::async_trait;
use pingora::http::ResponseHeader;
use pingora::prelude::*;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::configuration::ServerConf;
use tikv_jemallocator::Jemalloc;

#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

struct Floor {
    upstreams: [SocketAddr; 2],
    tls: bool,
}

#[async_trait]
impl ProxyHttp for Floor {
    type CTX = usize;

    fn new_ctx(&self) -> usize {
        0
    }

    async fn upstream_peer(&self, _: &mut Session, tries: &mut usize) -> Result<Box<HttpPeer>> {
        let upstream = self.upstreams[(*tries).min(1)];
        *tries += 1;
        let mut peer = HttpPeer::new(upstream, self.tls, if self.tls { "localhost".to_owned() } else { String::new() });
        // Connections are kept, so handshakes don't count; the CA is the benchmark's own.
        (peer.options.verify_cert, peer.options.verify_hostname) = (false, false);
        Ok(Box::new(peer))
    }

    async fn upstream_response_filter(&self, _: &mut Session, head: &mut ResponseHeader, tries: &mut usize) -> Result<()> {
        if head.status == 429 && *tries < 2 {
            let mut error = Error::explain(ErrorType::HTTPStatus(429), "try the other").into_up();
            error.set_retry(true);
            return Err(error);
        }
        Ok(())
    }

    fn error_while_proxy(&self, _: &HttpPeer, _: &mut Session, mut error: Box<Error>, _: &mut usize, reused: bool) -> Box<Error> {
        error.retry.decide_reuse(reused);
        error
    }
}

fn main() {
    let addresses: Vec<String> = std::env::args().skip(1).collect();
    let [listen, first, second, tls @ ..] = addresses.as_slice() else { panic!("usage: floor LISTEN FIRST SECOND [CERT KEY]") };
    let upstreams = [first, second].map(|address| address.parse().unwrap_or_else(|error| panic!("{address}: {error}")));
    let mut server = Server::new_with_opt_and_conf(None, ServerConf { threads: 1, ..ServerConf::default() });
    server.bootstrap();
    let mut service = http_proxy_service(&server.configuration, Floor { upstreams, tls: !tls.is_empty() });
    match tls {
        [cert, key] => service.add_tls(listen, cert, key).unwrap_or_else(|error| panic!("{cert}: {error}")),
        _ => service.add_tcp(listen),
    }
    server.add_service(service);
    server.run_forever();
}
