//! Columns: their Arrow types, and which of them are decoded.

use super::*;

#[test]
fn every_avro_type_has_its_column() {
    let logical = |of: &str, name: &str| format!(r#"{{"type":"{of}","logicalType":"{name}"}}"#);
    let utc = || Some("+00:00".into());
    let int = |name: &str, nullable| Field::new(name, DataType::Int32, nullable);
    let cases = [
        (r#""null""#.to_string(), DataType::Null, true),
        (r#""boolean""#.to_string(), DataType::Boolean, false),
        (r#""int""#.to_string(), DataType::Int32, false),
        (r#""long""#.to_string(), DataType::Int64, false),
        (r#""float""#.to_string(), DataType::Float32, false),
        (r#""double""#.to_string(), DataType::Float64, false),
        (r#""string""#.to_string(), DataType::Utf8, false),
        (r#""bytes""#.to_string(), DataType::Binary, false),
        (r#"["null","int"]"#.to_string(), DataType::Int32, true),
        (r#"["int","null"]"#.to_string(), DataType::Int32, true),
        (r#"["int"]"#.to_string(), DataType::Int32, false),
        (logical("int", "date"), DataType::Date32, false),
        (logical("int", "time-millis"), DataType::Time32(TimeUnit::Millisecond), false),
        (logical("long", "time-micros"), DataType::Time64(TimeUnit::Microsecond), false),
        (logical("long", "timestamp-millis"), DataType::Timestamp(TimeUnit::Millisecond, utc()), false),
        (logical("long", "timestamp-micros"), DataType::Timestamp(TimeUnit::Microsecond, utc()), false),
        (logical("long", "timestamp-nanos"), DataType::Timestamp(TimeUnit::Nanosecond, utc()), false),
        (logical("long", "local-timestamp-millis"), DataType::Timestamp(TimeUnit::Millisecond, None), false),
        (logical("long", "local-timestamp-micros"), DataType::Timestamp(TimeUnit::Microsecond, None), false),
        (logical("long", "local-timestamp-nanos"), DataType::Timestamp(TimeUnit::Nanosecond, None), false),
        (logical("string", "uuid"), DataType::Utf8, false),
        (logical("string", "nobody knows"), DataType::Utf8, false),
        (logical("int", "timestamp-millis"), DataType::Int32, false),
        (r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#.to_string(), DataType::Decimal128(9, 2), false),
        (r#"{"type":"fixed","name":"x","size":8,"logicalType":"decimal","precision":18}"#.to_string(), DataType::Decimal128(18, 0), false),
        (r#"{"type":"fixed","name":"x","size":8,"logicalType":"decimal","precision":19}"#.to_string(), DataType::FixedSizeBinary(8), false),
        (r#"{"type":"bytes","logicalType":"decimal","precision":2,"scale":3}"#.to_string(), DataType::Binary, false),
        (r#"{"type":"enum","name":"x","symbols":["A"]}"#.to_string(), DataType::Utf8, false),
        (r#"{"type":"fixed","name":"x","size":3}"#.to_string(), DataType::FixedSizeBinary(3), false),
        (r#"{"type":"array","items":["null","int"]}"#.to_string(), DataType::List(int("item", true).into()), false),
        (
            r#"{"type":"map","values":"int"}"#.to_string(),
            DataType::Map(
                Field::new(
                    "entries",
                    DataType::Struct(vec![Field::new("keys", DataType::Utf8, false), int("values", false)].into()),
                    false,
                )
                .into(),
                false,
            ),
            false,
        ),
        (
            r#"["null",{"type":"record","name":"x","fields":[{"name":"a","type":"int"}]}]"#.to_string(),
            // Below a record that may be NULL everything may.
            DataType::Struct(vec![int("a", true)].into()),
            true,
        ),
        (
            r#"["null",{"type":"record","name":"x","fields":[
                {"name":"a","type":{"type":"record","name":"y","fields":[{"name":"b","type":"int"}]}},
                {"name":"c","type":{"type":"array","items":"int"}}]}]"#
                .to_string(),
            DataType::Struct(
                vec![
                    Field::new("a", DataType::Struct(vec![int("b", true)].into()), true),
                    Field::new("c", DataType::List(int("item", false).into()), true),
                ]
                .into(),
            ),
            true,
        ),
        (
            r#"{"type":"record","name":"x","fields":[{"name":"a","type":"int"}]}"#.to_string(),
            DataType::Struct(vec![int("a", false)].into()),
            false,
        ),
    ];
    for (of, expected, nullable) in cases {
        let schema = format!(r#"{{"type":"record","name":"r","fields":[{{"name":"f","type":{of}}}]}}"#);
        assert_eq!(arrow_schema(&schema).unwrap().fields()[0].as_ref(), &Field::new("f", expected, nullable), "{of}");
        // A run without records, and one of which none is good, have the same columns.
        let decoded = bare(&schema).decode(&records(&[None])).unwrap();
        assert_eq!((decoded.events.num_rows(), decoded.events.schema()), (0, arrow_schema(&schema).unwrap()));
    }
}

#[test]
fn types_without_a_column_are_refused_by_field() {
    let field = |of: &str| format!(r#"{{"type":"record","name":"r","fields":[{{"name":"f","type":{of}}}]}}"#);
    let cases = [
        (r#""int""#.to_string(), "must be a record"),
        (field(r#"["null","int","string"]"#), "field \"f\" is a union of several types"),
        (field(r#"{"type":"record","name":"i","fields":[{"name":"g","type":["int","string"]}]}"#), "field \"f.g\" is a union"),
        (field(r#"["null","r"]"#), "field \"f\": the type \"r\" contains itself"),
        (field(r#"{"type":"bytes","logicalType":"decimal","precision":39}"#), "field \"f\" is a decimal of 39 digits"),
        (
            r#"{"type":"record","name":"r","fields":[{"name":"f","type":"int","default":"1"}]}"#.to_string(),
            "its default \"1\" is not valid",
        ),
    ];
    for (schema, complaint) in cases {
        let error = arrow_schema(&schema).unwrap_err().to_string();
        assert!(error.contains(complaint), "{error}");
    }
}

#[test]
fn only_the_columns_asked_for_are_decoded_in_their_order() {
    let run = records(&[Some(tweet(1, "one")), None, Some(tweet(2, "two"))]);
    let decode = |columns: &[usize]| {
        let mut decoder = Decoder::new(&source(TWEET, Framing::Bare), columns, Arc::new(StaticSchemas::default())).unwrap();
        let decoded = decoder.decode(&run).unwrap();
        assert_eq!(decoded.events.schema(), decoder.schema());
        let names: Vec<String> = decoder.schema().fields().iter().map(|field| field.name().clone()).collect();
        (names, rows(&decoded.events), decoded.origins)
    };
    let (names, rows, origins) = decode(&[4, 2]);
    assert_eq!(names, ["tweet", "timestamp"]);
    assert_eq!(
        rows,
        [json!({"tweet": "one", "timestamp": 1_700_000_000_001i64}), json!({"tweet": "two", "timestamp": 1_700_000_000_002i64})]
    );
    let expected = [Origin { offset: Offset(100), record_time_ms: 0 }, Origin { offset: Offset(104), record_time_ms: 2 }];
    assert_eq!(origins, expected);
    let (names, rows, _) = decode(&[]);
    assert_eq!((names.len(), rows.len()), (0, 2), "without columns, there are still rows");

    for columns in [vec![5], vec![1, 1]] {
        let error = Decoder::new(&source(TWEET, Framing::Bare), &columns, Arc::new(StaticSchemas::default())).err().unwrap();
        assert!(matches!(error, DecodeError::Projection { columns: 5, .. }), "{error}");
    }
}

#[test]
fn nested_values_are_decoded() {
    let decoded = bare(NESTED).decode(&records(&[Some(nested(0)), Some(nested(1))])).unwrap();
    let parts =
        json!([{"name": "x", "weight": null, "kind": "LARGE"}, {"name": "y", "weight": {"f64": 0.5f64.to_bits()}, "kind": "LARGE"}]);
    let row = |flag: Json, digest: Json, number: i64| {
        json!({"flag": flag, "tags": ["größe", null], "sizes": {"map": [["a", [number, i64::MIN]]]}, "kind": "SMALL",
            "digest": digest, "price": "-1.00", "parts": parts})
    };
    assert_eq!(rows(&decoded.events), [row(json!(true), json!("010203ff"), 0), row(Json::Null, Json::Null, 1)]);
}
