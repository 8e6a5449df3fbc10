//! The config as text, with comments for somebody who sees one for the first time.

use std::fmt::Write as _;

use super::answers::{Answers, Login, Upstream};

/// Where things are on this machine.
#[derive(Debug, Clone)]
pub struct Places {
    /// The config file.
    pub config: String,
    /// The folder of the ledger.
    pub state: String,
    /// The folder of the credentials.
    pub credentials: String,
}

/// The config. `key` is the line of the consumer's key, `today` the date in its first line.
pub fn config(answers: &Answers, places: &Places, key: &str, today: &str) -> String {
    let mut out = String::new();
    head(&mut out, answers, places, today);
    for (at, upstream) in answers.upstreams.iter().enumerate() {
        backend(&mut out, at, upstream, answers);
    }
    pool(&mut out, answers);
    consumer(&mut out, answers, key);
    out
}

fn head(out: &mut String, answers: &Answers, places: &Places, today: &str) {
    let environment = match answers.login {
        Login::Keys => format!("CREDENTIALS_DIRECTORY={} ", places.credentials),
        Login::ManagedIdentity => String::new(),
    };
    let _ = write!(
        out,
        "# Written by `spillway init` on {today}. It is yours: edit it, and check it:\n\
         #\n\
         #   {environment}spillway check -c {config}\n\
         #\n\
         # A running gateway reads the changed file by itself, and keeps the old config if the new one has errors.\n\
         # Every key: /usr/share/doc/spillway/configuration.md\n\
         \n\
         [server]\n\
         listen = [\"127.0.0.1:8080\"]       # where applications call; before any other address than loopback: [server.tls]\n\
         admin = \"127.0.0.1:9090\"          # status page, /metrics, /healthz, /readyz, admin API\n\
         state_dir = {state}   # the ledger: who used what\n\
         \n\
         # [server.tls]\n\
         # cert = \"/etc/spillway/tls/fullchain.pem\"\n\
         # key = \"/etc/spillway/tls/key.pem\"       # readable by the group spillway\n",
        config = places.config,
        state = quoted(&places.state),
    );
}

fn backend(out: &mut String, at: usize, upstream: &Upstream, answers: &Answers) {
    let what = match (at, answers.ptu) {
        (0, Some(_)) => "The provisioned deployment: paid for by the hour, so it is used first.",
        (0, None) => "The deployment that is used first.",
        (1, _) => "What doesn't fit there goes here, within the same request.",
        _ => "And what doesn't fit there either, here.",
    };
    let _ = write!(
        out,
        "\n# {what}\n[[backends]]\nname = {}\nkind = \"azure-openai\"\nurl = {}",
        quoted(&upstream.name),
        quoted(&upstream.url)
    );
    out.push_str(if upstream.local {
        "   # an imitation on this machine; your resource: \"https://NAME.openai.azure.com\"\n"
    } else {
        "\n"
    });
    match answers.login {
        Login::ManagedIdentity if upstream.local => {
            out.push_str("# auth = { type = \"managed-identity\" }   # for a resource at Azure: without the first '#'\n");
        }
        Login::ManagedIdentity => {
            out.push_str("# The machine's identity needs the role \"Cognitive Services OpenAI User\" there.\nauth = { type = \"managed-identity\" }\n");
        }
        Login::Keys => {
            let _ = writeln!(
                out,
                "auth = {{ type = \"api-key\", key = {{ credential = {} }} }}   # a file that only root reads",
                quoted(&upstream.name)
            );
        }
    }
    if upstream.deployment != answers.model {
        let _ = writeln!(
            out,
            "deployments = {{ {} = {} }}   # model = its deployment's name",
            quoted(&answers.model),
            quoted(&upstream.deployment)
        );
    }
    if let (0, Some(units)) = (at, answers.ptu) {
        let deployment = quoted(&upstream.deployment);
        let _ = writeln!(out, "ptu = {{ {deployment} = {{ units = {units} }} }}");
        let _ = writeln!(
            out,
            "# prices = {{ {deployment} = {{ usd_per_hour = 100.0 }} }}   # what it costs an hour, for reports; budgets count only what is paid by use"
        );
    }
}

fn pool(out: &mut String, answers: &Answers) {
    let _ = write!(
        out,
        "\n# Which of them serve the model. The lowest priority is used first; members of the same priority share by weight.\n\
         [[pools]]\nname = \"chat\"\nmodels = [{}]\nmembers = [\n",
        quoted(&answers.model)
    );
    for (at, upstream) in answers.upstreams.iter().enumerate() {
        let _ = writeln!(out, "  {{ backend = {}, priority = {} }},", quoted(&upstream.name), at + 1);
    }
    out.push_str("]\n");
}

fn consumer(out: &mut String, answers: &Answers, key: &str) {
    let name = quoted(&answers.consumer);
    let _ = write!(
        out,
        "\n# Who may call. Without a known key the answer is 401.\n[plugins.auth]\nrequired = true\n\
         \n# An application. Another one: `spillway keys new --consumer NAME` prints its key and the line for `keys`.\n\
         [[consumers]]\nname = {name}\nkeys = [\n  {key},\n]\nmodels = [{model}]\n\
         # limits = {{ requests_per_minute = 600, tokens_per_minute = 100_000, concurrent_requests = 50 }}\n",
        model = quoted(&answers.model)
    );
}

/// Names and URLs were checked; paths may have quotes.
fn quoted(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("\"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
}
