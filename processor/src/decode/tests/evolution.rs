//! Avro's schema resolution, rule by rule.

use super::*;

/// What a field `f` of one type reads as with another.
fn read_as(written: &str, value: Avro, read: &str) -> Result<Json, Rejected> {
    let writer = format!(r#"{{"type":"record","name":"r","fields":[{{"name":"f","type":{written}}}]}}"#);
    let reader = format!(r#"{{"type":"record","name":"r","fields":[{{"name":"f","type":{read}}}]}}"#);
    read_records(&writer, record(&[("f", value)]), &reader).map(|row| row["f"].clone())
}

fn read_records(writer: &str, value: Avro, reader: &str) -> Result<Json, Rejected> {
    let record = confluent(1, &encode(writer, value));
    let decoded = evolved(writer, reader, &all_columns(reader)).decode(&records(&[Some(record)])).unwrap();
    match decoded.rejected.first() {
        Some(rejected) => Err(rejected.clone()),
        None => Ok(rows(&decoded.events)[0].clone()),
    }
}

fn double(value: f64) -> Json {
    json!({"f64": value.to_bits()})
}

fn float(value: f32) -> Json {
    json!({"f32": value.to_bits()})
}

const SMALL_LARGE: &str = r#"{"type":"enum","name":"e","symbols":["SMALL","LARGE"]}"#;

#[test]
fn values_are_read_as_wider_types() {
    let text = || Avro::String("ä".into());
    let millis = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
    let cases = [
        (r#""int""#, Avro::Int(-7), r#""int""#, json!(-7)),
        (r#""int""#, Avro::Int(i32::MIN), r#""long""#, json!(i32::MIN)),
        (r#""int""#, Avro::Int(7), r#""float""#, float(7.0)),
        (r#""int""#, Avro::Int(7), r#""double""#, double(7.0)),
        (r#""long""#, Avro::Long(i64::MIN), r#""long""#, json!(i64::MIN)),
        (r#""long""#, Avro::Long(1 << 40), r#""float""#, float((1u64 << 40) as f32)),
        (r#""long""#, Avro::Long(1 << 40), r#""double""#, double((1u64 << 40) as f64)),
        (r#""float""#, Avro::Float(0.1), r#""double""#, double(f64::from(0.1f32))),
        (r#""string""#, text(), r#""bytes""#, json!("c3a4")),
        (r#""bytes""#, Avro::Bytes("ä".into()), r#""string""#, json!("ä")),
        (r#""long""#, Avro::Long(5), millis, json!(5)),
        (r#""int""#, Avro::Int(5), millis, json!(5)),
        (millis, Avro::TimestampMillis(5), r#""long""#, json!(5)),
        (r#""string""#, text(), r#"["null","string"]"#, json!("ä")),
        (r#""int""#, Avro::Int(5), r#"["double","null"]"#, double(5.0)),
        (r#""null""#, Avro::Null, r#"["null","string"]"#, json!(null)),
        (r#"{"type":"array","items":"int"}"#, Avro::Array(vec![Avro::Int(1)]), r#"{"type":"array","items":["null","long"]}"#, json!([1])),
    ];
    for (written, value, read, expected) in cases {
        assert_eq!(read_as(written, value, read), Ok(expected), "{written} as {read}");
    }
}

#[test]
fn types_that_do_not_resolve_reject_every_record_of_that_writer() {
    let zero = || Avro::Int(0);
    let long = |logical: &str| format!(r#"{{"type":"long","logicalType":"{logical}"}}"#);
    let decimal = |scale: u32| format!(r#"{{"type":"bytes","logicalType":"decimal","precision":9,"scale":{scale}}}"#);
    let cases = [
        (r#""int""#.to_string(), zero(), r#""string""#.to_string(), "is written as int, but declared as string"),
        (r#""long""#.to_string(), Avro::Long(0), r#""int""#.to_string(), "is written as long, but declared as int"),
        (r#""double""#.to_string(), Avro::Double(0.0), r#""float""#.to_string(), "is written as double, but declared as float"),
        (r#""null""#.to_string(), Avro::Null, r#""int""#.to_string(), "is written as null, but declared as int"),
        (r#"["null","string"]"#.to_string(), Avro::Union(0, Box::new(Avro::Null)), r#""int""#.to_string(), "is written as null"),
        (
            long("timestamp-millis"),
            Avro::TimestampMillis(0),
            long("timestamp-micros"),
            "is written as timestamp-millis, but declared as timestamp-micros",
        ),
        (decimal(2), Avro::Decimal(vec![1].into()), decimal(3), "is written with 2 decimal places, but declared with 3"),
        (SMALL_LARGE.to_string(), Avro::Enum(0, "SMALL".into()), SMALL_LARGE.replace("\"e\"", "\"g\""), "is written as \"e\""),
        (
            r#"{"type":"fixed","name":"x","size":1}"#.to_string(),
            Avro::Fixed(1, vec![0]),
            r#"{"type":"fixed","name":"x","size":2}"#.to_string(),
            "is written in 1 bytes, but declared to have 2",
        ),
    ];
    for (written, value, read, complaint) in cases {
        let rejected = read_as(&written, value, &read).unwrap_err();
        assert_eq!(rejected.reason, Reason::UnresolvableSchema, "{written} as {read}");
        assert!(rejected.detail.contains("field \"f\"") && rejected.detail.contains(complaint), "{}", rejected.detail);
    }
}

#[test]
fn a_branch_of_a_union_that_does_not_resolve_rejects_only_its_values() {
    let union = |index, value| Avro::Union(index, Box::new(value));
    let written = r#"["null","long","string"]"#;
    assert_eq!(read_as(written, union(1, Avro::Long(3)), r#"["null","long"]"#), Ok(json!(3)));
    assert_eq!(read_as(written, union(0, Avro::Null), r#"["null","long"]"#), Ok(json!(null)));
    let rejected = read_as(written, union(2, Avro::String("x".into())), r#"["null","long"]"#).unwrap_err();
    assert_eq!(rejected.reason, Reason::InvalidValue);
    assert_eq!(rejected.detail, "field f: is written as string, but declared as long");

    assert_eq!(read_as(written, union(1, Avro::Long(3)), r#""double""#), Ok(double(3.0)));
    assert_eq!(read_as(written, union(0, Avro::Null), r#""double""#).unwrap_err().reason, Reason::InvalidValue);
}

#[test]
fn a_symbol_that_the_reader_has_not_becomes_its_default_or_is_rejected() {
    let with_default = r#"{"type":"enum","name":"e","symbols":["OTHER","LARGE"],"default":"OTHER"}"#;
    let without = r#"{"type":"enum","name":"e","symbols":["OTHER","LARGE"]}"#;
    let small = || Avro::Enum(0, "SMALL".into());
    assert_eq!(read_as(SMALL_LARGE, small(), with_default), Ok(json!("OTHER")));
    assert_eq!(read_as(SMALL_LARGE, Avro::Enum(1, "LARGE".into()), without), Ok(json!("LARGE")));
    let rejected = read_as(SMALL_LARGE, small(), without).unwrap_err();
    assert_eq!(rejected.reason, Reason::InvalidValue);
    assert!(rejected.detail.contains("no symbol \"SMALL\""), "{}", rejected.detail);
}

#[test]
fn fields_are_matched_by_name_and_alias_skipped_and_filled_with_defaults() {
    let writer = r#"{"type":"record","name":"old","namespace":"n","fields":[
        {"name":"gone","type":{"type":"map","values":{"type":"array","items":"string"}}},
        {"name":"b","type":"string"},{"name":"a","type":"int"},
        {"name":"inner","type":{"type":"record","name":"i","fields":[{"name":"x","type":"int"},{"name":"dropped","type":"bytes"}]}}]}"#;
    let reader = r#"{"type":"record","name":"new","aliases":["n.old"],"fields":[
        {"name":"a","type":"long"},
        {"name":"renamed","aliases":["nothing","b"],"type":"string"},
        {"name":"number","type":"double","default":1.5},
        {"name":"text","type":["null","string"],"default":null},
        {"name":"other","type":["null","string"],"default":"x"},
        {"name":"raw","type":"bytes","default":"\u00ff\u0001"},
        {"name":"list","type":{"type":"array","items":"int"},"default":[1,2]},
        {"name":"map","type":{"type":"map","values":"boolean"},"default":{"k":true}},
        {"name":"size","type":{"type":"enum","name":"s","symbols":["S","M"]},"default":"M"},
        {"name":"inner","type":{"type":"record","name":"i","fields":[{"name":"added","type":"int","default":-1},{"name":"x","type":"long"}]}},
        {"name":"point","type":{"type":"record","name":"p","fields":[{"name":"x","type":"int"},{"name":"y","type":"int","default":9}]},"default":{"x":3}}]}"#;
    let inner = record(&[("x", Avro::Int(4)), ("dropped", Avro::Bytes(vec![0; 3]))]);
    let gone = Avro::Map([("k".to_string(), Avro::Array(vec![Avro::String("skipped".into())]))].into());
    let value = record(&[("gone", gone), ("b", Avro::String("text".into())), ("a", Avro::Int(1)), ("inner", inner)]);
    let row = read_records(writer, value, reader).unwrap();
    let expected = json!({
        "a": 1, "renamed": "text", "number": double(1.5), "text": null, "other": "x", "raw": "ff01", "list": [1, 2],
        "map": {"map": [["k", true]]}, "size": "M", "inner": {"added": -1, "x": 4}, "point": {"x": 3, "y": 9}
    });
    assert_eq!(row, expected);
}

#[test]
fn a_field_without_a_default_that_is_not_written_does_not_resolve() {
    let writer = r#"{"type":"record","name":"r","fields":[{"name":"a","type":"int"}]}"#;
    let reader = r#"{"type":"record","name":"r","fields":[{"name":"b","type":"int"}]}"#;
    let rejected = read_records(writer, record(&[("a", Avro::Int(1))]), reader).unwrap_err();
    assert_eq!(rejected.reason, Reason::UnresolvableSchema);
    assert_eq!(rejected.detail, "schema with the id 1: field \"b\" is not written, and has no default");
}

#[test]
fn a_record_of_another_name_needs_an_alias() {
    let writer = r#"{"type":"record","name":"a.r","fields":[{"name":"x","type":"int"}]}"#;
    let elsewhere = r#"{"type":"record","name":"b.r","fields":[{"name":"x","type":"int"}]}"#;
    let other = r#"{"type":"record","name":"other","fields":[{"name":"x","type":"int"}]}"#;
    let value = || record(&[("x", Avro::Int(1))]);
    assert_eq!(read_records(writer, value(), elsewhere), Ok(json!({"x": 1})), "names match without their namespaces");
    let rejected = read_records(writer, value(), other).unwrap_err();
    assert_eq!(rejected.reason, Reason::UnresolvableSchema);
    assert!(rejected.detail.contains("make the first an alias"), "{}", rejected.detail);
}

/// A type that contains itself has no column, but a writer may have it in a field that the reader does not.
#[test]
fn a_recursive_field_is_skipped() {
    let writer = r#"{"type":"record","name":"r","fields":[
        {"name":"list","type":{"type":"record","name":"node","fields":[{"name":"value","type":"string"},{"name":"next","type":["null","node"]}]}},
        {"name":"x","type":"int"}]}"#;
    let reader = r#"{"type":"record","name":"r","fields":[{"name":"x","type":"int"}]}"#;
    let node = |next| record(&[("value", Avro::String("v".into())), ("next", next)]);
    let end = node(Avro::Union(0, Box::new(Avro::Null)));
    let value = record(&[("list", node(Avro::Union(1, Box::new(end)))), ("x", Avro::Int(6))]);
    assert_eq!(read_records(writer, value, reader), Ok(json!({"x": 6})));
}

/// Regression: a record that was compiled on the assumption that the one around it resolves was used after that one had failed.
#[test]
fn a_record_inside_of_one_that_does_not_resolve_is_not_taken_for_resolved() {
    let writer = r#"{"type":"record","name":"r","fields":[
        {"name":"first","type":["null",{"type":"record","name":"outer","fields":[
            {"name":"inner","type":{"type":"record","name":"inner","fields":[{"name":"x","type":"int"},{"name":"back","type":["null","outer"]}]}},
            {"name":"bad","type":"string"}]}]},
        {"name":"second","type":"inner"}]}"#;
    let reader = r#"{"type":"record","name":"r","fields":[
        {"name":"first","type":["null",{"type":"record","name":"outer","fields":[
            {"name":"inner","type":{"type":"record","name":"inner","fields":[{"name":"x","type":"int"}]}},{"name":"bad","type":"int"}]}]},
        {"name":"second","type":"inner"}]}"#;
    let null = || Avro::Union(0, Box::new(Avro::Null));
    let leaf = record(&[("x", Avro::Int(5)), ("back", null())]);
    let value = record(&[("first", null()), ("second", leaf.clone())]);
    assert_eq!(read_records(writer, value, reader), Ok(json!({"first": null, "second": {"x": 5}})));
    let outer = record(&[("inner", leaf.clone()), ("bad", Avro::String("s".into()))]);
    let value = record(&[("first", Avro::Union(1, Box::new(outer))), ("second", leaf)]);
    assert_eq!(read_records(writer, value, reader).unwrap_err().reason, Reason::InvalidValue);
}
