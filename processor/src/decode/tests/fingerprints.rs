//! Fingerprints that other implementations compute the same way. Numbers are those of the Avro project's own schema tests.

use super::*;

#[test]
fn fingerprints_are_those_of_the_avro_projects_tests() {
    let cases: [(&str, i64); 21] = [
        (r#""null""#, 7195948357588979594),
        (r#""boolean""#, -6970731678124411036),
        (r#""int""#, 8247732601305521295),
        (r#"{"type":"int"}"#, 8247732601305521295),
        (r#""long""#, -3434872931120570953),
        (r#""float""#, 5583340709985441680),
        (r#""double""#, -8181574048448539266),
        (r#""bytes""#, 5746618253357095269),
        (r#""string""#, -8142146995180207161),
        ("[]", -1241056759729112623),
        (r#"[ "int" , {"type":"boolean"} ]"#, 5392556393470105090),
        (r#"{"fields":[], "type":"record", "name":"foo", "doc":"foo", "aliases":["foo","bar"]}"#, -4824392279771201922),
        (r#"{"fields":[], "type":"record", "name":"foo", "namespace":"x.y"}"#, 5916914534497305771),
        (r#"{"fields":[], "type":"record", "name":"a.b.foo", "namespace":"x.y"}"#, -4616218487480524110),
        (
            r#"{"fields":[{"type":"boolean","aliases":[],"name":"f1","default":"true"},
                {"order":"descending","name":"f2","doc":"Hello","type":"int"}],"type":"record","name":"foo"}"#,
            -4860222112080293046,
        ),
        (r#"{"type":"enum", "name":"foo", "symbols":["A1"]}"#, -6342190197741309591),
        (r#"{"namespace":"x.y.z", "type":"enum", "name":"foo", "doc":"foo bar", "symbols":["A1", "A2"]}"#, -4448647247586288245),
        (r#"{"namespace":"x.y.z", "type":"fixed", "name":"foo", "doc":"foo bar", "size":32}"#, -3064184465700546786),
        (r#"{ "items":{"type":"null"}, "type":"array"}"#, -589620603366471059),
        (r#"{ "values":"string", "type":"map"}"#, -8732877298790414990),
        (
            r#"{"name":"PigValue","type":"record","fields":[{"name":"value","type":["null","int","long","PigValue"]}]}"#,
            -1759257747318642341,
        ),
    ];
    for (schema, expected) in cases {
        assert_eq!(rabin_fingerprint(schema).unwrap().cast_signed(), expected, "{schema}");
    }
}

/// `apache-avro` keeps parts of logical types in the canonical form, so its fingerprint is another; the specification strips them.
#[test]
fn logical_types_are_no_part_of_the_fingerprint() {
    let plain = TWEET.replace(r#"{"type":"long","logicalType":"timestamp-millis"}"#, r#""long""#);
    assert_eq!(rabin_fingerprint(TWEET).unwrap(), rabin_fingerprint(&plain).unwrap());
    let by_the_book = apache_avro::Schema::parse_str(&plain).unwrap().fingerprint::<apache_avro::rabin::Rabin>();
    assert_eq!(rabin_fingerprint(TWEET).unwrap().to_le_bytes().as_slice(), by_the_book.bytes.as_slice());

    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#;
    assert_eq!(rabin_fingerprint(decimal).unwrap(), rabin_fingerprint(r#""bytes""#).unwrap());
}

#[test]
fn names_take_the_namespace_they_are_in() {
    let short = r#"{"type":"record","name":"a","namespace":"n","fields":[
        {"name":"x","type":{"type":"enum","name":"e","symbols":["S"]}},{"name":"y","type":"e"},
        {"name":"z","type":{"type":"fixed","name":"f","namespace":"","size":1}}]}"#;
    let long = r#"{"type":"record","name":"n.a","fields":[
        {"name":"x","type":{"type":"enum","name":"n.e","symbols":["S"]}},{"name":"y","type":"n.e"},
        {"name":"z","type":{"type":"fixed","name":"f","namespace":"","size":"1"}}]}"#;
    assert_eq!(rabin_fingerprint(short).unwrap(), rabin_fingerprint(long).unwrap());
}

#[test]
fn schemas_that_are_none_are_refused() {
    for (schema, complaint) in [
        ("{", "not JSON"),
        (r#""strin""#, "\"strin\" is not defined"),
        ("3", "3 is not a type"),
        (r#"{"type":"array"}"#, "array has no \"items\""),
        (r#"{"type":"record","name":"r"}"#, "no list of \"fields\""),
        (r#"{"type":"record","name":"r","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#, "\"a\" twice"),
        (r#"{"type":"record","name":"r","fields":[{"name":"a","type":"nowhere"}]}"#, "field \"a\" of \"r\": type \"nowhere\""),
        (r#"{"type":"enum","name":"e","symbols":["A"],"default":"B"}"#, "default \"B\""),
        (r#"{"type":"fixed","name":"f","size":-1}"#, "needs a \"size\""),
        (r#"["int","int"]"#, "twice"),
        (r#"[["int"]]"#, "may not contain a union"),
        (r#"[{"type":"fixed","name":"f","size":1},{"type":"fixed","name":"f","size":2}]"#, "defined twice"),
    ] {
        let error = rabin_fingerprint(schema).unwrap_err().to_string();
        assert!(error.contains(complaint), "{schema}: {error}");
    }
}

#[test]
fn a_folder_knows_its_schemas_by_fingerprint_and_by_declared_and_derived_id() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tweet.avsc"), TWEET).unwrap();
    std::fs::write(folder.path().join("nested.avsc"), NESTED).unwrap();
    std::fs::write(folder.path().join("notes.txt"), "no schema").unwrap();
    std::fs::write(folder.path().join("ids.toml"), "7 = \"tweet\"\n8 = \"nested\"\n").unwrap();
    let schemas = SchemaFolder::open(folder.path()).unwrap();
    assert_eq!(schemas.by_id(7).unwrap().as_deref(), Some(TWEET));
    assert_eq!(schemas.by_id(8).unwrap().as_deref(), Some(NESTED));
    assert_eq!(schemas.by_id(9).unwrap(), None);
    assert_eq!(schemas.by_id(derived_id(TWEET).unwrap()).unwrap().as_deref(), Some(TWEET));
    assert_eq!(schemas.by_fingerprint(rabin_fingerprint(NESTED).unwrap()).unwrap().as_deref(), Some(NESTED));

    std::fs::write(folder.path().join("ids.toml"), "7 = \"twit\"\n").unwrap();
    let error = SchemaFolder::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("ids.toml: id 7 names twit.avsc, which is not in the folder"), "{error}");

    // No writer's own id can be taken for a derived one.
    std::fs::write(folder.path().join("ids.toml"), format!("{} = \"nested\"\n", derived_id(TWEET).unwrap())).unwrap();
    let error = SchemaFolder::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("is not an id that a writer can have, 0 to 2147483647"), "{error}");
}

/// The number that stands for a schema where no registry gives one must not be that of a schema with other values.
#[test]
fn schemas_that_differ_in_logical_types_are_not_taken_for_each_other() {
    let micros = TWEET.replace("timestamp-millis", "timestamp-micros");
    assert_ne!(derived_id(TWEET).unwrap(), derived_id(&micros).unwrap());
    // A UUID is decoded as what it is without: ids in logs of earlier releases, which did not know it, stay right.
    let uuid =
        TWEET.replace(r#"{"name":"username","type":"string"}"#, r#"{"name":"username","type":{"type":"string","logicalType":"uuid"}}"#);
    assert_ne!(uuid, TWEET);
    assert_eq!(derived_id(TWEET).unwrap(), derived_id(&uuid).unwrap());
    let decimal = |scale: u8| format!(r#"{{"type":"fixed","name":"d","size":4,"logicalType":"decimal","precision":9,"scale":{scale}}}"#);
    assert_ne!(derived_id(&decimal(1)).unwrap(), derived_id(&decimal(2)).unwrap());

    let fingerprint = rabin_fingerprint(TWEET).unwrap();
    let mut schemas = StaticSchemas::default();
    schemas.add(TWEET).unwrap();
    schemas.add(TWEET).unwrap();
    assert_eq!(schemas.by_fingerprint(fingerprint).unwrap().as_deref(), Some(TWEET));
    schemas.add(&micros).unwrap();
    assert_eq!(schemas.by_fingerprint(fingerprint).unwrap(), None, "whose records they are cannot be told");
    assert_eq!(schemas.by_id(derived_id(TWEET).unwrap()).unwrap().as_deref(), Some(TWEET));
    assert_eq!(schemas.by_id(derived_id(&micros).unwrap()).unwrap(), Some(micros));
}

#[test]
fn a_default_that_is_part_of_itself_is_refused() {
    let schema = r#"{"type":"record","name":"A","fields":[{"name":"a","type":"A","default":{}}]}"#;
    let error = arrow_schema(schema).unwrap_err().to_string();
    assert!(error.contains("part of itself"), "{error}");
}
