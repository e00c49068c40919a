//! From the text of a view to a record of the catalogue: the one way in which versions come to be.

use std::collections::BTreeMap;

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use refold_processor::decode::arrow_schema;
use refold_processor::source::Sources;
use refold_processor::store::catalogue::{Catalogue, CatalogueError, Definition, VersionRecord};
use refold_processor::view::{View, ViewError};

/// A source over which no view can be planned.
#[derive(Debug, thiserror::Error)]
#[error("source {source_name}: {message}")]
pub struct PlannerError {
    /// The source.
    pub source_name: String,
    /// What is wrong.
    pub message: String,
}

/// Plans views over the declared sources.
pub struct Planner {
    schemas: BTreeMap<String, SchemaRef>,
    event_times: BTreeMap<String, String>,
}

impl Planner {
    /// A planner over these sources.
    ///
    /// # Errors
    /// When a source's schema is not valid, or its event time is not a column of it.
    pub fn new(sources: &Sources) -> Result<Planner, PlannerError> {
        let (mut schemas, mut event_times) = (BTreeMap::new(), BTreeMap::new());
        for (name, source) in sources {
            let invalid = |message: String| PlannerError { source_name: name.clone(), message };
            let schema = arrow_schema(&source.schema_json).map_err(|error| invalid(error.to_string()))?;
            let event_time = schema.column_with_name(&source.event_time).map(|(_, field)| field.data_type());
            if let Some(other) = event_time.filter(|found| !matches!(found, DataType::Timestamp(..))) {
                let message = format!(
                    "event_time is {}, which is of type {other} and no time; declare it in schema {} with the logicalType timestamp-millis or \
                     timestamp-micros",
                    source.event_time, source.schema_name
                );
                return Err(invalid(message));
            }
            if event_time.is_none() {
                let fields: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                let message = format!(
                    "event_time is {}, which is no field of schema {}; there are: {}",
                    source.event_time,
                    source.schema_name,
                    fields.join(", ")
                );
                return Err(invalid(message));
            }
            schemas.insert(name.clone(), schema);
            event_times.insert(name.clone(), source.event_time.clone());
        }
        Ok(Planner { schemas, event_times })
    }

    /// Plans the text of a view; `file` names it in errors.
    ///
    /// # Errors
    /// Everything that a view may not be.
    pub fn plan(&self, sql: &str, file: &str) -> Result<View, ViewError> {
        let view = View::plan(sql, file, &self.schemas)?;
        let fields = self.schemas.get(&view.source).map(|schema| schema.fields());
        let cut = view.window_source_column.and_then(|column| fields?.get(column).map(|field| field.name().clone()));
        match (cut, self.event_times.get(&view.source)) {
            (Some(cut), Some(event_time)) if cut != *event_time => Err(ViewError {
                file: file.to_owned(),
                line: 1,
                column: 1,
                message: format!("the window is of {cut}, which is not the event time of source {}", view.source),
                help: Some(format!("use {event_time} in tumble() or hop(), or declare {cut} as event_time of the source")),
            }),
            _ => Ok(view),
        }
    }
}

/// Creates the next version of a view, or answers with the unfinished one of the same definition. `commit`: that of the folder which the definition came from.
///
/// # Errors
/// When the catalogue does not answer.
pub fn register(catalogue: &Catalogue, view: &View, commit: Option<&str>, by: &str) -> Result<VersionRecord, CatalogueError> {
    register_until(catalogue, view, commit, None, by)
}

/// The same for a version that ends at a record time, milliseconds since the Unix epoch.
///
/// # Errors
/// When the catalogue does not answer.
pub fn register_until(
    catalogue: &Catalogue,
    view: &View,
    commit: Option<&str>,
    until_ms: Option<i64>,
    by: &str,
) -> Result<VersionRecord, CatalogueError> {
    let fingerprint = view.shape.fingerprint();
    let definition = Definition { view: &view.name, sql: &view.sql, digest: &view.digest, fingerprint: &fingerprint, commit, until_ms };
    catalogue.create_from(&definition, by)
}
