//! Asks for what the flags don't say.

use super::answers::{self, Answers, Given, Login, NamedKey};
use super::error::InitError;
use super::resource::Resource;
use crate::balance::ptu::rates::{RATES, rate_of};

/// A terminal or a pipe.
pub trait Ask {
    /// Puts a question; `default` is taken if the answer is empty. `None` at the end of the answers.
    ///
    /// # Errors
    /// If reading fails.
    fn line(&mut self, question: &str, default: Option<&str>) -> Result<Option<String>, InitError>;
    /// As `line`, for an answer that is not shown.
    ///
    /// # Errors
    /// If reading fails, or the terminal can't hide it.
    fn secret(&mut self, question: &str) -> Result<Option<String>, InitError>;
    /// Shows what is wrong with an answer. Returns whether the question may be put again.
    fn again(&mut self, error: &InitError) -> bool;
}

/// Completes what is given by questions, or by defaults where `--yes` is given.
///
/// # Errors
/// See [`InitError`].
pub fn complete(given: Given, ask: &mut dyn Ask) -> Result<Answers, InitError> {
    let mut asker = Asker { ask, silent: given.yes };
    let first = asker.answer(
        given.resource.as_deref(),
        &Question { flag: "--resource", text: "Azure OpenAI resource that is used first (name or URL)", default: None },
        |text| answers::resource("--resource", text),
    )?;
    let deployment = match &first.deployment {
        Some(deployment) if given.deployment.is_none() => deployment.clone(),
        _ => asker.answer(
            given.deployment.as_deref(),
            &Question { flag: "--deployment", text: "Name of its deployment", default: None },
            |text| answers::name("--deployment", text, "a deployment"),
        )?,
    };
    let model = asker.answer(
        given.model.as_deref(),
        &Question { flag: "--model", text: "Model that applications ask for", default: Some(&deployment) },
        |text| answers::name("--model", text, "a model"),
    )?;
    let ptu = asker.answer(
        given.ptu.map(|units| units.to_string()).as_deref(),
        &Question { flag: "--ptu", text: "PTUs of this deployment (0: it is pay-as-you-go)", default: Some("0") },
        |text| units(text, &model),
    )?;
    let mut resources = vec![(first, deployment)];
    for text in &given.overflow {
        resources.push(with_deployment(answers::resource("--overflow", text)?, &model));
    }
    if given.overflow.is_empty() && !given.yes {
        overflow(&mut asker, &model, &mut resources)?;
    }
    let upstreams = answers::named(&resources, ptu.is_some());
    let login = login(&given, &mut asker)?;
    // A wrong name is the reason for a missing one: it is said first.
    if let Some(name) = given.keys.iter().find(|name| !upstreams.iter().any(|upstream| upstream.name == **name)) {
        let known: Vec<&str> = upstreams.iter().map(|upstream| upstream.name.as_str()).collect();
        let problem = format!("there is no resource '{name}' here (known: {})", known.join(", "));
        return Err(InitError::Bad { flag: "--key-file", problem });
    }
    let mut keys = Vec::new();
    if login == Login::Keys {
        for upstream in upstreams.iter().filter(|upstream| !given.keys.contains(&upstream.name)) {
            keys.push(NamedKey { name: upstream.name.clone(), key: asker.key(&upstream.name)? });
        }
    }
    let consumer = asker.answer(
        given.consumer.as_deref(),
        &Question { flag: "--consumer", text: "Name of the first application", default: Some("app") },
        |text| answers::name("--consumer", text, "an application"),
    )?;
    Ok(Answers { upstreams, model, ptu, login, keys, consumer })
}

struct Question<'q> {
    flag: &'static str,
    text: &'q str,
    default: Option<&'q str>,
}

struct Asker<'a> {
    ask: &'a mut dyn Ask,
    /// No questions.
    silent: bool,
}

impl Asker<'_> {
    /// The flag's value, else the answer, else the default.
    fn answer<T>(
        &mut self,
        given: Option<&str>,
        question: &Question<'_>,
        read: impl Fn(&str) -> Result<T, InitError>,
    ) -> Result<T, InitError> {
        if let Some(given) = given {
            return read(given);
        }
        if self.silent {
            return match question.default {
                Some(default) => read(default),
                None => Err(InitError::Missing { flag: question.flag, what: "it has no default" }),
            };
        }
        loop {
            let line = self.ask.line(question.text, question.default)?;
            let Some(line) = line else {
                return Err(InitError::NoAnswer { question: question.text.to_owned(), flag: question.flag });
            };
            let text = if line.trim().is_empty() { question.default.unwrap_or_default() } else { line.trim() };
            match read(text) {
                Err(error) if self.ask.again(&error) => {}
                read => return read,
            }
        }
    }

    fn key(&mut self, name: &str) -> Result<String, InitError> {
        if self.silent {
            return Err(InitError::MissingKey { name: name.to_owned() });
        }
        let question = format!("Key of '{name}' (it is not shown)");
        loop {
            let Some(line) = self.ask.secret(&question)? else {
                return Err(InitError::NoAnswer { question, flag: "--key-file" });
            };
            match answers::key(&line) {
                Err(error) if self.ask.again(&error) => {}
                read => return read,
            }
        }
    }
}

/// A number of PTUs; `None` for none.
fn units(text: &str, model: &str) -> Result<Option<u32>, InitError> {
    let bad = |problem: String| InitError::Bad { flag: "--ptu", problem };
    let units: u32 = text.trim().parse().map_err(|_| bad(format!("'{text}' is not a number of PTUs, such as 100")))?;
    if units > 0 && rate_of(model).is_none() {
        let known: Vec<&str> = RATES.iter().map(|rate| rate.model).collect();
        return Err(bad(format!(
            "what a PTU takes is not known for '{model}': give the model with --model (known: {}), or leave --ptu out and set \
             backends.ptu.tokens_per_minute in the config",
            known.join(", ")
        )));
    }
    Ok((units > 0).then_some(units))
}

fn with_deployment(resource: Resource, model: &str) -> (Resource, String) {
    let deployment = resource.deployment.clone().unwrap_or_else(|| model.to_owned());
    (resource, deployment)
}

/// Asks for resources until an answer is empty.
fn overflow(asker: &mut Asker<'_>, model: &str, resources: &mut Vec<(Resource, String)>) -> Result<(), InitError> {
    let mut text = "Resource for what doesn't fit (RESOURCE=DEPLOYMENT; empty: none)";
    loop {
        let read = |text: &str| if text.is_empty() { Ok(None) } else { answers::resource("--overflow", text).map(Some) };
        match asker.answer(None, &Question { flag: "--overflow", text, default: Some("") }, read)? {
            Some(resource) => resources.push(with_deployment(resource, model)),
            None => return Ok(()),
        }
        text = "Another one, after that (empty: no)";
    }
}

fn login(given: &Given, asker: &mut Asker<'_>) -> Result<Login, InitError> {
    match (given.managed_identity, given.keys.is_empty()) {
        (true, true) => Ok(Login::ManagedIdentity),
        (true, false) => Err(InitError::Bad { flag: "--managed-identity", problem: "give either this or --key-file".to_owned() }),
        (false, false) => Ok(Login::Keys),
        (false, true) => asker.answer(
            None,
            &Question {
                flag: "--managed-identity",
                text: "Log in at Azure with this machine's managed identity, without keys (yes, no)",
                default: Some("yes"),
            },
            |text| match text.to_ascii_lowercase().as_str() {
                "yes" | "y" => Ok(Login::ManagedIdentity),
                "no" | "n" => Ok(Login::Keys),
                _ => Err(InitError::Bad { flag: "--managed-identity", problem: format!("'{text}' is neither yes nor no") }),
            },
        ),
    }
}
