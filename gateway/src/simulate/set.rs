//! Changes to a config: `pools.chat.spill="ahead"`, `backends.ptu-sweden.ptu.gpt4o-ptu.units=400`.
//!
//! A path is as in TOML. An entry of a list is addressed by its `name`, a member of a pool by its `backend`.

use toml::{Table, Value};

/// A change can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// It has another form.
    #[error("--set {0}: use PATH=VALUE, such as pools.chat.spill=\"ahead\"; a name with dots needs quotes, as in deployments.\"gpt-4.1\"")]
    Form(String),
    /// There is no such entry in a list.
    #[error("--set {path}: there is no '{name}'; there are: {known}")]
    Entry {
        /// The list.
        path: String,
        /// The name.
        name: String,
        /// The names that there are.
        known: String,
    },
}

/// Makes one change.
///
/// # Errors
/// [`SetError`]
pub fn set(document: &mut Table, assignment: &str) -> Result<(), SetError> {
    let form = || SetError::Form(assignment.to_owned());
    let (path, value) = assignment.split_once('=').ok_or_else(form)?;
    // Shells remove the quotes of texts.
    let quoted = || format!("{path} = {}", Value::from(value.trim()));
    let change: Table = toml::from_str(assignment).or_else(|_| toml::from_str(&quoted())).map_err(|_| form())?;
    if change.is_empty() {
        return Err(form());
    }
    merge(document, change, "")
}

fn merge(into: &mut Table, change: Table, path: &str) -> Result<(), SetError> {
    for (key, value) in change {
        let here = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (into.get_mut(&key), value) {
            (Some(Value::Table(known)), Value::Table(change)) => merge(known, change, &here)?,
            (Some(Value::Array(list)), Value::Table(change)) => merge_list(list, change, &here)?,
            (_, value) => {
                into.insert(key, value);
            }
        }
    }
    Ok(())
}

fn merge_list(list: &mut [Value], change: Table, path: &str) -> Result<(), SetError> {
    for (name, value) in change {
        let known: Vec<String> = list.iter().filter_map(|entry| name_of(entry).map(str::to_owned)).collect();
        let entry = list.iter_mut().find(|entry| name_of(entry) == Some(&name));
        let unknown = || SetError::Entry { path: path.to_owned(), name: name.clone(), known: known.join(", ") };
        let Some(Value::Table(entry)) = entry else { return Err(unknown()) };
        match value {
            Value::Table(change) => merge(entry, change, &format!("{path}.{name}"))?,
            _ => return Err(SetError::Form(format!("{path}.{name}"))),
        }
    }
    Ok(())
}

fn name_of(entry: &Value) -> Option<&str> {
    let entry = entry.as_table()?;
    entry.get("name").or_else(|| entry.get("backend")).and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Table {
        let text = "[[backends]]\nname = \"ptu-sweden\"\nptu = { gpt4o-ptu = { units = 300 } }\n[[backends]]\nname = \"paid\"\n\
                    [[pools]]\nname = \"chat\"\nmembers = [{ backend = \"ptu-sweden\" }, { backend = \"paid\", priority = 2 }]\n";
        toml::from_str(text).unwrap()
    }

    fn changed(assignment: &str) -> Table {
        let mut document = document();
        set(&mut document, assignment).unwrap();
        document
    }

    #[test]
    fn a_path_leads_through_tables_and_names_of_lists() {
        let after = changed("backends.ptu-sweden.ptu.gpt4o-ptu.units=400");
        assert_eq!(after["backends"][0]["ptu"]["gpt4o-ptu"]["units"], Value::from(400));
        assert_eq!(after["backends"][1], document()["backends"][1]);
        let after = changed("pools.chat.members.paid.priority = 3");
        assert_eq!(after["pools"][0]["members"][1]["priority"], Value::from(3));
        assert_eq!(changed("usage.assume_completion=256")["usage"]["assume_completion"], Value::from(256));
        assert_eq!(changed("backends.paid.deployments.\"gpt-4.1\"=\"x\"")["backends"][1]["deployments"]["gpt-4.1"], Value::from("x"));
    }

    #[test]
    fn texts_need_no_quotes() {
        for assignment in ["pools.chat.spill=\"ahead\"", "pools.chat.spill=ahead", "pools.chat.spill = 'ahead'"] {
            assert_eq!(changed(assignment)["pools"][0]["spill"], Value::from("ahead"), "{assignment}");
        }
        let after = changed("pools.chat.patience={ batch = \"5m\" }");
        assert_eq!(after["pools"][0]["patience"]["batch"], Value::from("5m"));
    }

    #[test]
    fn what_is_not_there_is_told() {
        let error = set(&mut document(), "pools.chatt.spill=ahead").unwrap_err();
        assert_eq!(error.to_string(), "--set pools: there is no 'chatt'; there are: chat");
        for wrong in ["pools.chat.spill", "=3", "pools..spill=1", "pools.chat=3", ""] {
            assert!(matches!(set(&mut document(), wrong), Err(SetError::Form(_))), "{wrong}");
        }
    }
}
