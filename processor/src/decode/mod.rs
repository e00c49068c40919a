//! Record bytes → Arrow batches, by the writer's schema.
//!
//! A bad record never harms its batch-mates: it is rejected with its reason, the others are decoded. What is rejected depends on the record and the schemas
//! alone, never on the columns that a view uses or on the records around it.
//!
//! Each writer's schema is compiled once, with the reader's, into a [`program`] whose values go straight into [`columns`]. Records of JSON go there by [`json`].

mod arrow;
pub mod avro;
mod canonical;
mod columns;
mod cursor;
mod defaults;
mod framing;
mod json;
mod program;
mod resolve;
mod schemas;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bumpalo::Bump;
use datafusion::arrow::array::{RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::error::ArrowError;

pub use self::arrow::arrow_schema;
pub use self::canonical::rabin_fingerprint;
pub use self::schemas::{Fingerprints, SchemaError, SchemaFolder, SchemaLookup, StaticSchemas, derived_id, is_derived};

use self::avro::Schema;
use self::columns::Column;
use self::cursor::{Fault, Faulty};
use self::framing::Writers;
use self::json::JsonProgram;
use crate::log::{RecordSpan, Records};
use crate::position::Offset;
use crate::quarantine::{Reason, Rejected};
use crate::recovery::Recovery;
use crate::source::Source;

/// Where a decoded event comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// Its place in its partition.
    pub offset: Offset,
    /// When the log took it, milliseconds since the Unix epoch.
    pub record_time_ms: i64,
}

/// What a run of records decoded to.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The events, in log order.
    pub events: RecordBatch,
    /// Their origins: as many as `events` has rows.
    pub origins: Vec<Origin>,
    /// The records that did not decode, in log order.
    pub rejected: Vec<Rejected>,
}

/// Why a decoder cannot be made, or cannot decode a run of records now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// A schema is not Avro, or has no columns.
    #[error("{0}")]
    Schema(String),
    /// The schema of a source is not valid.
    #[error("source {source_name}: schema {schema_name}: {message}")]
    Source {
        /// The source.
        source_name: String,
        /// Its schema.
        schema_name: String,
        /// What is wrong with it.
        message: String,
    },
    /// A column was asked for that is not there, or twice.
    #[error("column {column} of source {source_name} was asked for; it has {columns} columns, each may be asked for once")]
    Projection {
        /// The source.
        source_name: String,
        /// The column's index.
        column: usize,
        /// How many there are.
        columns: usize,
    },
    /// A writer's schema could not be looked up.
    #[error(transparent)]
    Lookup(#[from] SchemaError),
    /// The records do not fit one batch.
    #[error("the records from offset {offset} on do not fit a batch of 2 GiB a column; read fewer bytes at once")]
    RunTooLarge {
        /// The first record that does not fit.
        offset: Offset,
    },
    /// The columns do not make a batch: a defect of the decoder.
    #[error("the decoded columns are no batch: {0}")]
    Columns(#[from] ArrowError),
}

impl DecodeError {
    /// What it takes for the call to succeed.
    pub fn recovery(&self) -> Recovery {
        match self {
            DecodeError::Lookup(SchemaError::Unavailable(_)) => Recovery::Transient,
            // Schemas and declarations are files and registries that a person can put right.
            DecodeError::Lookup(_) | DecodeError::Schema(_) | DecodeError::Source { .. } | DecodeError::Projection { .. } => {
                Recovery::Operator
            }
            DecodeError::RunTooLarge { .. } | DecodeError::Columns(_) => Recovery::Operator,
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        self.recovery().is_retried()
    }
}

/// Decodes the records of one source.
pub struct Decoder {
    schema: SchemaRef,
    records: Of,
    max_record_bytes: usize,
}

/// What the records are.
enum Of {
    Avro(Box<Writers>),
    Json(JsonProgram),
}

impl Decoder {
    /// A decoder for some columns of a source: indexes into its [`arrow_schema`], each at most once. All other fields are checked none the less.
    ///
    /// # Errors
    /// The source's schema is not valid, or a column is not there.
    pub fn new(source: &Source, columns: &[usize], schemas: Arc<dyn SchemaLookup>) -> Result<Decoder, DecodeError> {
        let of_source =
            |message: String| DecodeError::Source { source_name: source.name.clone(), schema_name: source.schema_name.clone(), message };
        let reader = Schema::parse(&source.schema_json).map_err(|error| of_source(error.0))?;
        let all = arrow::columns_of(&reader).map_err(|error| of_source(error.to_string()))?;
        for (place, column) in columns.iter().enumerate() {
            if *column >= all.fields().len() || columns.iter().take(place).any(|earlier| earlier == column) {
                return Err(DecodeError::Projection { source_name: source.name.clone(), column: *column, columns: all.fields().len() });
            }
        }
        let schema = Arc::new(all.project(columns)?);
        let records = match JsonProgram::new(source, &reader, columns) {
            Some(program) => Of::Json(program.map_err(of_source)?),
            None => Of::Avro(Box::new(Writers::new(source.framing, reader, columns.to_vec(), schemas))),
        };
        Ok(Decoder { schema, records, max_record_bytes: source.max_record_bytes })
    }

    /// The columns of decoded events.
    pub fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// Decodes a run of records. Every one of them is either an event or rejected.
    ///
    /// # Errors
    /// [`DecodeError::Lookup`] when a writer's schema cannot be looked up now: the same call may succeed later. [`DecodeError::RunTooLarge`]
    /// when a column of all events would be larger than 2 GiB.
    pub fn decode(&mut self, records: &Records) -> Result<Decoded, DecodeError> {
        let arena = Bump::new();
        // Schemas come first: from here on nothing waits, and the columns can borrow from what is known.
        let bodies = self.bodies(records)?;
        let mut root = Column::root(self.schema.fields(), records.spans.len())?;
        let mut origins = Vec::with_capacity(records.spans.len());
        let mut rejected = Vec::new();
        for (span, body) in records.spans.iter().zip(bodies) {
            let result = body.and_then(|(writer, body)| match &self.records {
                Of::Avro(writers) => writers.program(writer)?.decode(body, &mut root),
                Of::Json(program) => program.decode(body, &arena, &mut root),
            });
            let Err(fault) = result else {
                origins.push(Origin { offset: span.offset, record_time_ms: span.record_time_ms });
                continue;
            };
            root.truncate(origins.len());
            if fault.columns_full && !origins.is_empty() {
                return Err(DecodeError::RunTooLarge { offset: span.offset });
            }
            rejected.push(Rejected { offset: span.offset, reason: fault.reason, detail: fault.detail() });
        }
        let arrays = root.into_fields().into_iter().zip(self.schema.fields()).map(|(column, field)| column.finish(field.data_type()));
        let options = RecordBatchOptions::new().with_row_count(Some(origins.len()));
        let events = RecordBatch::try_new_with_options(self.schema.clone(), arrays.collect::<Result<_, _>>()?, &options)?;
        Ok(Decoded { events, origins, rejected })
    }

    /// The writer and the body of each record.
    fn bodies<'a>(&mut self, records: &'a Records) -> Result<Vec<Faulty<(usize, &'a [u8])>>, DecodeError> {
        if let Of::Avro(writers) = &mut self.records {
            writers.forget_unknown();
        }
        let mut bodies = Vec::with_capacity(records.spans.len());
        for span in &records.spans {
            bodies.push(match (value(records, span, self.max_record_bytes), &mut self.records) {
                (Ok(value), Of::Avro(writers)) => writers.frame(value)?,
                (Ok(value), Of::Json(_)) => Ok((0, value)),
                (Err(fault), _) => Err(fault),
            });
        }
        Ok(bodies)
    }
}

fn value<'a>(records: &'a Records, span: &RecordSpan, limit: usize) -> Faulty<&'a [u8]> {
    let Some(length) = span.len else {
        return Err(Fault::new(Reason::Tombstone, "a record without a value"));
    };
    if length as usize > limit {
        return Err(Fault::new(Reason::TooLarge, format!("{length} bytes; max_record_bytes of the source is {limit}")));
    }
    records.value(span).ok_or_else(|| Fault::new(Reason::Truncated, "the record lies outside of what was read"))
}
