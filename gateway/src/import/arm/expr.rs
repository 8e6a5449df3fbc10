//! The few functions of ARM templates whose value follows from the template itself.
//!
//! Unknown values stay in the text as marks. So a resource's own name can be read even if the name of its service is
//! unknown, and an error can name what is missing.

use serde_json::{Map, Value};

/// Marks around the name of an unknown value.
const OPEN: char = '\u{1}';
const CLOSE: char = '\u{2}';
/// Deepest nesting: more is a circular reference.
const DEEPEST: usize = 24;

/// What expressions can refer to.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    pub(super) parameters: Map<String, Value>,
    pub(super) variables: Map<String, Value>,
}

/// A mark for an unknown value.
fn unknown(what: &str) -> Value {
    Value::String(format!("{OPEN}{what}{CLOSE}"))
}

/// The names of unknown values in a text.
pub(super) fn unknowns(text: &str) -> Vec<&str> {
    text.split(OPEN).skip(1).filter_map(|rest| rest.split(CLOSE).next()).collect()
}

impl Scope {
    /// The value of a JSON value: texts in brackets are expressions.
    pub(super) fn value(&self, written: &Value) -> Value {
        self.at(written, 0)
    }

    fn at(&self, written: &Value, depth: usize) -> Value {
        if depth > DEEPEST {
            return unknown("a circular reference");
        }
        match written {
            Value::String(text) => match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                Some(rest) if rest.starts_with('[') => Value::String(text[1..].to_owned()),
                Some(inside) => self.expression(inside, depth),
                None => written.clone(),
            },
            Value::Array(list) => list.iter().map(|item| self.at(item, depth + 1)).collect(),
            Value::Object(map) => Value::Object(map.iter().map(|(key, value)| (key.clone(), self.at(value, depth + 1))).collect()),
            other => other.clone(),
        }
    }

    fn expression(&self, text: &str, depth: usize) -> Value {
        let mut parser = Parser { scope: self, rest: text, depth: depth + 1 };
        match parser.value() {
            Some(value) if parser.rest.trim().is_empty() => value,
            _ => unknown(&shortened(text)),
        }
    }

    fn named(&self, map: &Map<String, Value>, kind: &str, name: &str, depth: usize) -> Value {
        match map.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)) {
            Some((_, value)) => self.at(value, depth),
            None => unknown(&format!("{kind}('{name}')")),
        }
    }

    fn call(&self, function: &str, arguments: &[Value], depth: usize) -> Value {
        let first = arguments.first().and_then(Value::as_str);
        let texts = || arguments.iter().map(plain).collect::<Option<Vec<_>>>();
        let value = match function.to_ascii_lowercase().as_str() {
            "parameters" => first.map(|name| self.named(&self.parameters, "parameters", name, depth)),
            "variables" => first.map(|name| self.named(&self.variables, "variables", name, depth)),
            "concat" => texts().map(|texts| Value::String(texts.concat())),
            "format" => texts().and_then(|texts| formatted(&texts)).map(Value::String),
            "resourceid" | "subscriptionresourceid" | "extensionresourceid" => {
                texts().map(|texts| Value::String(format!("/{}", texts.join("/"))))
            }
            "tolower" => first.map(|text| Value::String(text.to_lowercase())),
            "toupper" => first.map(|text| Value::String(text.to_uppercase())),
            "trim" => first.map(|text| Value::String(text.trim().to_owned())),
            "string" => arguments.first().and_then(plain).map(Value::String),
            "int" => arguments.first().filter(|value| value.is_number()).cloned().or_else(|| first?.parse::<i64>().ok().map(Value::from)),
            "true" if arguments.is_empty() => Some(Value::Bool(true)),
            "false" if arguments.is_empty() => Some(Value::Bool(false)),
            "null" if arguments.is_empty() => Some(Value::Null),
            _ => None,
        };
        value.unwrap_or_else(|| unknown(&format!("{function}(...)")))
    }
}

/// A scalar as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn formatted(texts: &[String]) -> Option<String> {
    let (pattern, values) = texts.split_first()?;
    let mut out = String::new();
    let mut rest = pattern.as_str();
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let doubled = ["{{", "}}"].into_iter().find(|pair| rest[at..].starts_with(pair));
        if doubled.is_some() {
            out.push_str(&rest[at..=at]);
            rest = &rest[at + 2..];
            continue;
        }
        let (hole, after) = rest[at..].strip_prefix('{')?.split_once('}')?;
        out.push_str(values.get(hole.trim().parse::<usize>().ok()?)?);
        rest = after;
    }
    out.push_str(rest);
    Some(out)
}

fn shortened(text: &str) -> String {
    if text.chars().count() > 60 { text.chars().take(57).chain("...".chars()).collect() } else { text.to_owned() }
}

struct Parser<'e> {
    scope: &'e Scope,
    rest: &'e str,
    depth: usize,
}

impl Parser<'_> {
    fn take(&mut self, c: char) -> bool {
        self.rest = self.rest.trim_start();
        let rest = self.rest.strip_prefix(c);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// A text, a number, or a call with what is picked from its value.
    fn value(&mut self) -> Option<Value> {
        self.depth += 1;
        if self.depth > DEEPEST * 2 {
            return None;
        }
        self.rest = self.rest.trim_start();
        if self.rest.starts_with('\'') {
            return self.text().map(Value::String);
        }
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || "_-.".contains(c))).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if word.starts_with(|c: char| c.is_ascii_digit() || c == '-') {
            self.rest = rest;
            return word.parse::<i64>().ok().map(Value::from);
        }
        // A name space such as `sys.` doesn't change the function.
        let function = word.rsplit('.').next().filter(|name| !name.is_empty())?;
        self.rest = rest;
        if !self.take('(') {
            return None;
        }
        let mut arguments = Vec::new();
        while !self.take(')') {
            if !arguments.is_empty() && !self.take(',') {
                return None;
            }
            arguments.push(self.value()?);
        }
        let value = self.scope.call(function, &arguments, self.depth);
        self.picked(value)
    }

    /// `.name` and `[index]` after a value.
    fn picked(&mut self, mut value: Value) -> Option<Value> {
        loop {
            let key = if self.take('.') {
                let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
                let (name, rest) = self.rest.split_at(end);
                self.rest = rest;
                Value::String(name.to_owned())
            } else if self.take('[') {
                let key = self.value()?;
                if !self.take(']') {
                    return None;
                }
                key
            } else {
                return Some(value);
            };
            // A part of an unknown value is unknown.
            if value.as_str().is_some_and(|text| !unknowns(text).is_empty()) {
                continue;
            }
            value = match (&value, &key) {
                (Value::Object(map), Value::String(name)) => map.get(name).cloned(),
                (Value::Array(list), Value::Number(at)) => {
                    at.as_u64().and_then(|at| usize::try_from(at).ok()).and_then(|at| list.get(at).cloned())
                }
                _ => None,
            }?;
        }
    }

    fn text(&mut self) -> Option<String> {
        let mut out = String::new();
        let mut rest = self.rest.strip_prefix('\'')?;
        loop {
            let (part, after) = rest.split_once('\'')?;
            out.push_str(part);
            match after.strip_prefix('\'') {
                Some(more) => {
                    out.push('\'');
                    rest = more;
                }
                None => {
                    self.rest = after;
                    return Some(out);
                }
            }
        }
    }
}
