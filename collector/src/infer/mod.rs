//! From a sample of JSON lines to a schema, a mapping, an event time and a key: a proposal, which is checked against the sample itself.
//!
//! Nothing is guessed that could be read in two ways: `03/04/2026` is text, and said to be.

mod kind;
mod names;
#[cfg(test)]
mod tests;

use serde_json::{Map, Value, json};

use kind::{Column, Kind, Time};
use names::Names;

/// The most values of a column that are looked at to tell how many different ones there are.
const MOST_DISTINCT: usize = 1_000;
/// Objects within objects are looked into so deep.
const MOST_DEPTH: usize = 4;
/// Names that say what an event's time is, the likeliest first.
const TIME_NAMES: [&str; 12] =
    ["event_time", "timestamp", "time", "ts", "time_us", "time_ms", "created_at", "createdat", "at", "datetime", "date", "received_at"];

/// What is proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The name of source, schema and mapping.
    pub name: String,
    /// The Avro schema.
    pub schema: String,
    /// What `sources.toml` is to have.
    pub declaration: String,
    /// The event time's field.
    pub event_time: String,
    /// The key's field, if one is proposed.
    pub key: Option<String>,
    /// What is not taken, or is worth a look.
    pub notes: Vec<String>,
}

/// What is proposed for these lines.
///
/// # Errors
/// When no line is an object, or none of its fields is a time.
pub fn propose(name: &str, lines: &[Value]) -> Result<Proposal, String> {
    let mut columns: Vec<Column> = Vec::new();
    let objects: Vec<&Map<String, Value>> = lines.iter().filter_map(Value::as_object).collect();
    if objects.is_empty() {
        return Err("no line is a JSON object".into());
    }
    for object in &objects {
        gather(object, &mut Vec::new(), &mut columns);
    }
    let mut names = Names::default();
    let mut notes = Vec::new();
    let mut fields = Vec::new();
    for column in &columns {
        match column.kind() {
            Ok(kind) => fields.push(Field { name: names.of(&column.path), column, kind, is_always: column.count == objects.len() }),
            Err(why) => notes.push(format!("{} is not taken: {why}", column.path.join("."))),
        }
    }
    let event_time = fields
        .iter()
        .filter(|field| field.is_always && field.kind.time().is_some())
        .min_by_key(|field| likeliness(&field.name))
        .ok_or(
            "no field of every line is a time that can be read in one way only; add one, or write the mapping by hand (docs/sources.md)",
        )?
        .name
        .clone();
    let key = fields
        .iter()
        .filter(|field| field.is_key(objects.len()))
        .min_by_key(|field| field.column.path.len())
        .map(|field| field.name.clone());
    notes.extend(fields.iter().filter_map(Field::note));
    Ok(Proposal {
        schema: schema(name, &fields, &event_time),
        declaration: declaration(name, &fields, &event_time, key.as_deref()),
        name: name.to_owned(),
        event_time,
        key,
        notes,
    })
}

/// A field of the record that is proposed.
struct Field<'c> {
    name: String,
    column: &'c Column,
    kind: Kind,
    /// Whether every line has it, and not as null.
    is_always: bool,
}

impl Field<'_> {
    /// Whether it names who or what an event is about: an id that comes again.
    fn is_key(&self, lines: usize) -> bool {
        let is_id =
            self.name.ends_with("id") || self.name.ends_with("user") || self.name.ends_with("username") || self.name.ends_with("key");
        let can_be = matches!(self.kind, Kind::Long | Kind::Text);
        self.is_always && is_id && can_be && self.column.distinct() > 1 && self.column.distinct() < lines
    }

    fn note(&self) -> Option<String> {
        self.column
            .may_be_time()
            .then(|| format!("{} may be a time, but can be read in more than one way: give it a format in the mapping", self.name))
    }

    fn is_own_name(&self) -> bool {
        matches!(self.column.path.as_slice(), [only] if *only == self.name)
    }

    /// The rule of the mapping, if one is needed.
    fn rule(&self) -> Option<String> {
        let path = match self.column.path.iter().any(|step| step.contains('.')) {
            true => json!(self.column.path).to_string(),
            false => json!(self.column.path.join(".")).to_string(),
        };
        let more = match &self.kind {
            Kind::Time(Time::Epoch(unit)) => format!(", unit = \"{unit}\""),
            Kind::Time(Time::Format(format)) => format!(", format = \"{format}\""),
            _ => String::new(),
        };
        (!self.is_own_name() || !more.is_empty()).then(|| format!("{} = {{ from = {path}{more} }}", self.name))
    }
}

/// How likely a name is that of the event time: the less, the likelier.
fn likeliness(name: &str) -> usize {
    let name = name.to_lowercase();
    let exact = TIME_NAMES.iter().position(|known| *known == name);
    exact.unwrap_or_else(|| TIME_NAMES.iter().position(|known| name.ends_with(known)).map_or(99, |at| TIME_NAMES.len() + at))
}

/// Notes the values of an object, and of those within it.
fn gather(object: &Map<String, Value>, path: &mut Vec<String>, columns: &mut Vec<Column>) {
    for (key, value) in object {
        path.push(key.clone());
        match value {
            Value::Object(inner) if path.len() < MOST_DEPTH => gather(inner, path, columns),
            value => match columns.iter_mut().find(|column| column.path == *path) {
                Some(column) => column.note(value),
                None => {
                    let mut column = Column::new(path.clone(), MOST_DISTINCT);
                    column.note(value);
                    columns.push(column);
                }
            },
        }
        path.pop();
    }
}

fn schema(name: &str, fields: &[Field<'_>], event_time: &str) -> String {
    let lines: Vec<String> = fields
        .iter()
        .map(|field| {
            let of = field.kind.schema();
            let is_nullable = !field.is_always && field.name != event_time;
            match is_nullable {
                true => format!("    {{\"name\": \"{}\", \"type\": [\"null\", {of}], \"default\": null}}", field.name),
                false => format!("    {{\"name\": \"{}\", \"type\": {of}}}", field.name),
            }
        })
        .collect();
    format!("{{\n  \"type\": \"record\",\n  \"name\": \"{name}\",\n  \"fields\": [\n{}\n  ]\n}}\n", lines.join(",\n"))
}

fn declaration(name: &str, fields: &[Field<'_>], event_time: &str, key: Option<&str>) -> String {
    let key =
        key.map_or("# key = \"…\"                  # equal keys go to the same partition".to_owned(), |key| format!("key = \"{key}\""));
    let rules: Vec<String> = fields.iter().filter_map(Field::rule).collect();
    let rules = if rules.is_empty() { String::new() } else { format!("{}\n", rules.join("\n")) };
    format!(
        "[sources.{name}]\ntopic = \"{name}\"\nschema = \"{name}\"\nevent_time = \"{event_time}\"\n{key}\n\n[mappings.{name}]\nsource = \"{name}\"\n\
         ignore_unknown = true\n\n[mappings.{name}.fields]\n{rules}"
    )
}
