//! Parsing Canonical Form and the fingerprint that single-object encoding carries.

use super::avro::{Body, Logical, NamedId, Schema, Type};
use super::{DecodeError, avro::BadSchema};

/// The CRC-64-AVRO of no bytes, which is also its polynomial.
const EMPTY: u64 = 0xc15d_213a_a4d7_a795;

/// The CRC-64-AVRO fingerprint of a schema: the Rabin fingerprint of its Parsing Canonical Form, both as in the Avro specification.
///
/// Logical types, defaults, aliases and documentation are no part of the canonical form.
///
/// # Errors
/// The text is not an Avro schema.
pub fn rabin_fingerprint(schema_json: &str) -> Result<u64, DecodeError> {
    let schema = Schema::parse(schema_json).map_err(|BadSchema(message)| DecodeError::Schema(message))?;
    Ok(crc_64_avro(canonical_form(&schema).as_bytes()))
}

fn crc_64_avro(bytes: &[u8]) -> u64 {
    let mut crc = EMPTY;
    for byte in bytes {
        crc ^= u64::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { EMPTY } else { 0 };
        }
    }
    crc
}

/// The same of the canonical form with logical types: schemas that differ in it decode to other values.
///
/// # Errors
/// The text is not an Avro schema.
pub fn typed_fingerprint(schema_json: &str) -> Result<u64, DecodeError> {
    let schema = Schema::parse(schema_json).map_err(|BadSchema(message)| DecodeError::Schema(message))?;
    Ok(crc_64_avro(form_of(&schema, true).as_bytes()))
}

fn canonical_form(schema: &Schema) -> String {
    form_of(schema, false)
}

fn form_of(schema: &Schema, is_typed: bool) -> String {
    let mut form = Form { schema, is_typed, defined: Vec::new(), text: String::new() };
    form.write(&schema.root);
    form.text
}

struct Form<'a> {
    schema: &'a Schema,
    /// Whether logical types are written too.
    is_typed: bool,
    defined: Vec<NamedId>,
    text: String,
}

impl Form<'_> {
    fn write(&mut self, of: &Type) {
        match of {
            Type::Null => self.quote("null"),
            Type::Boolean => self.quote("boolean"),
            Type::Int(logical) => self.logical("int", logical.as_ref()),
            Type::Long(logical) => self.logical("long", logical.as_ref()),
            Type::Float => self.quote("float"),
            Type::Double => self.quote("double"),
            Type::Bytes(logical) => self.logical("bytes", logical.as_ref()),
            Type::String(_) => self.quote("string"),
            Type::Array(items) => self.container(r#"{"type":"array","items":"#, items),
            Type::Map(values) => self.container(r#"{"type":"map","values":"#, values),
            Type::Union(branches) => self.list(branches, |form, branch| form.write(branch)),
            Type::Named(id) => self.named(*id),
        }
    }

    fn named(&mut self, id: NamedId) {
        let Some(named) = self.schema.named(id) else {
            return;
        };
        if self.defined.contains(&id) {
            return self.quote(&named.name);
        }
        self.defined.push(id);
        self.text.push_str(r#"{"name":"#);
        self.quote(&named.name);
        match &named.body {
            Body::Record(fields) => {
                self.text.push_str(r#","type":"record","fields":"#);
                self.list(fields, |form, field| {
                    form.text.push_str(r#"{"name":"#);
                    form.quote(&field.name);
                    form.container(r#","type":"#, &field.of);
                });
            }
            Body::Enum { symbols, .. } => {
                self.text.push_str(r#","type":"enum","symbols":"#);
                self.list(symbols, |form, symbol| form.quote(symbol));
            }
            Body::Fixed { size, logical } => {
                self.text.push_str(&format!(r#","type":"fixed","size":{size}"#));
                if let Some(logical) = self.typed(logical.as_ref()) {
                    self.text.push_str(&format!(r#","logicalType":"{logical:?}""#));
                }
            }
        }
        self.text.push('}');
    }

    fn logical(&mut self, name: &str, logical: Option<&Logical>) {
        match self.typed(logical) {
            Some(logical) => self.text.push_str(&format!(r#"{{"type":"{name}","logicalType":"{logical:?}"}}"#)),
            None => self.quote(name),
        }
    }

    /// What is written of a logical type. A UUID is decoded as what it is without: ids that were derived before it was known stay as they are.
    fn typed<'l>(&self, logical: Option<&'l Logical>) -> Option<&'l Logical> {
        logical.filter(|logical| self.is_typed && **logical != Logical::Uuid)
    }

    fn container(&mut self, opening: &str, of: &Type) {
        self.text.push_str(opening);
        self.write(of);
        self.text.push('}');
    }

    fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        self.text.push('[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.text.push(',');
            }
            write(self, item);
        }
        self.text.push(']');
    }

    fn quote(&mut self, text: &str) {
        self.text.push_str(&serde_json::Value::from(text).to_string());
    }
}
