//! nginx and HAProxy (Debian's packages) as proxies of the same requests, so that a reader sees the whole scale. They
//! do nothing but pass on; a proxy that is not installed has no row.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::backend::Backend;
use crate::callers::Case;
use crate::process::{Proxy, free_port};
use crate::{TURNS, Turns, median};

/// Prints what a 1 KiB request and a chunk of a stream cost with each, of the floor's.
pub async fn costs(directory: &Path, backend: &Backend, floor: &mut Proxy, turn: Duration) {
    for name in ["nginx", "haproxy"] {
        let Some(program) = installed(name) else {
            println!("{name:<32} is not installed: no row");
            continue;
        };
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut proxy = match name {
            "nginx" => nginx(&program, directory, backend, address).await,
            _ => haproxy(&program, directory, backend, address).await,
        };
        let mut ratios = Vec::new();
        for case in [Case::Plain { body: 1 << 10, refuse: false }, Case::Stream] {
            let mut turns = Turns::new(&mut proxy, floor, case).await;
            let mut all = Vec::new();
            for _ in 0..TURNS / 2 {
                let (theirs, floors) = turns.take(turn).await;
                all.push(theirs / floors);
            }
            ratios.push(median(&mut all));
        }
        println!("{name:<32}{:>8.2} of the floor's for 1 KiB, {:.2} for a chunk", ratios[0], ratios[1]);
    }
}

fn installed(name: &str) -> Option<String> {
    ["/usr/sbin", "/usr/bin"].iter().map(|folder| format!("{folder}/{name}")).find(|path| Path::new(path).exists())
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("the config is written");
    path.display().to_string()
}

/// One process, so that its processor time is all of it.
async fn nginx(program: &str, directory: &Path, backend: &Backend, address: SocketAddr) -> Proxy {
    let folder = directory.display();
    let text = format!(
        "daemon off;\nmaster_process off;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log {folder}/nginx.error;\n\
         events {{ worker_connections 4096; }}\n\
         http {{\n access_log {folder}/nginx.log;\n client_body_temp_path {folder}/body;\n proxy_temp_path {folder}/proxy;\n\
         fastcgi_temp_path {folder}/fastcgi;\n uwsgi_temp_path {folder}/uwsgi;\n scgi_temp_path {folder}/scgi;\n\
         keepalive_requests 1000000;\n client_max_body_size 10m;\n client_body_buffer_size 2m;\n\
         upstream backend {{ server {}; keepalive 128; keepalive_requests 1000000; }}\n\
         server {{ listen {address}; location / {{ proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering off; }} }}\n}}\n",
        backend.second
    );
    let config = write(directory, "nginx.conf", &text);
    Proxy::other(program, &["-c", &config, "-e", &format!("{folder}/nginx.start")], address).await
}

/// Without `http-no-delay` it lets chunks wait for the next ones.
async fn haproxy(program: &str, directory: &Path, backend: &Backend, address: SocketAddr) -> Proxy {
    let text = format!(
        "global\n nbthread 1\n\ndefaults\n mode http\n option http-no-delay\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n http-reuse always\n\n\
         frontend in\n bind {address}\n default_backend out\n\nbackend out\n server one {}\n",
        backend.second
    );
    let config = write(directory, "haproxy.cfg", &text);
    Proxy::other(program, &["-db", "-f", &config], address).await
}
