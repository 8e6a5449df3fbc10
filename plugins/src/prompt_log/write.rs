//! Prompt and answer as members of a record, written by hand: most of their bytes are texts that are written as they are.

use super::record::{Call, Content, Message};
use crate::json::write_text;

impl Content<'_> {
    /// Appends its members, each with a comma before it.
    pub fn write(&self, to: &mut Vec<u8>) {
        if let Some(prompt) = &self.prompt {
            put(",\"prompt\":", to);
            list(prompt, to, message);
        }
        flag(",\"prompt_cut\":true", self.prompt_cut, to);
        if !self.tools.is_empty() {
            put(",\"tools\":", to);
            list(&self.tools, to, |tool, to| write_text(tool, to));
        }
        if !self.completion.is_empty() {
            put(",\"completion\":", to);
            list(&self.completion, to, message);
        }
        flag(",\"completion_cut\":true", self.completion_cut, to);
    }
}

fn put(written: &str, to: &mut Vec<u8>) {
    to.extend_from_slice(written.as_bytes());
}

fn flag(written: &str, set: bool, to: &mut Vec<u8>) {
    if set {
        put(written, to);
    }
}

fn list<T>(all: &[T], to: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    to.push(b'[');
    for (index, one) in all.iter().enumerate() {
        if index > 0 {
            to.push(b',');
        }
        write(one, to);
    }
    to.push(b']');
}

fn message(message: &Message<'_>, to: &mut Vec<u8>) {
    let Message { role, text, attachments, calls, finish } = message;
    put("{\"role\":", to);
    write_text(role, to);
    put(",\"text\":", to);
    write_text(text, to);
    if *attachments > 0 {
        put(",\"attachments\":", to);
        put(&attachments.to_string(), to);
    }
    if !calls.is_empty() {
        put(",\"calls\":", to);
        list(calls, to, call);
    }
    if let Some(finish) = finish {
        put(",\"finish\":", to);
        write_text(finish, to);
    }
    to.push(b'}');
}

fn call(call: &Call<'_>, to: &mut Vec<u8>) {
    let Call { name, arguments } = call;
    put("{\"name\":", to);
    write_text(name, to);
    put(",\"arguments\":", to);
    write_text(arguments, to);
    to.push(b'}');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        "[a-z\"\\\\\n\u{e9}]{0,6}"
    }

    fn messages() -> impl Strategy<Value = Vec<Message<'static>>> {
        let call = (text(), text()).prop_map(|(name, arguments)| Call { name: name.into(), arguments: arguments.into() });
        let calls = prop::collection::vec(call, 0..3);
        let message = (text(), text(), 0usize..3, calls, prop::option::of(text())).prop_map(|(role, text, attachments, calls, finish)| {
            Message { role: role.into(), text: text.into(), attachments, calls, finish: finish.map(Into::into) }
        });
        prop::collection::vec(message, 0..3)
    }

    proptest! {
        #[test]
        fn a_content_is_the_one_that_serde_writes(
            prompt in prop::option::of(messages()),
            completion in messages(),
            tools in prop::collection::vec(text(), 0..3),
            (prompt_cut, completion_cut) in any::<(bool, bool)>(),
        ) {
            let tools = tools.into_iter().map(Into::into).collect();
            let content = Content { prompt, prompt_cut, tools, completion, completion_cut };
            let mut written = b"{\"level\":1".to_vec();
            content.write(&mut written);
            let theirs = serde_json::to_string(&content).unwrap();
            let rest = if theirs == "{}" { "}".to_owned() } else { format!(",{}", &theirs[1..]) };
            prop_assert_eq!(String::from_utf8(written).unwrap() + "}", format!("{{\"level\":1{rest}"));
        }
    }
}
