//! `spillway init`: a first config, its keys and the drop-in of the systemd unit.

mod files;
mod terminal;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::keys::{self, NewKey};
use super::load::located;
use crate::clock::Clock;
use crate::config::{Config, Secrets};
use crate::init::{self, Answers, Given, Login, NamedKey, Places};
use files::{Files, Moved};
use terminal::Terminal;

/// The folder of the package's config.
const PACKAGED: &str = "/etc/spillway";
/// The ledger of the package's service.
const STATE: &str = "/var/lib/spillway";
/// The drop-ins of the package's unit.
const DROP_INS: &str = "/etc/systemd/system/spillway.service.d";

#[derive(Debug, Args)]
pub(super) struct InitArguments {
    /// The Azure OpenAI resource that is used first: its name or URL.
    #[arg(long, value_name = "RESOURCE")]
    resource: Option<String>,
    /// Its deployment.
    #[arg(long, value_name = "NAME")]
    deployment: Option<String>,
    /// The PTUs of the deployment; 0 for pay-as-you-go.
    #[arg(long, value_name = "NUMBER")]
    ptu: Option<u32>,
    /// The model that applications ask for. Default: the deployment's name.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// A resource for what doesn't fit, and its deployment if that is not named like the model. Several are used in their order.
    #[arg(long, value_name = "RESOURCE[=DEPLOYMENT]")]
    overflow: Vec<String>,
    /// Log in at Azure with this machine's managed identity, without keys.
    #[arg(long)]
    managed_identity: bool,
    /// A file with the key of a resource, by the resource's name in the config. It is copied.
    #[arg(long, value_name = "NAME=FILE")]
    key_file: Vec<String>,
    /// The first application: it gets a key.
    #[arg(long, value_name = "NAME")]
    consumer: Option<String>,
    /// Where to write.
    #[arg(long, value_name = "FOLDER", default_value = PACKAGED)]
    directory: PathBuf,
    /// Ask nothing: take the defaults.
    #[arg(short, long)]
    yes: bool,
}

pub(super) fn run(arguments: InitArguments) -> ExitCode {
    match write(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("spillway init: {error}");
            ExitCode::from(2)
        }
    }
}

fn write(arguments: InitArguments) -> Result<(), String> {
    let paths = Paths::below(&arguments.directory)?;
    // Before any question: nobody wants to answer them in vain.
    let moved = files::can_write(&paths.config)?;
    files::is_free(&paths.drop_in)?;
    let mut keys = read_keys(&arguments.key_file)?;
    let given = Given {
        resource: arguments.resource,
        deployment: arguments.deployment,
        model: arguments.model,
        ptu: arguments.ptu,
        overflow: arguments.overflow,
        managed_identity: arguments.managed_identity,
        keys: keys.iter().map(|key| key.name.clone()).collect(),
        consumer: arguments.consumer,
        yes: arguments.yes,
    };
    let answers = init::complete(given, &mut Terminal::new()).map_err(|error| error.to_string())?;
    keys.extend(answers.keys.iter().cloned());
    let now = Clock::new().wall();
    let NewKey { key, line } = keys::make(None, None, None, now)?;
    let text = init::config(&answers, &paths.places(), &line, &now.format("%Y-%m-%d").to_string());
    let mut files = Files::default();
    let written = put(&mut files, &paths, &answers, &keys, &key, &text, &moved);
    if let Err(error) = written {
        files.undo();
        return Err(error);
    }
    say(&paths, &answers, &keys, &moved);
    Ok(())
}

/// Writes all files; the config last, because a gateway may be watching it.
fn put(
    files: &mut Files,
    paths: &Paths,
    answers: &Answers,
    keys: &[NamedKey],
    consumer: &str,
    text: &str,
    moved: &Option<Moved>,
) -> Result<(), String> {
    files.folder(&paths.folder, 0o750)?;
    if answers.login == Login::Keys {
        files.folder(&paths.credentials, 0o700)?;
        for key in keys {
            files.create(&paths.credentials.join(&key.name), &format!("{}\n", key.key), 0o600)?;
        }
        let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        if let Some(folder) = paths.drop_in.parent() {
            files.folder(folder, 0o755)?;
        }
        files.create(&paths.drop_in, &init::drop_in(&names, &paths.credentials.to_string_lossy()), 0o644)?;
    }
    files.folder(&paths.keys, 0o700)?;
    files.create(&paths.keys.join(&answers.consumer), &format!("{consumer}\n"), 0o600)?;
    let credentials = paths.credentials.clone();
    let secrets = Secrets::with_env(move |name| (name == "CREDENTIALS_DIRECTORY").then(|| credentials.clone().into_os_string()));
    let config = Config::parse(text, &paths.config, &secrets).map_err(|error| format!("these answers make no good config:\n{error}"))?;
    if let Some(moved) = moved {
        files.rename(moved)?;
    }
    files.publish(&paths.config, text, 0o640)?;
    for warning in &config.warnings {
        errln!("{}", located(&paths.config, "warning", warning));
    }
    Ok(())
}

/// `NAME=FILE`, read.
fn read_keys(given: &[String]) -> Result<Vec<NamedKey>, String> {
    let mut keys: Vec<NamedKey> = Vec::new();
    for text in given {
        let (name, file) =
            text.split_once('=').ok_or_else(|| format!("--key-file: '{text}' is not NAME=FILE, such as contoso=/root/contoso.key"))?;
        let content = std::fs::read_to_string(file).map_err(|error| format!("--key-file: can't read {file}: {error}"))?;
        let key = init::key(&content).map_err(|error| format!("{error} ({file})"))?;
        if keys.iter().any(|known| known.name == name) {
            return Err(format!("--key-file: '{name}' has two"));
        }
        keys.push(NamedKey { name: name.to_owned(), key });
    }
    Ok(keys)
}

/// Where everything goes.
struct Paths {
    folder: PathBuf,
    config: PathBuf,
    credentials: PathBuf,
    keys: PathBuf,
    drop_in: PathBuf,
    state: PathBuf,
    /// Whether the package's unit reads it.
    packaged: bool,
}

impl Paths {
    fn below(folder: &Path) -> Result<Self, String> {
        // systemd wants whole paths, and so does a config that is read from anywhere.
        let folder = std::path::absolute(folder).map_err(|error| format!("--directory: {}: {error}", folder.display()))?;
        if folder.to_string_lossy().contains(|c: char| c.is_control() || c.is_whitespace() || matches!(c, '"' | '\\' | '%' | ':')) {
            return Err(format!(
                "--directory: systemd can't read '{}': write the path without spaces, quotes, '%', ':' and '\\'",
                folder.display()
            ));
        }
        let packaged = folder == Path::new(PACKAGED);
        let drop_ins = if packaged { PathBuf::from(DROP_INS) } else { folder.join("spillway.service.d") };
        Ok(Paths {
            config: folder.join("spillway.toml"),
            credentials: folder.join("credentials"),
            keys: folder.join("keys"),
            drop_in: drop_ins.join("credentials.conf"),
            state: if packaged { PathBuf::from(STATE) } else { folder.join("state") },
            folder,
            packaged,
        })
    }

    fn places(&self) -> Places {
        let text = |path: &Path| path.to_string_lossy().into_owned();
        Places { config: text(&self.config), state: text(&self.state), credentials: text(&self.credentials) }
    }
}

/// What was written, and what to do next.
fn say(paths: &Paths, answers: &Answers, keys: &[NamedKey], moved: &Option<Moved>) {
    if let Some(moved) = moved {
        outln!("The package's config, which nobody had changed, is now {}.", moved.to.display());
    }
    outln!("Written:");
    outln!("  {}   the config", paths.config.display());
    for key in keys {
        outln!("  {}   the key of the resource '{}'", paths.credentials.join(&key.name).display(), key.name);
    }
    if answers.login == Login::Keys {
        outln!("  {}   gives the keys to the service", paths.drop_in.display());
    }
    let key_file = paths.keys.join(&answers.consumer);
    outln!("  {}   the key of the application '{}'", key_file.display(), answers.consumer);
    outln!("\nNext:");
    let environment = match answers.login {
        Login::Keys => format!("CREDENTIALS_DIRECTORY={} ", paths.credentials.display()),
        Login::ManagedIdentity => String::new(),
    };
    let (config, mut step) = (paths.config.display(), 0);
    let mut next = |text: String| {
        step += 1;
        outln!("  {step}. {text}");
    };
    next(format!("{environment}spillway check -c {config} --online"));
    if paths.packaged {
        next("systemctl daemon-reload && systemctl restart spillway".to_owned());
    } else {
        next(format!("{environment}spillway run -c {config}"));
        if answers.login == Login::Keys {
            next(format!("for a service: put {} into {DROP_INS}", paths.drop_in.display()));
        }
    }
    next(format!(
        "printf 'api-key: %s' \"$(cat {key})\" | curl http://127.0.0.1:8080/v1/chat/completions -H @- -H 'content-type: application/json' \
         -d '{{\"model\": \"{model}\", \"messages\": [{{\"role\": \"user\", \"content\": \"Are you there?\"}}]}}'",
        key = key_file.display(),
        model = answers.model
    ));
    next(format!("give the application its key, and delete {}: the gateway needs only the hash in the config", key_file.display()));
}
