//! `spillway import`: makes a config from the config of another gateway.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::import::{Class, Imported, Source, import};

#[derive(Debug, Args)]
pub(super) struct ImportArguments {
    /// What is imported.
    #[arg(value_enum)]
    kind: Kind,
    /// Its files; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Fail if anything is left for you to do by hand, or has no equivalent.
    #[arg(long)]
    strict: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// Backends and pools of Azure API Management (ARM JSON), and policies (XML) that use them.
    Apim,
    /// Only policies of Azure API Management.
    ApimPolicy,
    /// The environment of Azure-Samples/openai-aca-lb.
    AcaLb,
    /// The config of a LiteLLM proxy.
    #[value(name = "litellm")]
    LiteLlm,
}

pub(super) fn run(arguments: &ImportArguments) -> ExitCode {
    match read_and_import(arguments) {
        Ok(Imported { toml, findings }) => {
            out!("{toml}");
            let open = findings.iter().filter(|finding| matches!(finding.class, Class::Manual | Class::Unsupported)).count();
            for finding in &findings {
                errln!("{finding}");
            }
            errln!("{} findings, {open} of them need your attention", findings.len());
            if arguments.strict && open > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
        }
        Err(error) => {
            errln!("spillway: {error}");
            ExitCode::from(2)
        }
    }
}

fn read_and_import(arguments: &ImportArguments) -> Result<Imported, String> {
    let mut texts = Vec::new();
    for file in &arguments.files {
        let text = if file.as_os_str() == "-" { std::io::read_to_string(std::io::stdin()) } else { std::fs::read_to_string(file) };
        texts.push((file.display().to_string(), text.map_err(|error| format!("{}: {error}", file.display()))?));
    }
    let source = match arguments.kind {
        Kind::Apim => Source::Apim,
        Kind::ApimPolicy => Source::ApimPolicy,
        Kind::AcaLb => Source::AcaLb,
        Kind::LiteLlm => Source::LiteLlm,
    };
    let inputs: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    import(source, &inputs).map_err(|error| error.to_string())
}
