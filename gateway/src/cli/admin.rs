//! Commands that send a request to the admin listener of a running gateway.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::Args;
use reqwest::Method;
use serde::Deserialize;
use serde_json::Value;
use spillway_plugins::auth::digest;
use tokio::time::sleep;

use crate::config::scalar::SecretText;
use crate::config::{Secret, Secrets};
use crate::http_client;
use crate::server::Successor;

/// A new process may take a minute to be ready.
const LIMIT: Duration = Duration::from_secs(90);
/// Time between two reloads with `--wait`, and how many there are at most.
const AGAIN: (Duration, u32) = (Duration::from_millis(500), 180);

/// Where the running gateway is.
#[derive(Debug, Args)]
pub(super) struct Connection {
    /// Its config file, which names the admin listener and its token.
    #[arg(short, long, value_name = "FILE", default_value = super::config_file::CONFIG)]
    pub(super) config: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct ReloadArguments {
    #[command(flatten)]
    connection: Connection,
    /// Wait until the gateway uses its config file as it is now: if the file changes during a reload, reload again, for up
    /// to 90 seconds.
    #[arg(long)]
    wait: bool,
}

/// The part of a config file that these commands read.
#[derive(Debug, Deserialize)]
struct File {
    #[serde(default)]
    server: Server,
}

#[derive(Debug, Default, Deserialize)]
struct Server {
    admin: Option<String>,
    admin_token: Option<SecretText>,
    #[serde(default)]
    allow_literal_secrets: bool,
}

/// Address of the admin listener if the config sets none.
const DEFAULT: &str = "127.0.0.1:9090";

/// The admin listener of a running gateway.
struct AdminApi {
    address: SocketAddr,
    token: Option<Secret>,
}

impl AdminApi {
    /// As the config file says. The rest of the file is not read: it may be broken, or need secrets that only the
    /// service has.
    fn of(connection: &Connection) -> Result<Self, ExitCode> {
        AdminApi::read(&connection.config).map_err(|error| {
            errln!("spillway: {}: {error}", connection.config.display());
            ExitCode::from(2)
        })
    }

    fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let File { server } = toml::from_str(&text).map_err(|error| error.message().to_owned())?;
        let address =
            server.admin.as_deref().unwrap_or(DEFAULT).parse().map_err(|_| "server.admin is not an address with a port".to_owned())?;
        let resolve = |token: &SecretText| Secrets::default().resolve(token, server.allow_literal_secrets);
        let token = server.admin_token.as_ref().map(resolve).transpose().map_err(|error| format!("server.admin_token: {error}"))?;
        Ok(AdminApi { address: here(address), token })
    }

    /// The answer's status and body.
    async fn ask(&self, method: Method, path: &str) -> Result<(u16, Value), String> {
        self.send(method, path, None).await
    }

    /// The same for a request with a body.
    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<(u16, Value), String> {
        http_client::install_crypto();
        let client = http_client::local().map_err(|error| error.to_string())?;
        let mut request = client.request(method, format!("http://{}{path}", self.address)).timeout(LIMIT);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.expose());
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let unreachable = |error: reqwest::Error| {
            let causes = crate::causes::causes(&error.without_url());
            format!("the gateway's admin listener at {} can't be reached: {causes}", self.address)
        };
        let answer = request.send().await.map_err(unreachable)?;
        let status = answer.status().as_u16();
        let body = answer.bytes().await.map_err(unreachable)?;
        Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
    }

    /// Reloads until the gateway uses its file as it is now.
    async fn reload_and_wait(&self) -> Result<(u16, Value), String> {
        for _ in 0..AGAIN.1 {
            let reloaded = self.ask(Method::POST, "/api/reload").await?;
            if reloaded.0 != 200 || self.uses_its_file().await? {
                return Ok(reloaded);
            }
            sleep(AGAIN.0).await;
        }
        Err("the gateway's config file keeps changing: its latest text is not in use".to_owned())
    }

    /// Whether the gateway's config is the file's present text. A file that can't be read from here is not compared.
    async fn uses_its_file(&self) -> Result<bool, String> {
        let (status, config) = self.ask(Method::GET, "/api/config").await?;
        if status != 200 {
            return Err(reason(status, &config));
        }
        // A relative path would mean another file here.
        let path = config["file"].as_str().map(Path::new).filter(|path| path.is_absolute());
        let Some(text) = path.and_then(|path| std::fs::read(path).ok()) else { return Ok(true) };
        Ok(config["hash"].as_str() == Some(&digest(&text).to_string()))
    }
}

/// The address to connect to: for a listener on all addresses, the loopback address.
fn here(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Why a request was refused, as text.
fn reason(status: u16, body: &Value) -> String {
    body["error"]["message"].as_str().map_or_else(|| format!("the gateway answered {status}"), str::to_owned)
}

/// Sends a request to the gateway of this config, and prints its answer in the given format, or the error.
pub(super) fn ask(connection: &Connection, method: Method, path: &str, format: impl Fn(&Value) -> String) -> ExitCode {
    match AdminApi::of(connection) {
        Ok(api) => print(wait_for(api.ask(method, path)), format),
        Err(code) => code,
    }
}

/// What the gateway of this config answers to a GET, or why there is no answer. An exit code if the config says not where to ask.
pub(super) fn get(connection: &Connection, path: &str) -> Result<Result<Value, String>, ExitCode> {
    let api = AdminApi::of(connection)?;
    Ok(wait_for(api.ask(Method::GET, path)).and_then(|(status, body)| match status {
        200 => Ok(body),
        _ => Err(reason(status, &body)),
    }))
}

/// Sends a request with a body to the gateway of this config, and prints its answer in the given format, or the error.
pub(super) fn send(connection: &Connection, method: Method, path: &str, body: &Value, format: impl Fn(&Value) -> String) -> ExitCode {
    match AdminApi::of(connection) {
        Ok(api) => print(wait_for(api.send(method, path, Some(body))), format),
        Err(code) => code,
    }
}

/// Runs a request to its end, on this thread.
fn wait_for<T>(request: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string())?;
    runtime.block_on(request)
}

/// Prints an answer in the given format, or the error.
fn print(answer: Result<(u16, Value), String>, format: impl Fn(&Value) -> String) -> ExitCode {
    match answer {
        Ok((200 | 201, body)) => {
            outln!("{}", format(&body));
            ExitCode::SUCCESS
        }
        Ok((status, body)) => {
            errln!("spillway: {}", reason(status, &body));
            ExitCode::FAILURE
        }
        Err(error) => {
            errln!("spillway: {error}");
            ExitCode::FAILURE
        }
    }
}

pub(super) fn reload(arguments: &ReloadArguments) -> ExitCode {
    let api = match AdminApi::of(&arguments.connection) {
        Ok(api) => api,
        Err(code) => return code,
    };
    let reloaded = wait_for(async {
        match arguments.wait {
            true => api.reload_and_wait().await,
            false => api.ask(Method::POST, "/api/reload").await,
        }
    });
    print(reloaded, |body| {
        let keys: Vec<&str> = body["needs_restart"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let rest = if keys.is_empty() {
            String::new()
        } else {
            format!("; changed, but used only after a restart or an upgrade: {}", keys.join(", "))
        };
        format!("{}{rest}", body["result"].as_str().unwrap_or("done"))
    })
}

pub(super) fn upgrade(connection: &Connection) -> ExitCode {
    ask(connection, Method::POST, "/api/upgrade", |body| format!("process {} has taken over", body["pid"]))
}

/// Starts a program with all file descriptors that this process inherited, and sends its id to the old process.
pub(super) fn start_detached(command: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else { return ExitCode::FAILURE };
    // The program inherits the stream to the old process and the listening sockets.
    let started = Command::new(program).args(arguments).spawn();
    match started {
        Ok(child) => {
            if let Ok(Some(old)) = Successor::from_environment() {
                old.started(child.id());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            errln!("spillway: {error}");
            ExitCode::FAILURE
        }
    }
}
