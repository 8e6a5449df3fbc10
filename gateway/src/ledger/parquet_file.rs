//! Writes rows to a Parquet file: https://parquet.apache.org/docs/file-format/. Every column may have nulls. Rows are collected
//! until a group is full, so memory does not grow with their number.

use std::io::Write;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, TimeUnit, Type as Physical, ZstdLevel};
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};
use serde_json::Value;

/// Rows in a group.
const GROUP: usize = 32_768;

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnType {
    /// UTF-8. Lists and tables are written as JSON.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Flag,
    /// A time, as RFC 3339; written in milliseconds since 1970, UTC.
    Time,
}

/// A file that is being written.
pub(super) struct ParquetFile<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    types: Vec<ColumnType>,
    rows: Vec<Vec<Value>>,
}

impl<W: Write + Send> ParquetFile<W> {
    /// A file with these columns.
    pub(super) fn new(to: W, columns: &[(&str, ColumnType)]) -> Result<Self, ParquetError> {
        let fields = columns.iter().map(|(name, kind)| field(name, *kind).map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        let schema: TypePtr = Arc::new(Type::group_type_builder("rows").with_fields(fields).build()?);
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let writer = SerializedFileWriter::new(to, schema, Arc::new(properties))?;
        Ok(ParquetFile { writer, types: columns.iter().map(|(_, kind)| *kind).collect(), rows: Vec::new() })
    }

    /// Adds a row, with a value for each column.
    pub(super) fn write(&mut self, row: Vec<Value>) -> Result<(), ParquetError> {
        self.rows.push(row);
        if self.rows.len() >= GROUP { self.write_group() } else { Ok(()) }
    }

    /// Writes what is left, and the footer.
    pub(super) fn end(mut self) -> Result<(), ParquetError> {
        if !self.rows.is_empty() {
            self.write_group()?;
        }
        self.writer.finish()?;
        self.writer.inner_mut().flush().map_err(|error| ParquetError::External(Box::new(error)))
    }

    fn write_group(&mut self) -> Result<(), ParquetError> {
        let mut group = self.writer.next_row_group()?;
        for (index, kind) in self.types.iter().enumerate() {
            let column = self.rows.iter().map(|row| row.get(index).unwrap_or(&Value::Null));
            match kind {
                ColumnType::Text => write_column::<ByteArrayType, _>(&mut group, column, text),
                ColumnType::Integer => write_column::<Int64Type, _>(&mut group, column, Value::as_i64),
                ColumnType::Number => write_column::<DoubleType, _>(&mut group, column, Value::as_f64),
                ColumnType::Flag => write_column::<BoolType, _>(&mut group, column, Value::as_bool),
                ColumnType::Time => write_column::<Int64Type, _>(&mut group, column, milliseconds),
            }?;
        }
        group.close()?;
        self.rows.clear();
        Ok(())
    }
}

fn field(name: &str, kind: ColumnType) -> Result<Type, ParquetError> {
    let (physical, logical) = match kind {
        ColumnType::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        ColumnType::Integer => (Physical::INT64, None),
        ColumnType::Number => (Physical::DOUBLE, None),
        ColumnType::Flag => (Physical::BOOLEAN, None),
        ColumnType::Time => (Physical::INT64, Some(LogicalType::timestamp(true, TimeUnit::MILLIS))),
    };
    Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL).with_logical_type(logical).build()
}

/// Writes the next column of a group: the values that there are, and for each row whether it has one.
fn write_column<'v, T: DataType, W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    values: impl Iterator<Item = &'v Value>,
    read: impl Fn(&Value) -> Option<T::T>,
) -> Result<(), ParquetError> {
    let (mut present, mut levels) = (Vec::new(), Vec::new());
    for value in values {
        let value = read(value);
        levels.push(i16::from(value.is_some()));
        present.extend(value);
    }
    let Some(mut column) = group.next_column()? else { return Err(ParquetError::General("a column too many".to_owned())) };
    column.typed::<T>().write_batch(&present, Some(&levels), None)?;
    column.close()
}

fn text(value: &Value) -> Option<ByteArray> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(ByteArray::from(text.as_str())),
        other => Some(ByteArray::from(other.to_string().as_str())),
    }
}

fn milliseconds(value: &Value) -> Option<i64> {
    chrono::DateTime::parse_from_rfc3339(value.as_str()?).ok().map(|time| time.timestamp_millis())
}
