//! Requests that mean the same are answered once, and those that only look alike are not.

use serde_json::{Value, json};
use spillway_testkit::backend::{Reply, ScriptedBackend, Step};
use spillway_testkit::client::Response;
use spillway_testkit::embeddings;

use crate::support::*;

/// A chat backend that numbers its answers.
async fn numbering() -> ScriptedBackend {
    let count = std::sync::atomic::AtomicUsize::new(0);
    ScriptedBackend::start(move |_| {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        Reply::json(200, answer(&format!("answer {number}")))
    })
    .await
}

/// A gateway's config with a chat pool, a pool that embeds, and the cache.
fn config_of(chat: &ScriptedBackend, embeds: &ScriptedBackend, semantic: &str, rest: &str) -> String {
    let pool = format!(
        "\n[[backends]]\nname = \"embeds\"\nkind = \"openai\"\nurl = \"{}\"\nlocation = \"eastus\"\nprices = {{ e = {{ input = 1.0 }} }}\n\n\
         [[pools]]\nname = \"embeddings\"\nmodels = [\"e\"]\nmembers = [{{ backend = \"embeds\" }}]\n",
        embeds.url()
    );
    let cache = format!(
        "[plugins.cache]\nexact = {{}}\n[plugins.cache.semantic]\nembeddings = \"embeddings\"\nthreshold = 0.9\nlimit = \"5s\"\n{semantic}\n"
    );
    let a = Member { name: "a", backend: chat, priority: 1, extra: "location = \"swedencentral\"" };
    config(&[a], "", &(pool + &cache + rest))
}

fn question(text: &str) -> Value {
    json!({ "model": "m", "messages": [{ "role": "system", "content": "be kind" }, { "role": "user", "content": text }] })
}

fn told(answer: &Response) -> (String, String) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let text = answer.json()["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    (answer.header("x-spillway-cache").unwrap_or("none").to_owned(), text)
}

fn pair(result: &str, text: &str) -> (String, String) {
    (result.to_owned(), text.to_owned())
}

#[tokio::test]
async fn a_similar_question_gets_the_answer_and_its_score() {
    let (chat, embeds) = (numbering().await, embeddings::start().await);
    let folder = tempfile::tempdir().unwrap();
    let rest = consumer("crm", "models = [\"m\"]") + "[ledger]\ndurability = \"strict\"\n";
    let text = config_of(&chat, &embeds, "", &rest).replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    let ask = async |text: &str| ask_as(gateway.address, "crm", &question(text)).await;
    assert_eq!(told(&ask("how do i reset the password please").await), pair("miss", "answer 1"));
    let near = ask("please how do i reset the password").await;
    assert_eq!(told(&near), pair("semantic", "answer 1"));
    let score: f32 = near.header("x-spillway-cache-score").unwrap().parse().unwrap();
    assert!((0.9..=1.0).contains(&score), "{score}");
    assert_eq!((near.header("age"), near.header("x-spillway-backend")), (Some("0"), Some("a")));
    // The same again is no question at all.
    assert_eq!(told(&ask("how do i reset the password please").await), pair("hit", "answer 1"));
    assert_eq!(told(&ask("what is the weather like here").await), pair("miss", "answer 2"));
    assert_eq!((chat.count(), embeds.count()), (2, 3));
    // Embeddings are accounted for, to the one who asked, though it may not use the model itself.
    let rows = ledger_rows(folder.path());
    let of = |api: &str| rows.iter().filter(|row| row["api"] == api).collect::<Vec<_>>();
    assert_eq!(of("embeddings").len(), 3);
    for row in of("embeddings") {
        assert_eq!((&row["consumer"], &row["model"]), (&json!("crm"), &json!("e")), "{row:#}");
        assert!((6..=7).contains(&row["input_tokens"].as_i64().unwrap()), "{row:#}");
        assert!(row["cost_usd"].as_f64().unwrap() > 0.0);
    }
    let hit = of("chat").into_iter().find(|row| row["cache"] == "semantic").unwrap();
    assert_eq!((&hit["cost_usd"], &hit["backend"]), (&json!(0.0), &json!("cache")));
    assert_eq!(gateway.metric("spillway_cache_requests_total{result=\"semantic\"}").await, 1.0);
    // An outsider can't ask as the gateway.
    let request = spillway_testkit::client::post("/v1/embeddings", &[("x-spillway-internal", "1")], b"{\"model\":\"e\",\"input\":\"x\"}");
    assert_eq!(spillway_testkit::client::ask(gateway.address, request).await.unwrap().status, 401);
}

#[tokio::test]
async fn what_only_looks_alike_is_asked() {
    let (chat, embeds) = (numbering().await, embeddings::start().await);
    let gateway = Gateway::start(&config_of(&chat, &embeds, "threshold = 0.5", "").replacen("threshold = 0.9\n", "", 1)).await;
    let ask = async |body: &Value| told(&gateway.post("/v1/chat/completions", body).await).0;
    let base = "please convert the sum of 10 euro to dollars for me today";
    assert_eq!(ask(&question(base)).await, "miss");
    for other in [
        "please convert the sum of 20 euro to dollars for me today",
        "please convert the sum of 10 dollars to euro for me today",
        "please do not convert the sum of 10 euro to dollars for me today",
        "please convert the sum of 10 euro to dollars for me tomorrow",
        "please convert the sum of 10 euro to dollars for \"me\" today",
    ] {
        assert_eq!(ask(&question(other)).await, "miss", "{other}");
    }
    let mut body = question(base);
    body["messages"][0]["content"] = json!("be rude");
    assert_eq!(ask(&body).await, "miss", "another system prompt");
    let mut body = question(base);
    body["temperature"] = json!(0.1);
    assert_eq!(ask(&body).await, "miss", "another parameter");
    let mut body = question(base);
    body["messages"]
        .as_array_mut()
        .unwrap()
        .extend([json!({ "role": "assistant", "content": "x" }), json!({ "role": "user", "content": base })]);
    assert_eq!(ask(&body).await, "miss", "a conversation");
    assert_eq!(ask(&question("please convert for me the sum of 10 euro to dollars today")).await, "semantic");
}

#[tokio::test]
async fn consumers_do_not_get_each_others_similar_answers_nor_those_from_beyond_their_fence() {
    let (chat, embeds) = (numbering().await, embeddings::start().await);
    let team = "cache = { namespace = \"team\" }\n";
    let rest = consumer("a", "")
        + &consumer("b", "")
        + &consumer("c", team)
        + &consumer("d", team)
        + &consumer("fenced", &format!("{team}locations = [\"eastus\"]"));
    let gateway = Gateway::start(&config_of(&chat, &embeds, "", &rest)).await;
    let ask = async |caller: &str, text: &str| ask_as(gateway.address, caller, &question(text)).await;
    for (caller, text, expected) in [
        ("a", "tell me of the company", "miss"),
        ("b", "of the company tell me", "miss"),
        ("a", "of the company tell me", "semantic"),
        ("c", "tell me of the company", "miss"),
        ("d", "of the company tell me", "semantic"),
    ] {
        assert_eq!(told(&ask(caller, text).await).0, expected, "{caller}");
    }
    assert_ne!(ask("fenced", "of the company tell me").await.status, 200, "nobody serves it there");
}

#[tokio::test]
async fn an_embedding_that_fails_or_is_late_is_a_miss() {
    let chat = numbering().await;
    for (what, reply) in [
        ("an error", Reply::json(500, "{}")),
        ("late", Reply::json(200, " ").then(Step::Hang).chunked()),
        ("nothing", Reply::json(200, "{\"data\":[]}")),
        ("rubbish", Reply::json(200, "[]")),
    ] {
        let embeds = ScriptedBackend::start(move |_| reply.clone()).await;
        let gateway = Gateway::start(&config_of(&chat, &embeds, "", "").replace("limit = \"5s\"", "limit = \"100ms\"")).await;
        let answer = gateway.post("/v1/chat/completions", &question("hello there")).await;
        assert_eq!(told(&answer).0, "miss", "{what}");
        assert_eq!(gateway.metric("spillway_cache_embedding_failures_total").await, 1.0, "{what}");
        eventually("nothing is held", async || gateway.metric("spillway_in_flight_requests").await == 0.0).await;
    }
}

#[tokio::test]
async fn what_is_known_survives_a_restart_within_its_bound() {
    let (chat, embeds) = (numbering().await, embeddings::start().await);
    let folder = tempfile::tempdir().unwrap();
    let text = config_of(&chat, &embeds, "max_entries = 2", "").replace("#server", &state_dir(folder.path()));
    let gateway = Gateway::start(&text).await;
    for text in ["first thing to know", "second matter of interest", "third question about life"] {
        assert_eq!(told(&gateway.post("/v1/chat/completions", &question(text)).await).0, "miss");
    }
    gateway.running.stop(std::future::pending()).await;
    let gateway = Gateway::start(&text).await;
    for (text, expected) in
        [("of interest second matter", "semantic"), ("question about life third", "semantic"), ("thing to know first", "miss")]
    {
        assert_eq!(told(&gateway.post("/v1/chat/completions", &question(text)).await).0, expected, "{text}");
    }
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(folder.path().join("semantic-cache.sqlite")).unwrap().permissions());
    assert_eq!(mode & 0o077, 0, "nobody else reads it");
    // A broken one is begun anew.
    gateway.running.stop(std::future::pending()).await;
    std::fs::write(folder.path().join("semantic-cache.sqlite"), "rubbish".repeat(1000)).unwrap();
    let _ = std::fs::remove_file(folder.path().join("semantic-cache.sqlite-wal"));
    let gateway = Gateway::start(&text).await;
    assert_eq!(told(&gateway.post("/v1/chat/completions", &question("of interest second matter")).await).0, "miss");
}

#[tokio::test]
async fn a_dry_run_tells_what_would_be_answered() {
    let (chat, embeds) = (numbering().await, embeddings::start().await);
    let process = Process::launch(&config_of(&chat, &embeds, "dry_run = true", ""), &[]).await;
    for text in ["tell me all about a@b.example and more", "all about a@b.example and more tell me"] {
        let request = spillway_testkit::client::post("/v1/chat/completions", &[], question(text).to_string().as_bytes());
        assert_eq!(told(&spillway_testkit::client::ask(process.address, request).await.unwrap()).0, "miss");
    }
    eventually("it is told", async || process.log().contains("would be answered")).await;
    assert!(process.log().contains("tell me all about [email] and more") && !process.log().contains("a@b.example"), "{}", process.log());
    assert_eq!(process.metric("spillway_cache_dry_run_hits_total").await, 1.0);
}
