//! The fingerprint of a schema in the single-object framing: CRC-64-AVRO of its parsing canonical form.
//!
//! Both are as the Avro specification has them ("Parsing Canonical Form for Schemas", "Schema Fingerprints"). Logical types are no part of the canonical form.

use serde_json::{Map, Value};

const EMPTY: u64 = 0xC15D_213A_A4D7_A795;

/// The fingerprint; `Err` says what in the schema is not valid.
pub(crate) fn of(schema_json: &str) -> Result<u64, String> {
    let schema: Value = serde_json::from_str(schema_json).map_err(|error| error.to_string())?;
    let mut canonical = String::new();
    write(&schema, "", &mut canonical)?;
    Ok(canonical.bytes().fold(EMPTY, |hash, byte| (hash >> 8) ^ step(hash ^ u64::from(byte))))
}

/// Eight steps of the polynomial for the lowest byte.
fn step(value: u64) -> u64 {
    (0..8).fold(value & 0xFF, |hash, _| (hash >> 1) ^ (EMPTY & (hash & 1).wrapping_neg()))
}

fn write(schema: &Value, namespace: &str, out: &mut String) -> Result<(), String> {
    match schema {
        Value::String(name) => {
            quote(&if is_primitive(name) { name.clone() } else { full_name(name, namespace) }, out);
            Ok(())
        }
        Value::Array(branches) => list(branches, out, |branch, out| write(branch, namespace, out)),
        Value::Object(object) => match object.get("type") {
            Some(Value::String(name)) if is_primitive(name) => {
                quote(name, out);
                Ok(())
            }
            Some(Value::String(kind)) => write_complex(kind, object, namespace, out),
            // {"type": {"type": …}}: the inner one is the type.
            Some(inner) => write(inner, namespace, out),
            None => Err("a type without \"type\"".into()),
        },
        other => Err(format!("{other} is not a type")),
    }
}

fn write_complex(kind: &str, object: &Map<String, Value>, namespace: &str, out: &mut String) -> Result<(), String> {
    let part = |name: &str| object.get(name).ok_or_else(|| format!("a type {kind:?} without {name:?}"));
    let items = |name: &str| part(name)?.as_array().ok_or_else(|| format!("{name:?} of a type {kind:?} must be a list"));
    let own_name = || {
        let name = part("name")?.as_str().unwrap_or_default();
        Ok::<_, String>(full_name(name, object.get("namespace").and_then(Value::as_str).unwrap_or(namespace)))
    };
    match kind {
        "array" | "map" => {
            let inner = if kind == "array" { "items" } else { "values" };
            out.push_str(&format!("{{\"type\":\"{kind}\",\"{inner}\":"));
            write(part(inner)?, namespace, out)?;
        }
        "enum" | "fixed" | "record" | "error" => {
            let name = own_name()?;
            out.push_str("{\"name\":");
            quote(&name, out);
            out.push_str(&format!(",\"type\":\"{kind}\","));
            match kind {
                "enum" => {
                    out.push_str("\"symbols\":");
                    list(items("symbols")?, out, |symbol, out| {
                        quote(symbol.as_str().unwrap_or_default(), out);
                        Ok(())
                    })?;
                }
                "fixed" => out.push_str(&format!("\"size\":{}", part("size")?)),
                _ => {
                    let inner_namespace = name.rsplit_once('.').map_or("", |(namespace, _)| namespace);
                    out.push_str("\"fields\":");
                    list(items("fields")?, out, |field, out| {
                        out.push_str("{\"name\":");
                        quote(field.get("name").and_then(Value::as_str).unwrap_or_default(), out);
                        out.push_str(",\"type\":");
                        write(field.get("type").ok_or("a field without \"type\"")?, inner_namespace, out)?;
                        out.push('}');
                        Ok(())
                    })?;
                }
            }
        }
        // A named type, written as an object: {"type": "refold.country"}.
        _ => {
            quote(&full_name(kind, namespace), out);
            return Ok(());
        }
    }
    out.push('}');
    Ok(())
}

fn list(items: &[Value], out: &mut String, mut each: impl FnMut(&Value, &mut String) -> Result<(), String>) -> Result<(), String> {
    out.push('[');
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        each(item, out)?;
    }
    out.push(']');
    Ok(())
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    out.push_str(text);
    out.push('"');
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.trim_start_matches('.').to_string() } else { format!("{namespace}.{name}") }
}

fn is_primitive(name: &str) -> bool {
    matches!(name, "null" | "boolean" | "int" | "long" | "float" | "double" | "bytes" | "string")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn canonical(schema: &str) -> String {
        let mut out = String::new();
        write(&serde_json::from_str(schema).unwrap(), "", &mut out).unwrap();
        out
    }

    #[test]
    fn the_fingerprints_of_the_specifications_test_cases() {
        // From Avro's share/test/data/schema-tests.txt.
        assert_eq!(of("\"null\"").unwrap() as i64, 7_195_948_357_588_979_594);
        assert_eq!(of(r#"{"type":"boolean"}"#).unwrap() as i64, -6_970_731_678_124_411_036);
        assert_eq!(of("\"int\"").unwrap() as i64, 8_247_732_601_305_521_295);
        assert_eq!(of("\"string\"").unwrap() as i64, -8_142_146_995_180_207_161);
    }

    #[test]
    fn logical_types_docs_and_defaults_are_no_part_of_the_canonical_form() {
        let schema = r#"{"type": "record", "name": "a", "namespace": "x", "doc": "d", "fields": [
            {"name": "t", "doc": "d", "default": 0, "type": {"type": "long", "logicalType": "timestamp-millis"}},
            {"name": "e", "type": {"type": "enum", "name": "e", "symbols": ["A", "B"]}},
            {"name": "f", "type": ["null", "e", {"type": "fixed", "name": "y.f", "size": 4}]},
            {"name": "m", "type": {"type": "map", "values": {"type": "array", "items": "a"}}}]}"#;
        let expected = concat!(
            r#"{"name":"x.a","type":"record","fields":[{"name":"t","type":"long"},"#,
            r#"{"name":"e","type":{"name":"x.e","type":"enum","symbols":["A","B"]}},"#,
            r#"{"name":"f","type":["null","x.e",{"name":"y.f","type":"fixed","size":4}]},"#,
            r#"{"name":"m","type":{"type":"map","values":{"type":"array","items":"x.a"}}}]}"#
        );
        assert_eq!(canonical(schema), expected);
    }
}
