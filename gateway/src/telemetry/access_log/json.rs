//! A request's line as JSON, written by hand: most of its values are written as they are, and every request has a line.

use spillway_plugins::json::write_text;
use spillway_plugins::tokens::{Metered, Usage};

use super::line::{AttemptLine, RequestLine};

impl RequestLine<'_> {
    /// Appends the line, a JSON object.
    pub fn write_json(&self, to: &mut Vec<u8>) {
        write(self, to);
    }
}

/// Appends the line.
pub(super) fn write(line: &RequestLine<'_>, to: &mut Vec<u8>) {
    let RequestLine {
        time,
        id,
        trace_id,
        span_id,
        consumer,
        method,
        api,
        model,
        pool,
        status,
        end,
        code,
        stream,
        cache,
        rescued,
        attempts,
        service_tier,
        usage,
        bytes_in,
        bytes_out,
        first_us,
        us,
        overhead_us,
    } = line;
    let mut members = Members(to);
    // Digits and marks of a time.
    members.plain("{\"time\":", time.as_bytes());
    members.text(",\"id\":", id);
    if let Some(trace) = trace_id {
        members.text(",\"trace_id\":", &trace.to_string());
    }
    if let Some(span) = span_id {
        members.text(",\"span_id\":", &span.to_string());
    }
    members.text_or_null(",\"consumer\":", *consumer);
    members.text(",\"method\":", method);
    members.label(",\"api\":", api);
    members.text_or_null(",\"model\":", *model);
    members.text_or_null(",\"pool\":", *pool);
    members.number(",\"status\":", (*status).into());
    members.label(",\"end\":", end);
    members.text_or_null(",\"code\":", *code);
    members.flag(",\"stream\":", *stream);
    members.text_if_given(",\"cache\":", *cache);
    members.text_if_given(",\"rescued\":", *rescued);
    members.put(",\"attempts\":[");
    for (index, attempt) in attempts.iter().enumerate() {
        members.put(if index == 0 { "{" } else { ",{" });
        members.attempt(attempt);
        members.put("}");
    }
    members.put("]");
    members.text_if_given(",\"service_tier\":", *service_tier);
    members.put(",\"usage\":");
    match usage {
        Some(metered) => members.usage(metered),
        None => members.put("null"),
    }
    members.number(",\"bytes_in\":", *bytes_in as u64);
    members.number(",\"bytes_out\":", *bytes_out as u64);
    members.number_or_null(",\"first_us\":", *first_us);
    members.number(",\"us\":", *us);
    members.number(",\"overhead_us\":", *overhead_us);
    members.put("}");
}

/// Writes the members of an object. Each name comes with its quotes, its colon and what is before it.
struct Members<'o>(&'o mut Vec<u8>);

impl Members<'_> {
    fn put(&mut self, written: &str) {
        self.0.extend_from_slice(written.as_bytes());
    }

    fn text(&mut self, name: &'static str, value: &str) {
        self.put(name);
        write_text(value, self.0);
    }

    /// A text of the gateway's own: it has nothing that must be escaped.
    fn label(&mut self, name: &'static str, value: &'static str) {
        self.plain(name, value.as_bytes());
    }

    fn plain(&mut self, name: &'static str, value: &[u8]) {
        self.put(name);
        self.put("\"");
        self.0.extend_from_slice(value);
        self.put("\"");
    }

    fn text_or_null(&mut self, name: &'static str, value: Option<&str>) {
        match value {
            Some(value) => self.text(name, value),
            None => self.null(name),
        }
    }

    fn text_if_given(&mut self, name: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    fn number(&mut self, name: &'static str, value: u64) {
        self.put(name);
        self.put(itoa::Buffer::new().format(value));
    }

    fn number_or_null(&mut self, name: &'static str, value: Option<u64>) {
        match value {
            Some(value) => self.number(name, value),
            None => self.null(name),
        }
    }

    fn null(&mut self, name: &'static str) {
        self.put(name);
        self.put("null");
    }

    fn flag(&mut self, name: &'static str, value: bool) {
        self.put(name);
        self.put(if value { "true" } else { "false" });
    }

    fn attempt(&mut self, attempt: &AttemptLine<'_>) {
        let AttemptLine { backend, deployment, spilled_from, outcome, status, us, said, stale } = attempt;
        self.text("\"backend\":", backend);
        self.text(",\"deployment\":", deployment);
        self.text_if_given(",\"spilled_from\":", *spilled_from);
        self.label(",\"outcome\":", outcome);
        self.number_or_null(",\"status\":", status.map(u64::from));
        self.number(",\"us\":", *us);
        self.text_if_given(",\"said\":", *said);
        if *stale {
            self.flag(",\"stale\":", true);
        }
    }

    fn usage(&mut self, metered: &Metered) {
        let Metered { usage, source } = metered;
        let Usage {
            input,
            output,
            cached_input,
            cache_write,
            reasoning,
            input_audio,
            output_audio,
            input_image,
            output_image,
            cached_audio,
            cache_write_long,
            milliseconds,
            characters,
            images,
        } = *usage;
        self.number("{\"input\":", input);
        self.number(",\"output\":", output);
        self.number(",\"cached_input\":", cached_input);
        self.number(",\"cache_write\":", cache_write);
        self.number(",\"reasoning\":", reasoning);
        for (name, count) in [
            (",\"input_audio\":", input_audio),
            (",\"output_audio\":", output_audio),
            (",\"input_image\":", input_image),
            (",\"output_image\":", output_image),
            (",\"cached_audio\":", cached_audio),
            (",\"cache_write_long\":", cache_write_long),
            (",\"milliseconds\":", milliseconds),
            (",\"characters\":", characters),
            (",\"images\":", images),
        ] {
            if count > 0 {
                self.number(name, count);
            }
        }
        self.label(",\"source\":", source.label());
        self.put("}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use spillway_plugins::tokens::Provenance;
    use spillway_plugins::trace::{SpanId, TraceId};

    use super::*;
    use crate::telemetry::log_time::LogTime;

    fn text() -> impl Strategy<Value = String> {
        prop_oneof!["[a-z0-9-]{0,12}", "\\PC{0,8}", "[\"\\\\/\u{0}-\u{1f}\u{7f}\u{2028}\u{fffd}a]{0,6}"]
    }

    fn count() -> impl Strategy<Value = u64> {
        prop_oneof![2 => Just(0), 1 => 0..5000u64, 1 => any::<u64>()]
    }

    /// The line as serde writes it.
    fn reference(line: &RequestLine<'_>) -> String {
        serde_json::to_string(line).unwrap()
    }

    fn written(line: &RequestLine<'_>) -> String {
        let mut to = b"before".to_vec();
        write(line, &mut to);
        String::from_utf8(to).unwrap().strip_prefix("before").unwrap().to_owned()
    }

    proptest! {
        #[test]
        fn a_line_is_the_one_that_serde_writes(
            texts in prop::array::uniform16(text()),
            given in prop::array::uniform8(any::<bool>()),
            counts in prop::array::uniform20(count()),
            attempts in 0..4usize,
            millis in 0..4_000_000_000_000i64,
        ) {
            let [id, consumer, method, model, pool, code, cache, rescued, backend, deployment, said, ..] = &texts;
            let [with_trace, with_code, with_cache, with_said, with_usage, stale, with_model, stream] = given;
            let attempt = AttemptLine {
                backend,
                deployment,
                spilled_from: with_cache.then_some(code.as_str()),
                outcome: "throttled",
                status: with_said.then_some(503),
                us: counts[0],
                said: with_said.then_some(said.as_str()),
                stale,
            };
            let usage = Usage {
                input: counts[1],
                output: counts[2],
                cached_input: counts[3],
                cache_write: counts[4],
                reasoning: counts[5],
                input_audio: counts[6],
                output_audio: counts[7],
                input_image: counts[8],
                output_image: counts[9],
                cached_audio: counts[10],
                cache_write_long: counts[11],
                milliseconds: counts[12],
                characters: counts[13],
                images: counts[14],
            };
            let line = RequestLine {
                time: LogTime::new(millis),
                id,
                trace_id: with_trace.then(|| TraceId::new(7 << 64)),
                span_id: with_trace.then(|| SpanId::new(u64::MAX - 9)),
                consumer: with_code.then_some(consumer.as_str()),
                method,
                api: "chat",
                model: with_model.then_some(model.as_str()),
                pool: with_model.then_some(pool.as_str()),
                status: 429,
                end: "ok",
                code: with_code.then_some(code.as_str()),
                stream,
                cache: with_cache.then_some(cache.as_str()),
                rescued: with_cache.then_some(rescued.as_str()),
                attempts: (0..attempts).map(|_| attempt.clone()).collect(),
                service_tier: with_said.then_some(rescued.as_str()),
                usage: with_usage.then_some(Metered { usage, source: Provenance::ALL[counts[15] as usize % 3] }),
                bytes_in: counts[16] as usize,
                bytes_out: counts[17] as usize,
                first_us: with_usage.then_some(counts[18]),
                us: counts[19],
                overhead_us: counts[0],
            };
            prop_assert_eq!(written(&line), reference(&line));
            prop_assert!(!written(&line).bytes().any(|byte| byte < b' '), "a line has no line end in it");
        }
    }
}
