//! Traffic from a CSV file with a line of names. Beside what a simulation needs, it may say what came of each request.

use std::io::Read;
use std::sync::Arc;
use std::time::Duration;

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};
use spillway_plugins::api::Api;
use spillway_plugins::limits::Class;
use spillway_plugins::prices::Money;
use spillway_plugins::tokens::Usage;

use super::{Trace, TraceError, Unused};
use crate::clock::Tick;
use crate::simulate::request::{Names, Request};
use crate::simulate::seen::{Answer, Said, Seen, SeenEnd, place_name};

/// The latest time that is thought to be one, in seconds since 1970 (the year 2286): more are milliseconds.
const LATEST: f64 = 1e10;

/// The indices of the columns.
#[derive(Debug)]
struct Columns {
    time: usize,
    model: usize,
    input: usize,
    output: usize,
    cached: Option<usize>,
    class: Option<usize>,
    cap: Option<usize>,
    consumer: Option<usize>,
    duration: Option<usize>,
    deadline: Option<usize>,
    /// What came of it: the caller's status, the backend and its deployment, and what it cost.
    status: Option<usize>,
    backend: Option<usize>,
    deployment: Option<usize>,
    cost: Option<usize>,
}

impl Columns {
    fn find(names: &StringRecord) -> Result<Self, TraceError> {
        let find = |wanted: &'static str| {
            let is_it = |name: &str| name.trim_start_matches('\u{feff}').trim().eq_ignore_ascii_case(wanted);
            names.iter().position(is_it)
        };
        let need = |wanted| find(wanted).ok_or(TraceError::Column(wanted));
        Ok(Columns {
            time: need("time")?,
            model: need("model")?,
            input: need("input")?,
            output: need("output")?,
            cached: find("cached"),
            class: find("class"),
            cap: find("cap"),
            consumer: find("consumer"),
            duration: find("duration_ms"),
            deadline: find("deadline_s"),
            status: find("status"),
            backend: find("backend"),
            deployment: find("deployment"),
            cost: find("cost_usd"),
        })
    }
}

/// A CSV file, row by row.
#[derive(Debug)]
pub struct CsvTrace<R> {
    reader: Reader<R>,
    columns: Columns,
    row: StringRecord,
    unused: Unused,
}

impl<R: Read> CsvTrace<R> {
    /// Reads the line of names.
    ///
    /// # Errors
    /// [`TraceError::Column`] if one is missing.
    pub fn new(from: R) -> Result<Self, TraceError> {
        let mut reader = ReaderBuilder::new().flexible(true).from_reader(from);
        let columns = Columns::find(reader.headers()?)?;
        Ok(CsvTrace { reader, columns, row: StringRecord::new(), unused: Unused::default() })
    }

    fn broken(&mut self, line: u64, what: &str) {
        self.unused.broken += 1;
        self.unused.first_broken.get_or_insert_with(|| format!("line {line}: {what}"));
    }
}

impl<R: Read> Trace for CsvTrace<R> {
    fn next(&mut self, names: &mut Names) -> Result<Option<Request>, TraceError> {
        loop {
            match self.reader.read_record(&mut self.row) {
                Ok(false) => return Ok(None),
                Ok(true) => {}
                Err(error) if matches!(error.kind(), ErrorKind::Io(_)) => return Err(error.into()),
                Err(error) => {
                    self.broken(error.position().map_or(0, csv::Position::line), "it is not text in UTF-8");
                    continue;
                }
            }
            match request(&self.row, &self.columns, names) {
                Ok(request) => return Ok(Some(request)),
                Err(what) => {
                    let line = self.row.position().map_or(0, csv::Position::line);
                    self.broken(line, &what);
                }
            }
        }
    }

    fn unused(&self) -> Unused {
        self.unused.clone()
    }
}

fn request(row: &StringRecord, columns: &Columns, names: &mut Names) -> Result<Request, String> {
    let field = |index: usize| row.get(index).unwrap_or("").trim();
    let given = |column: Option<usize>| column.map(field).filter(|text| !text.is_empty());
    let count = |text: &str, what: &str| {
        text.parse::<u64>().ok().filter(|count| *count < 1 << 40).ok_or_else(|| format!("{what} '{text}' is not a number of tokens"))
    };
    let span = |text: &str, unit: f64, what: &str| {
        let span = text.parse::<f64>().ok().and_then(|number| Duration::try_from_secs_f64(number * unit).ok());
        span.filter(|span| *span < Duration::from_secs(30 * 86_400)).ok_or_else(|| format!("{what} '{text}' is not a time span"))
    };
    let at = time(field(columns.time))?;
    let model = field(columns.model);
    if model.is_empty() {
        return Err("it names no model".to_owned());
    }
    let (input, output) = (count(field(columns.input), "input")?, count(field(columns.output), "output")?);
    let cached = given(columns.cached).map_or(Ok(0), |text| count(text, "cached"))?;
    if cached > input {
        return Err(format!("cached {cached} is more than input {input}"));
    }
    let class = given(columns.class).map(|text| {
        let found = Class::ALL.into_iter().find(|class| class.label().eq_ignore_ascii_case(text));
        found.ok_or_else(|| format!("class '{text}' is none of interactive, standard, batch"))
    });
    let took = given(columns.duration).map(|text| span(text, 1e-3, "duration_ms")).transpose()?;
    let seen = match given(columns.status) {
        None => None,
        Some(text) => {
            let status = text.parse::<u16>().ok().filter(|status| (100..600).contains(status));
            let status = status.ok_or_else(|| format!("status '{text}' is not a status"))?;
            let cost = given(columns.cost).map(|text| {
                let usd = text.parse::<f64>().ok().and_then(Money::from_usd);
                usd.ok_or_else(|| format!("cost_usd '{text}' is not an amount"))
            });
            let backend = given(columns.backend).map(|backend| place_name(backend, given(columns.deployment).unwrap_or_default()));
            Some(Arc::new(seen(status, backend.map(|name| names.number(&name)), took, cost.transpose()?)))
        }
    };
    Ok(Request {
        at,
        class: class.transpose()?,
        cap: given(columns.cap).map(|text| count(text, "cap")).transpose()?,
        took,
        first: None,
        deadline: given(columns.deadline).map(|text| span(text, 1.0, "deadline_s")).transpose()?,
        api: Api::Chat,
        usage: Usage { input, output, cached_input: cached, ..Usage::default() },
        model: names.number(model),
        consumer: given(columns.consumer).map(|name| names.number(name)),
        seen,
    })
}

/// What came of a request with this status, which one backend answered, if it is known.
pub fn seen(status: u16, place: Option<u32>, took: Option<Duration>, cost: Option<Money>) -> Seen {
    let end = match status {
        429 => SeenEnd::NoBackend,
        408 | 500..=599 => SeenEnd::Failed,
        _ => SeenEnd::Served,
    };
    // How long a refusal took is not known: other attempts may have followed.
    let answered = took.filter(|_| status != 429).unwrap_or_default();
    let answer = place.map(|place| Answer { place, took: answered, said: Said::of_status(status, None), used: None });
    Seen { answers: answer.into_iter().collect(), end, status: Some(status), cost, took, ..Seen::default() }
}

/// A time of RFC 3339, or in seconds since 1970.
fn time(text: &str) -> Result<Tick, String> {
    let bad = || format!("'{text}' is not a time: use 2026-11-01T08:00:00Z, or seconds since 1970");
    if let Ok(seconds) = text.parse::<f64>() {
        if !(0.0..LATEST).contains(&seconds) {
            return Err(bad());
        }
        return Ok(Tick((seconds * 1e6).round() as u64 * 1_000));
    }
    let time = chrono::DateTime::parse_from_rfc3339(text).map_err(|_| bad())?;
    time.timestamp_nanos_opt().and_then(|nanos| u64::try_from(nanos).ok()).map(Tick).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<Request>, Unused, Names) {
        let (mut trace, mut names) = (CsvTrace::new(text.as_bytes()).unwrap(), Names::default());
        let mut all = Vec::new();
        while let Some(request) = trace.next(&mut names).unwrap() {
            all.push(request);
        }
        (all, trace.unused(), names)
    }

    #[test]
    fn all_columns_are_read_in_any_order() {
        let (all, unused, names) = read(
            "\u{feff}Model,time,output,input,cached,class,cap,consumer,duration_ms,deadline_s\n\
             gpt-5.1,2026-11-01T00:00:00.5Z,100,2000,1500,batch,300,crm,2500,60\n\
             gpt-4o,1793491201,7,11,,,,,,\n",
        );
        assert_eq!(unused, Unused::default());
        let first = all[0].clone();
        assert_eq!(first.at, Tick(1_793_491_200_500_000_000));
        assert_eq!((first.usage.input, first.usage.output, first.usage.cached_input, first.cap), (2000, 100, 1500, Some(300)));
        assert_eq!((first.class, first.took), (Some(Class::Batch), Some(Duration::from_millis(2500))));
        assert_eq!((first.deadline, &*names.name(first.consumer.unwrap())), (Some(Duration::from_secs(60)), "crm"));
        let second = all[1].clone();
        assert_eq!((&*names.name(second.model), second.at), ("gpt-4o", Tick(1_793_491_201_000_000_000)));
        assert_eq!((second.consumer, second.class, second.cap, second.took, second.deadline), (None, None, None, None, None));
    }

    #[test]
    fn broken_rows_are_counted_and_the_rest_is_used() {
        let rows = [
            "0,m,1,1",
            "soon,m,1,1",
            "1,,1,1",
            "1,m,-1,1",
            "1,m,1,many",
            "1,m,1",
            "1793491201000,m,1,1",
            "-5,m,1,1",
            "NaN,m,1,1",
            "1,m,1,1,2",
            "1,m,1,1,,urgent",
            "5,m,1,1",
        ];
        let (all, unused, _) = read(&format!("time,model,input,output,cached,class\n{}\n", rows.join("\n")));
        assert_eq!(all.iter().map(|request| request.at.0).collect::<Vec<_>>(), [0, 5_000_000_000]);
        assert_eq!(unused.broken, 10);
        let first = unused.first_broken.unwrap();
        assert!(first.starts_with("line 3: 'soon' is not a time"), "{first}");
    }

    #[test]
    fn a_row_that_is_no_text_is_a_broken_row() {
        let bytes = b"time,model,input,output\n1,\xff,1,1\n2,m,1,1\n";
        let (mut trace, mut names) = (CsvTrace::new(&bytes[..]).unwrap(), Names::default());
        assert_eq!(trace.next(&mut names).unwrap().unwrap().at, Tick(2_000_000_000));
        assert_eq!(trace.unused().broken, 1);
    }

    #[test]
    fn a_missing_column_is_named() {
        let error = CsvTrace::new("time,model,input\n".as_bytes()).unwrap_err();
        assert!(error.to_string().contains("no column 'output'"), "{error}");
    }
}
