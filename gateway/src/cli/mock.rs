//! `spillway mock`: a mock of Azure OpenAI to develop against.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::clock::Clock;
use crate::config::scalar::DurationText;
use crate::mock::ptu_settings::PtuSetting;
use crate::mock::server;
use crate::mock::settings::Settings;

/// Limits and pace can be given here for all deployments, or per deployment in a file.
#[derive(Debug, Args)]
pub(super) struct MockArguments {
    /// The mock's config file.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen.
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Its name in answers.
    #[arg(long)]
    name: Option<String>,
    /// Pay-as-you-go tokens per minute.
    #[arg(long, value_name = "TOKENS")]
    tpm: Option<u64>,
    /// Pay-as-you-go requests per minute.
    #[arg(long, value_name = "REQUESTS")]
    rpm: Option<u64>,
    /// Provisioned tokens per minute: a PTU.
    #[arg(long, value_name = "TOKENS")]
    ptu: Option<u64>,
    /// Time to the first token, such as 200ms.
    #[arg(long, value_name = "TIME", value_parser = time)]
    first_token: Option<DurationText>,
    /// Time per further token.
    #[arg(long, value_name = "TIME", value_parser = time)]
    per_token: Option<DurationText>,
    /// The text to answer with.
    #[arg(long)]
    reply: Option<String>,
    /// Obey `x-mock-fault` and `x-mock-latency` headers.
    #[arg(long)]
    test_mode: bool,
}

fn time(text: &str) -> Result<DurationText, String> {
    text.parse().map_err(|expected| format!("expected {expected}"))
}

fn settings(arguments: MockArguments) -> Result<Settings, String> {
    let mut settings = match &arguments.config {
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
            Settings::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?
        }
        None => Settings::default(),
    };
    settings.listen = arguments.listen.or(settings.listen);
    settings.name = arguments.name.or(settings.name);
    settings.reply = arguments.reply.or(settings.reply);
    settings.test_mode = Some(arguments.test_mode || settings.test_mode == Some(true));
    let default = &mut settings.default;
    default.tpm = arguments.tpm.or(default.tpm);
    default.rpm = arguments.rpm.or(default.rpm);
    default.ptu = arguments.ptu.map(PtuSetting::TokensPerMinute).or(default.ptu.take());
    default.first_token = arguments.first_token.or(default.first_token);
    default.per_token = arguments.per_token.or(default.per_token);
    settings.address()?;
    Ok(settings)
}

pub(super) fn run(arguments: MockArguments) -> ExitCode {
    let outcome = settings(arguments).and_then(|settings| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| error.to_string())?;
        runtime.block_on(async {
            let wanted = settings.address()?;
            let (_mock, address, task) =
                server::start(settings, Clock::new()).await.map_err(|error| format!("can't listen on {wanted}: {error}"))?;
            outln!("a mock of Azure OpenAI listens on http://{address}");
            tokio::select! {
                _ = task => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            Ok(())
        })
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            errln!("spillway mock: {error}");
            ExitCode::FAILURE
        }
    }
}
