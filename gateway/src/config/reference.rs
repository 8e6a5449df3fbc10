//! The configuration reference as Markdown, generated from the JSON Schema, so that it always agrees with the code.

use std::fmt::Write as _;

use serde_json::Value;

/// Renders every key of the configuration as Markdown.
pub fn markdown() -> String {
    let schema = super::Config::schema().to_value();
    let mut out = String::from(HEAD);
    let mut done = Vec::new();
    section(&schema, &schema, "", &mut done, &mut out);
    out
}

const HEAD: &str = "# Configuration reference

For those who write a config and look a key up.

Made by `spillway schema --format markdown` from the same types that read the file. An unknown key
is an error. Durations are texts such as `\"250ms\"`, `\"30s\"`, `\"5m\"`; sizes such as `\"32MiB\"`;
statuses are numbers or ranges such as `\"500-599\"`. A secret is `{ env = \"NAME\" }`,
`{ file = \"/path\" }` or `{ credential = \"name\" }` (systemd).
";

fn resolve<'s>(root: &'s Value, schema: &'s Value) -> (&'s Value, bool) {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/$defs/")) {
        let named = &root["$defs"][name];
        // A table in several forms, such as one of them or a list: its keys are what a reader looks for.
        let forms = named["anyOf"].as_array().into_iter().flatten();
        let table = forms.map(|form| resolve(root, form).0).find(|form| form["properties"].is_object());
        return (table.unwrap_or(named), false);
    }
    if is_list(schema) {
        return (resolve(root, &schema["items"]).0, true);
    }
    let variants = schema["anyOf"].as_array().or_else(|| schema["allOf"].as_array());
    let inner = variants.and_then(|all| all.iter().find(|one| one["type"] != "null"));
    inner.map_or((schema, false), |one| resolve(root, one))
}

/// Whether it is a list, or may be left out and else is one.
fn is_list(schema: &Value) -> bool {
    schema["type"] == "array" || schema["type"].as_array().is_some_and(|types| types.iter().any(|name| name == "array"))
}

/// The kinds of a tagged table: name and schema.
fn kinds(schema: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let variants = schema["oneOf"].as_array().into_iter().flatten();
    variants.filter_map(|variant| Some((variant["properties"]["type"]["const"].as_str()?, variant)))
}

/// A tagged table: one row per kind and key.
fn tagged(root: &Value, schema: &Value, path: &str, out: &mut String) {
    let _ = writeln!(out, "\n## `{path}`\n\n{}\n", one_line(schema["description"].as_str().unwrap_or("")));
    let _ = writeln!(out, "| type | key | type of value | required | meaning |\n|---|---|---|---|---|");
    for (kind, variant) in kinds(schema) {
        let _ = writeln!(out, "| `{kind}` | | | | {} |", one_line(variant["description"].as_str().unwrap_or("")));
        let required = |name: &str| variant["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        for (name, property) in variant["properties"].as_object().into_iter().flatten().filter(|(name, _)| *name != "type") {
            let (inner, list) = resolve(root, property);
            let text = one_line(property["description"].as_str().or_else(|| inner["description"].as_str()).unwrap_or(""));
            let mark = if required(name) { "yes" } else { "" };
            let _ = writeln!(out, "| | `{name}` | {} | {mark} | {text} |", type_name(inner, list));
        }
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

fn section(root: &Value, schema: &Value, path: &str, done: &mut Vec<String>, out: &mut String) {
    if kinds(schema).next().is_some() {
        return tagged(root, schema, path, out);
    }
    let Some(properties) = schema["properties"].as_object() else { return };
    let required = |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
    let mut deeper = Vec::new();
    if !path.is_empty() {
        let _ = writeln!(out, "\n## `{path}`\n\n{}\n", one_line(schema["description"].as_str().unwrap_or("")));
    }
    let mut rows = String::new();
    for (name, property) in properties {
        let (inner, list) = resolve(root, property);
        let here = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if inner["properties"].is_object() || kinds(inner).next().is_some() {
            deeper.push((if list { format!("{here}[]") } else { here }, inner));
        } else if let Some(entry) = map_of(root, inner).filter(|_| !path.contains(name.as_str())) {
            // A map's tables. A table that contains itself is shown once.
            deeper.push((format!("{here}.NAME"), entry));
        }
        let text = property["description"].as_str().or_else(|| inner["description"].as_str()).unwrap_or("");
        let values = values(inner);
        let mark = if required(name) { "yes" } else { "" };
        let _ = writeln!(rows, "| `{name}` | {} | {mark} | {}{values} |", type_name(inner, list), one_line(text));
    }
    let _ = write!(out, "\n| key | type | required | meaning |\n|---|---|---|---|\n{rows}");
    for (path, inner) in deeper {
        if !done.contains(&path) {
            done.push(path.clone());
            section(root, inner, &path, done, out);
        }
    }
}

/// The table that is the value type of a map, if it is a table.
fn map_of<'s>(root: &'s Value, schema: &'s Value) -> Option<&'s Value> {
    let (entry, _) = resolve(root, &schema["additionalProperties"]);
    entry["properties"].is_object().then_some(entry)
}

/// The values of an enumeration, or the kinds of a tagged table.
fn values(schema: &Value) -> String {
    let Some(variants) = schema["oneOf"].as_array() else { return String::new() };
    let mut text = String::new();
    for variant in variants {
        if let Some(value) = variant["const"].as_str() {
            let _ = write!(text, " `{value}`: {}", one_line(variant["description"].as_str().unwrap_or("")));
        } else if let Some(kind) = variant["properties"]["type"]["const"].as_str() {
            let _ = write!(text, " `{kind}`");
        }
    }
    text
}

fn type_name(schema: &Value, list: bool) -> String {
    if list && !values(schema).is_empty() {
        return "list of these".to_owned();
    }
    let plain: Vec<&str> = schema["oneOf"].as_array().into_iter().flatten().filter_map(|form| form["type"].as_str()).collect();
    if !plain.is_empty() && values(schema).is_empty() && !plain.contains(&"object") {
        return format!("{}{}", if list { "list of " } else { "" }, plain.join(" or "));
    }
    let one = match (schema["type"].as_str(), schema["oneOf"].is_array()) {
        (Some("object"), _) if schema["properties"].is_object() => "table",
        (Some("object"), _) => "map",
        (_, true) => "one of",
        (Some(name), _) => name,
        _ => schema["type"].as_array().and_then(|all| all.first()).and_then(Value::as_str).unwrap_or("value"),
    };
    if list { format!("list of {one}") } else { one.to_owned() }
}
