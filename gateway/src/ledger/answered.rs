//! Reads the answered requests in order of time, a page at a time: memory does not grow with the ledger.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;

use rusqlite::{Connection, Row, params};
use spillway_plugins::api::Api;
use spillway_plugins::limits::Class;
use spillway_plugins::tokens::Usage;

use super::error::LedgerError;
use super::schema::{first_id, open_to_read, time_of};

/// Rows that are read at once.
const PAGE: i64 = 4096;

/// An answered request.
#[derive(Debug, Clone)]
pub struct Answered {
    /// When it arrived, in milliseconds since 1970.
    pub at: i64,
    /// What it has in common with others.
    pub kind: Rc<Kind>,
    /// Its consumer, if known.
    pub consumer: Option<String>,
    /// What it used.
    pub usage: Usage,
    /// The most tokens that it allowed its answers to have together.
    pub cap: Option<u64>,
    /// The answer came from a cache of the gateway.
    pub is_cached: bool,
    /// How long the attempt took, in microseconds.
    pub us: u64,
}

/// What requests of one kind have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// The operation, if this program knows it.
    pub api: Option<Api>,
    /// The model asked for.
    pub model: String,
    /// The class of the consumer; `None` in rows of an earlier format.
    pub class: Option<Class>,
    /// Nothing is known of the usage.
    pub is_unmetered: bool,
}

/// The answered requests of a time range.
#[derive(Debug)]
pub struct AnsweredRows {
    connection: Option<Connection>,
    /// The id of the last row that was read.
    last: i64,
    end: i64,
    page: VecDeque<Answered>,
    kinds: HashMap<i64, Rc<Kind>>,
}

const SQL: &str = "SELECT id, kind, consumer, input, output, cached_input, cache_write, reasoning, input_audio, output_audio, cap, \
     cache IS NOT NULL, us FROM entries WHERE id > ?1 AND id < ?2 AND answered = 1 ORDER BY id LIMIT ?3";

impl AnsweredRows {
    /// Those that arrived from `since` on, before `until`, in milliseconds since 1970.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub fn new(folder: &Path, since: i64, until: i64) -> Result<Self, LedgerError> {
        let connection = open_to_read(folder)?;
        let last = first_id(since) - 1;
        Ok(AnsweredRows { connection, last, end: first_id(until), page: VecDeque::new(), kinds: HashMap::new() })
    }

    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub fn next_row(&mut self) -> Result<Option<Answered>, LedgerError> {
        if self.page.is_empty() {
            self.read()?;
        }
        Ok(self.page.pop_front())
    }

    fn read(&mut self) -> Result<(), LedgerError> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let mut statement = connection.prepare_cached(SQL)?;
        let mut rows = statement.query(params![self.last, self.end, PAGE])?;
        while let Some(row) = rows.next()? {
            let (id, number): (i64, i64) = (row.get(0)?, row.get(1)?);
            let kind = match self.kinds.get(&number) {
                Some(kind) => Rc::clone(kind),
                None => {
                    let kind = Rc::new(kind(connection, number)?);
                    self.kinds.insert(number, Rc::clone(&kind));
                    kind
                }
            };
            self.page.push_back(answered(row, id, kind)?);
            self.last = id;
        }
        Ok(())
    }
}

fn kind(connection: &Connection, number: i64) -> rusqlite::Result<Kind> {
    connection.prepare_cached("SELECT api, model, class, source FROM kinds WHERE kind = ?1")?.query_row([number], |row| {
        let (api, class, source): (String, String, String) = (row.get(0)?, row.get(2)?, row.get(3)?);
        Ok(Kind {
            api: Api::ALL.into_iter().find(|known| known.label() == api),
            model: row.get(1)?,
            class: Class::ALL.into_iter().find(|known| known.label() == class),
            is_unmetered: source == "unknown",
        })
    })
}

fn answered(row: &Row<'_>, id: i64, kind: Rc<Kind>) -> rusqlite::Result<Answered> {
    let count = |column: usize| row.get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or(0));
    Ok(Answered {
        at: time_of(id),
        kind,
        consumer: row.get(2)?,
        usage: Usage {
            input: count(3)?,
            output: count(4)?,
            cached_input: count(5)?,
            cache_write: count(6)?,
            reasoning: count(7)?,
            input_audio: count(8)?,
            output_audio: count(9)?,
            ..Usage::default()
        },
        cap: row.get::<_, Option<i64>>(10)?.and_then(|cap| u64::try_from(cap).ok()),
        is_cached: row.get(11)?,
        us: count(12)?,
    })
}
