//! Traffic that must notice nothing of what an operator does meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::{self, Connection, post};

use crate::support::*;

/// Streams and steady requests through a gateway that must notice nothing.
pub struct Traffic {
    pub process: Process,
    pub text: String,
    /// Holds the backend: it ends with the test.
    _backend: ScriptedBackend,
    stop: Arc<AtomicBool>,
    live: Arc<AtomicUsize>,
    callers: Vec<tokio::task::JoinHandle<usize>>,
}

/// Tokens that each stream tells, and each plain answer.
const TOLD: usize = 7;

impl Traffic {
    /// So many streams at once, each a few seconds long and followed by the next, and two callers that keep their
    /// connections.
    pub async fn start(streams: usize) -> Traffic {
        let backend = ScriptedBackend::start(|request| {
            let usage = format!("\"usage\":{{\"prompt_tokens\":{TOLD},\"completion_tokens\":0,\"total_tokens\":{TOLD}}}");
            if request.json()["stream"] == true {
                let mut reply = Reply::sse([role()]);
                for _ in 0..20 {
                    reply = reply.then(Step::Pause(Duration::from_millis(200))).then(Step::Write(delta("a").into_bytes()));
                }
                let end = format!("{}data: {{\"id\":\"c\",\"choices\":[],{usage}}}\n\n{DONE}", stop());
                reply.then(Step::Write(end.into_bytes()))
            } else {
                Reply::json(200, answer("x").replacen('{', &format!("{{{usage},"), 1))
            }
        })
        .await;
        let text = config(&[member("a", &backend, 1)], "", "")
            .replace("#server", "watch = false\nstate_dir = \"STATE\"\ndrain_timeout = \"60s\"\nthreads = 2");
        let process = Process::launch(&text, &[]).await;
        let text = process.text();
        let (halt, live) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut callers = Vec::new();
        for number in 0..streams + 2 {
            let (address, halt, live) = (process.address, halt.clone(), live.clone());
            callers.push(tokio::spawn(async move {
                let mut count = 0;
                let mut kept = Kept { address, connection: None };
                while !halt.load(Ordering::Relaxed) {
                    if number < 2 {
                        kept.chat().await;
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    } else {
                        live.fetch_add(1, Ordering::Relaxed);
                        kept.stream().await;
                        live.fetch_sub(1, Ordering::Relaxed);
                    }
                    count += 1;
                }
                count
            }));
        }
        let traffic = Traffic { process, text, _backend: backend, stop: halt, live, callers };
        eventually("every stream is open", async || traffic.live.load(Ordering::Relaxed) == streams).await;
        traffic
    }

    /// Lets everything finish; nothing failed, and every token is in the ledger.
    pub async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let mut asked = 0;
        for caller in self.callers {
            asked += caller.await.unwrap();
        }
        let tokens = async || {
            let rows = client::get(self.process.admin, "/api/usage?by=model").await.unwrap().json();
            let row = &rows["rows"][0];
            (row["requests"].as_u64().unwrap_or(0) as usize, row["input_tokens"].as_u64().unwrap_or(0) as usize)
        };
        let mut last = (0, 0);
        for _ in 0..3000 {
            last = tokens().await;
            if last == (asked, asked * TOLD) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{asked} requests of {TOLD} tokens, the ledger has {last:?}\n{}", self.process.log());
    }
}

/// A caller that keeps its connection for as long as it may.
struct Kept {
    address: std::net::SocketAddr,
    connection: Option<Connection>,
}

impl Kept {
    async fn connection(&mut self) -> Connection {
        match self.connection.take() {
            Some(kept) => kept,
            None => Connection::open(self.address).await.unwrap(),
        }
    }

    async fn chat(&mut self) {
        let mut connection = self.connection().await;
        connection.send(post("/v1/chat/completions", &[], chat(false).to_string().as_bytes())).await.unwrap();
        let answer = connection.answer().await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let closes = answer.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        self.connection = (!closes).then_some(connection);
    }

    async fn stream(&mut self) {
        let mut connection = self.connection().await;
        connection.send(post("/v1/chat/completions", &[], chat(true).to_string().as_bytes())).await.unwrap();
        let (status, head) = connection.answer_head().await.unwrap();
        if status != 200 {
            let length = head.header("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let text = connection.bytes(length).await.unwrap_or_default();
            panic!("{status}: {}", String::from_utf8_lossy(&text));
        }
        let mut body = Vec::new();
        while let Some(chunk) = connection.chunk().await.unwrap().filter(|chunk| !chunk.is_empty()) {
            body.extend(chunk);
        }
        let body = String::from_utf8(body).unwrap();
        assert!(body.ends_with(DONE) && body.matches("\"a\"").count() == 20, "a stream was cut:\n{body}");
        let closes = head.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        self.connection = (!closes).then_some(connection);
    }
}
