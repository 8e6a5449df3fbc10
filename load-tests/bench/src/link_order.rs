//! Which functions a gateway calls while it starts and serves usual traffic: `gateway/link-order.txt`, in whose order the
//! release's program is linked (docs/decisions/0069).

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::backend::Backend;
use crate::callers::{self, Case};
use crate::certificates::Certificates;
use crate::features;
use crate::process::{Proxy, Variant};
use crate::profile::callgrind;

/// Requests on each connection: so many that whatever happens now and then has happened.
const REQUESTS: usize = 20;
const STREAMS: usize = 3;
/// How long a gateway is left alone before it gets requests, and after them.
const IDLE: Duration = Duration::from_secs(5);
/// The same of the gateway with the usual config: it does some of its work once a minute.
const MINUTE: Duration = Duration::from_secs(75);
/// Streams that are open at once, for what happens only if there are many: most of their answers aren't read on when the callers leave.
const MANY: usize = 1000;

/// Prints the names of functions as the linker knows them: those that a gateway with the usual config calls before there are
/// requests, those that its requests call, and those that other configs add. So what is used together lies together. Each part
/// is sorted, so that the file changes little.
pub async fn print(gateway: &Path) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let directory = directory.path();
    let log = features::prompt_log(directory);
    let certificates = Certificates::new(directory);
    let (clear, secured) = (Backend::start().await, Backend::start_tls(&certificates).await);
    let usual = Variant::default();
    let variants = [
        (&clear, usual),
        (&clear, Variant { name: "cache", rest: features::CACHE, ..usual }),
        (&clear, Variant { name: "log", rest: &log, ..usual }),
        (&clear, Variant { name: "pingora", fast_path: false, ..usual }),
        (&secured, Variant { name: "tls", tls: Some(&certificates), ..usual }),
    ];
    let program = gateway.canonicalize().expect("the program").display().to_string();
    let mut parts = [const { BTreeSet::new() }; 3];
    for (backend, variant) in variants {
        let file = directory.join(format!("callgrind-{}", variant.name));
        let output = format!("--callgrind-out-file={}", file.display());
        let wrapper = ["valgrind", "--tool=callgrind", "--demangle=no", "--quiet", &output];
        let proxy = Proxy::wrapped(&wrapper, gateway, directory, backend, variant).await;
        let idle = if variant.name == usual.name { MINUTE } else { IDLE };
        // What happens without requests belongs to the start.
        tokio::time::sleep(idle).await;
        callgrind("--dump", proxy.id());
        // A cache answers what asks for no stream without one.
        traffic(&proxy, variant.rest == features::CACHE).await;
        if variant.name == usual.name {
            callers::run_count(&proxy, Case::Plain { body: 120_000, refuse: false }, REQUESTS).await;
            drop(callers::hold_streams(proxy.address, MANY).await);
        }
        tokio::time::sleep(idle).await;
        callgrind("--dump", proxy.id());
        drop(proxy);
        for (number, dump) in ["1", "2"].into_iter().enumerate() {
            let part = if variant.name == usual.name { number } else { 2 };
            let dump = std::fs::read_to_string(file.with_extension(dump)).expect("callgrind's dump");
            parts[part].extend(called(&dump, &program).into_iter().map(str::to_owned));
        }
    }
    let mut printed = BTreeSet::new();
    for name in parts.iter().flatten().filter(|name| printed.insert(name.as_str())) {
        println!("{name}");
    }
}

async fn traffic(proxy: &Proxy, cached: bool) {
    for case in crate::CASES.map(|(_, case, _)| case).into_iter().filter(|case| !(cached && matches!(case, Case::Stream))) {
        callers::run_count(proxy, case, if matches!(case, Case::Stream) { STREAMS } else { REQUESTS }).await;
    }
    callers::run_count(proxy, Case::Unique, REQUESTS).await;
    if proxy.trust.is_none() && !cached {
        drop(callers::hold_streams(proxy.address, 10).await);
    }
    for path in ["/metrics", "/", "/api/status"] {
        get(proxy.admin.expect("a gateway"), path).await;
    }
}

/// Asks for a page, and reads it to its end.
async fn get(address: SocketAddr, path: &str) {
    let mut tcp = TcpStream::connect(address).await.expect("the admin listener");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.expect("a request");
    let mut page = Vec::new();
    tcp.read_to_end(&mut page).await.expect("a page");
}

/// Names of the program's functions that have costs of their own in a file of callgrind's (its manual, "Callgrind Format
/// Specification").
fn called<'a>(dump: &'a str, program: &str) -> Vec<&'a str> {
    let (mut objects, mut functions) = (HashMap::new(), HashMap::new());
    let mut object = "";
    let mut called = Vec::new();
    for line in dump.lines() {
        let Some((kind, name)) = line.split_once('=') else { continue };
        let (id, name) = name.split_once(' ').unwrap_or((name, ""));
        match kind {
            "ob" | "cob" => {
                let name = known(&mut objects, id, name);
                object = if kind == "ob" { name } else { object };
            }
            "fn" | "cfn" => {
                // A number after an apostrophe is the depth of a recursion; a function without a name has its address, or stands in brackets.
                let name = known(&mut functions, id, name.split('\'').next().unwrap_or(name));
                if kind == "fn" && object == program && !name.starts_with(['0', '(']) {
                    called.push(name);
                }
            }
            _ => {}
        }
    }
    called
}

/// The name of a number; a file tells it once.
fn known<'a>(names: &mut HashMap<&'a str, &'a str>, id: &'a str, name: &'a str) -> &'a str {
    if name.is_empty() { names.get(id).copied().unwrap_or("") } else { names.entry(id).insert_entry(name).get() }
}
