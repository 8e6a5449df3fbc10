//! Reads attempts in order of time, a page at a time: memory does not grow with the ledger.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use rusqlite::{Connection, Row, params};
use spillway_plugins::api::Api;
use spillway_plugins::limits::Class;
use spillway_plugins::tokens::Usage;

use super::error::LedgerError;
use super::schema::{first_id, micros_of, open_to_read, time_of};

/// Rows that are read at once.
const PAGE: i64 = 4096;

/// An attempt.
#[derive(Debug, Clone)]
pub struct Attempted {
    /// When its request arrived, in milliseconds since 1970.
    pub at: i64,
    /// The microseconds of that millisecond. In rows of an earlier version any number.
    pub at_us: u16,
    /// The request's id.
    pub request: String,
    /// The number of the attempt in its request, from 1.
    pub attempt: u32,
    /// The caller got its answer, or a part of it.
    pub is_answered: bool,
    /// The backend's status.
    pub status: Option<u16>,
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
    /// What was paid for it, in [`Money`](spillway_plugins::prices::Money)'s unit, if it was paid by use and the price is known.
    pub cost: Option<u64>,
    /// Upper bound of the tokens in its prompt, if a limit needed it.
    pub reserved: Option<u64>,
    /// How long the request had waited for a target before it, in microseconds; `None` in rows of an earlier format.
    pub waited_us: Option<u64>,
    /// From the request's arrival to its beginning, in microseconds; `None` in rows of an earlier format.
    pub began_us: Option<u64>,
    /// From the request's arrival to its first output, in microseconds, if there was any.
    pub first_us: Option<u64>,
}

impl Attempted {
    /// From the beginning of this attempt to its first output, if that is known.
    pub fn first(&self) -> Option<Duration> {
        Some(Duration::from_micros(self.first_us?.saturating_sub(self.began_us?)))
    }
}

/// What attempts of one kind have in common.
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
    /// The backend; empty if none was asked.
    pub backend: String,
    /// The deployment that was asked.
    pub deployment: String,
    /// How it ended: an attempt's label, or why none was made.
    pub outcome: String,
}

/// The attempts of a time range.
#[derive(Debug)]
pub struct AttemptRows {
    connection: Option<Connection>,
    only_answered: bool,
    /// The id of the last row that was read.
    last: i64,
    end: i64,
    page: VecDeque<Attempted>,
    kinds: HashMap<i64, Rc<Kind>>,
}

const SQL: &str = "SELECT id, kind, consumer, input, output, cached_input, cache_write, reasoning, input_audio, output_audio, cap, \
     cache IS NOT NULL, us, request, attempt, answered, status, cost, reserved, waited_us, began_us, first_us FROM entries \
     WHERE id > ?1 AND id < ?2 AND answered >= ?4 ORDER BY id LIMIT ?3";

impl AttemptRows {
    /// Those of requests that arrived from `since` on, before `until`, in milliseconds since 1970; `only_answered`: those
    /// whose answer the caller got.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub fn new(folder: &Path, since: i64, until: i64, only_answered: bool) -> Result<Self, LedgerError> {
        let connection = open_to_read(folder)?;
        let last = first_id(since) - 1;
        Ok(AttemptRows { connection, only_answered, last, end: first_id(until), page: VecDeque::new(), kinds: HashMap::new() })
    }

    /// The next one; `None` at the end.
    ///
    /// # Errors
    /// [`LedgerError`]
    pub fn next_row(&mut self) -> Result<Option<Attempted>, LedgerError> {
        if self.page.is_empty() {
            self.read()?;
        }
        Ok(self.page.pop_front())
    }

    fn read(&mut self) -> Result<(), LedgerError> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let mut statement = connection.prepare_cached(SQL)?;
        let mut rows = statement.query(params![self.last, self.end, PAGE, i64::from(self.only_answered)])?;
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
            self.page.push_back(attempted(row, id, kind)?);
            self.last = id;
        }
        Ok(())
    }
}

fn kind(connection: &Connection, number: i64) -> rusqlite::Result<Kind> {
    let sql =
        "SELECT api, model, class, source, backend, coalesce(nullif(spilled_from, ''), deployment), outcome FROM kinds WHERE kind = ?1";
    connection.prepare_cached(sql)?.query_row([number], |row| {
        let (api, class, source): (String, String, String) = (row.get(0)?, row.get(2)?, row.get(3)?);
        Ok(Kind {
            api: Api::ALL.into_iter().find(|known| known.label() == api),
            model: row.get(1)?,
            class: Class::ALL.into_iter().find(|known| known.label() == class),
            is_unmetered: source == "unknown",
            backend: row.get(4)?,
            deployment: row.get(5)?,
            outcome: row.get(6)?,
        })
    })
}

fn attempted(row: &Row<'_>, id: i64, kind: Rc<Kind>) -> rusqlite::Result<Attempted> {
    let count = |column: usize| row.get::<_, i64>(column).map(|count| u64::try_from(count).unwrap_or(0));
    let known = |column: usize| row.get::<_, Option<i64>>(column).map(|count| count.and_then(|count| u64::try_from(count).ok()));
    Ok(Attempted {
        at: time_of(id),
        at_us: micros_of(id),
        kind,
        request: row.get(13)?,
        attempt: u32::try_from(count(14)?).unwrap_or(u32::MAX),
        is_answered: row.get(15)?,
        status: row.get(16)?,
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
        cap: known(10)?,
        is_cached: row.get(11)?,
        us: count(12)?,
        cost: known(17)?,
        reserved: known(18)?,
        waited_us: known(19)?,
        began_us: known(20)?,
        first_us: known(21)?,
    })
}
