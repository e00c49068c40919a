//! Bytes that are not what they should be: each is rejected with its reason, and its neighbours are decoded as if it were not there.

use proptest::prelude::*;

use super::*;

/// Decodes `bad` between good records and returns why it was rejected.
fn rejected_between_good(decoder: &mut Decoder, good: &[u8], bad: Option<Vec<u8>>) -> Rejected {
    let alone = decoder.decode(&records(&[Some(good.to_vec())])).unwrap();
    let good = || Some(good.to_vec());
    let decoded = decoder.decode(&records(&[bad.clone(), good(), good(), bad.clone(), good(), bad])).unwrap();
    let offsets: Vec<u64> = decoded.origins.iter().map(|origin| origin.offset.0).collect();
    assert_eq!(offsets, [102, 104, 108]);
    assert!(rows(&decoded.events).iter().all(|row| *row == rows(&alone.events)[0]));
    assert_eq!(decoded.events.num_rows(), 3);
    let offsets: Vec<u64> = decoded.rejected.iter().map(|rejected| rejected.offset.0).collect();
    assert_eq!(offsets, [100, 106, 110]);
    assert!(decoded.rejected.iter().all(|rejected| rejected.reason == decoded.rejected[0].reason));
    decoded.rejected[0].clone()
}

fn check(reason: Reason, detail: &str, rejected: &Rejected) {
    assert_eq!(rejected.reason, reason, "{}", rejected.detail);
    assert!(rejected.detail.contains(detail), "{detail:?} is not in {:?}", rejected.detail);
}

fn without_end(mut record: Vec<u8>) -> Vec<u8> {
    record.pop();
    record
}

#[test]
fn every_kind_of_bad_record_leaves_its_neighbours_alone() {
    let good = tweet(1, "text");
    let not_utf8 = {
        let mut record = good.clone();
        let end = record.len() - 1;
        record[end] = 0xff;
        record
    };
    let cases = [
        (None, Reason::Tombstone, "without a value"),
        (Some(vec![]), Reason::Truncated, "field userid: the record ends within a number"),
        (Some(without_end(good.clone())), Reason::Truncated, "field tweet: needs 4 more bytes, the record has 3"),
        (Some([good.as_slice(), &[0, 0]].concat()), Reason::TrailingBytes, "2 bytes are left"),
        (Some(vec![0x80; 40]), Reason::InvalidValue, "field userid: a number does not end within 10 bytes"),
        (Some([&[0xff; 9], [2].as_slice()].concat()), Reason::InvalidValue, "field userid: a number of more than 64 bits"),
        (Some(vec![2, 1]), Reason::InvalidValue, "field username: a length of -1"),
        (Some(not_utf8), Reason::InvalidUtf8, "field tweet: text that is not UTF-8 at byte 3 of 4"),
        (Some(vec![0; 4097]), Reason::TooLarge, "4097 bytes; max_record_bytes of the source is 4096"),
    ];
    for (bad, reason, detail) in cases {
        check(reason, detail, &rejected_between_good(&mut bare(TWEET), &good, bad));
    }
}

#[test]
fn framings_are_told_apart() {
    let body = tweet(1, "text");
    let mut schemas = StaticSchemas::default();
    schemas.add_with_id(0x01020304, TWEET).unwrap();
    schemas.add_with_id(7, NESTED).unwrap();
    let schemas = Arc::new(schemas);
    let decoder = |framing| Decoder::new(&source(TWEET, framing), &[4, 2], schemas.clone()).unwrap();

    let good = confluent(0x01020304, &body);
    let cases = [
        (body.clone(), Reason::UnknownFraming, "Confluent's wire format"),
        (vec![], Reason::Truncated, "starts with []"),
        (good[..4].to_vec(), Reason::Truncated, "[00 01 02 03]"),
        (good[..5].to_vec(), Reason::Truncated, "field userid"),
        (confluent(99, &body), Reason::UnknownSchema, "no schema has the id 99"),
        (confluent(7, &body), Reason::UnresolvableSchema, "schema with the id 7: is written as \"nested\""),
    ];
    for (bad, reason, detail) in cases {
        check(reason, detail, &rejected_between_good(&mut decoder(Framing::Confluent), &good, Some(bad)));
    }

    let single = |fingerprint: u64, body: &[u8]| [&[0xc3, 0x01], fingerprint.to_le_bytes().as_slice(), body].concat();
    let good = single(rabin_fingerprint(TWEET).unwrap(), &body);
    let cases = [
        (good[1..].to_vec(), Reason::UnknownFraming, "single-object encoding"),
        (good[..9].to_vec(), Reason::Truncated, "single-object encoding"),
        (single(5, &body), Reason::UnknownSchema, "no schema has the fingerprint 0000000000000005"),
        (single(rabin_fingerprint(NESTED).unwrap(), &body), Reason::UnresolvableSchema, "is written as"),
    ];
    for (bad, reason, detail) in cases {
        check(reason, detail, &rejected_between_good(&mut decoder(Framing::SingleObject), &good, Some(bad)));
    }
}

/// What every implementation of Avro must reject, by the shared test vectors of the Avro project, and more of the kind.
#[test]
fn values_that_do_not_fit_their_type_are_invalid() {
    let array = r#"{"type":"array","items":"int"}"#;
    let nulls = r#"{"type":"array","items":"null"}"#;
    let (map, union, boolean) = (r#"{"type":"map","values":"int"}"#, r#"["null","int"]"#, r#""boolean""#);
    let symbol = r#"{"type":"enum","name":"e","symbols":["A","B"]}"#;
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":2,"scale":1}"#;
    let fixed = r#"{"type":"fixed","name":"d","size":20,"logicalType":"decimal","precision":38}"#;
    let min: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let max: &[u8] = &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let cases: [(&str, &[u8], &[u8], Reason, &str); 24] = [
        (r#""long""#, &[0], &[0x80; 10], Reason::InvalidValue, "does not end within 10 bytes"),
        (r#""int""#, &[0], &[0x80; 5], Reason::InvalidValue, "does not end within 5 bytes"),
        (r#""int""#, &[0], &[0xff, 0xff, 0xff, 0xff, 0x1f], Reason::InvalidValue, "out of bounds of an int"),
        (array, &[2, 2, 0], &[min, &[2]].concat(), Reason::InvalidValue, "more items than a number can say"),
        (array, &[2, 2, 0], max, Reason::Truncated, "ends within a number"),
        (array, &[1, 2, 2, 0], &[1, 4, 2, 2, 0], Reason::InvalidValue, "not as long as it says"),
        (array, &[1, 2, 2, 0], &[1, 1, 2, 0], Reason::InvalidValue, "a block of -1 bytes"),
        (array, &[1, 2, 2, 0], &[&[1], max].concat(), Reason::Truncated, "more bytes"),
        (nulls, &[6, 0], max, Reason::InvalidValue, "more than 1024 values that take no bytes"),
        (map, &[2, 2, 65, 2, 0], &[2, 2, 0xc3, 2, 0], Reason::InvalidUtf8, "not UTF-8"),
        (map, &[2, 2, 65, 2, 0], max, Reason::Truncated, "ends within a number"),
        (r#""bytes""#, &[0], &[1], Reason::InvalidValue, "a length of -1"),
        (r#""string""#, &[0], max, Reason::Truncated, "more bytes"),
        (union, &[2, 2], &[1], Reason::InvalidValue, "union branch -1 of 2"),
        (union, &[2, 2], &[10], Reason::InvalidValue, "union branch 5 of 2"),
        (symbol, &[2], &[1], Reason::InvalidValue, "enum symbol -1 of 2"),
        (symbol, &[2], &[10], Reason::InvalidValue, "enum symbol 5 of 2"),
        (boolean, &[1], &[2], Reason::InvalidValue, "2 is not a boolean"),
        (r#""float""#, &[0; 4], &[0; 3], Reason::Truncated, "needs 4 more bytes"),
        (r#""double""#, &[0; 8], &[0; 9], Reason::TrailingBytes, "1 bytes are left"),
        (decimal, &[2, 99], &[2, 100], Reason::InvalidValue, "more than 2 digits"),
        (decimal, &[2, 0x9d], &[0], Reason::InvalidValue, "no bytes"),
        (fixed, &[0xff; 20], &[0x80; 20], Reason::InvalidValue, "more than 38 digits"),
        (fixed, &[0; 20], &[[0; 4].as_slice(), &[0xff; 16]].concat(), Reason::InvalidValue, "more than 38 digits"),
    ];
    for (of, good, bad, reason, detail) in cases {
        let schema = format!(r#"{{"type":"record","name":"r","fields":[{{"name":"f","type":{of}}}]}}"#);
        let rejected = rejected_between_good(&mut bare(&schema), good, Some(bad.to_vec()));
        check(reason, detail, &rejected);
        assert!(reason == Reason::TrailingBytes || rejected.detail.starts_with("field f: "), "{}", rejected.detail);
    }
}

/// Twice as large with every level: a few kilobytes of schema, and not one byte of record, for 2^59 values.
#[test]
fn a_writers_type_of_exponential_size_takes_no_time() {
    let reader = r#"{"type":"record","name":"r","fields":[{"name":"x","type":"int","default":0}]}"#;
    let mut fields = vec![r#"{"name":"f0","type":{"type":"record","name":"t0","fields":[{"name":"a","type":"null"}]}}"#.to_string()];
    for level in 1..60 {
        let of = format!(r#"{{"name":"a","type":"t{0}"}},{{"name":"b","type":"t{0}"}}"#, level - 1);
        fields.push(format!(r#"{{"name":"f{level}","type":{{"type":"record","name":"t{level}","fields":[{of}]}}}}"#));
    }
    let doubling = format!(r#"{{"type":"record","name":"r","fields":[{}]}}"#, fields.join(","));
    let decoded = evolved(&doubling, reader, &[0]).decode(&records(&[Some(confluent(1, &[]))])).unwrap();
    check(Reason::InvalidValue, "values that take no bytes", &decoded.rejected[0]);
}

#[test]
fn endless_nesting_is_invalid() {
    let writer = r#"{"type":"record","name":"r","fields":[
        {"name":"list","type":{"type":"record","name":"node","fields":[{"name":"next","type":["null","node"]}]}},{"name":"x","type":"int"}]}"#;
    let reader = r#"{"type":"record","name":"r","fields":[{"name":"x","type":"int"}]}"#;
    let list = |length: usize| confluent(1, &[vec![2; length], vec![0, 14]].concat());
    let rejected = rejected_between_good(&mut evolved(writer, reader, &[0]), &list(200), Some(list(1000)));
    check(Reason::InvalidValue, "nested deeper than 256 levels", &rejected);
    assert!(rejected.detail.len() < 4000, "{}", rejected.detail.len());
}

/// Nothing that is registered later may change what a record decodes to, so a schema that nobody knows is asked for again, and one that nobody can
/// tell of stops the stream rather than losing its records.
#[test]
fn a_registry_that_is_down_pauses_and_an_unknown_schema_is_asked_for_again() {
    struct Registry(parking_lot::Mutex<Result<Option<String>, SchemaError>>);
    impl SchemaLookup for Registry {
        fn by_id(&self, _: u32) -> Result<Option<String>, SchemaError> {
            self.0.lock().clone()
        }
        fn by_fingerprint(&self, _: u64) -> Result<Option<String>, SchemaError> {
            self.0.lock().clone()
        }
    }
    let registry = Arc::new(Registry(parking_lot::Mutex::new(Err(SchemaError::Unavailable("connection refused".into())))));
    let mut decoder = Decoder::new(&source(TWEET, Framing::Confluent), &[0], registry.clone()).unwrap();
    let run = records(&[Some(confluent(3, &tweet(1, "x")))]);
    let error = decoder.decode(&run).unwrap_err();
    assert!(error.is_retryable(), "{error}");

    *registry.0.lock() = Ok(None);
    assert_eq!(decoder.decode(&run).unwrap().rejected[0].reason, Reason::UnknownSchema);
    *registry.0.lock() = Ok(Some(TWEET.into()));
    assert_eq!(decoder.decode(&run).unwrap().events.num_rows(), 1);
    *registry.0.lock() = Err(SchemaError::Unavailable("connection refused".into()));
    assert_eq!(decoder.decode(&run).unwrap().events.num_rows(), 1, "a known schema is not asked for again");
}

#[test]
fn a_record_that_ends_anywhere_too_early_is_truncated() {
    for (schema, good) in [(TWEET, tweet(3, "ends early")), (NESTED, nested(6))] {
        let mut decoder = bare(schema);
        for length in 0..good.len() {
            let rejected = rejected_between_good(&mut decoder, &good, Some(good[..length].to_vec()));
            assert_eq!(rejected.reason, Reason::Truncated, "{length} of {} bytes: {}", good.len(), rejected.detail);
        }
    }
}

proptest! {
    /// Any bytes, or good ones with some changed, among good records: no panic, neighbours as they were, and every record accounted for.
    #[test]
    fn damage_never_spreads(
        noise in prop::collection::vec(any::<u8>(), 0..200),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..8u32), 1..4),
        number in 0..12i64,
    ) {
        for (schema, good) in [(TWEET, tweet(number, "a text of some length, äöü 😀")), (NESTED, nested(number))] {
            let mut damaged = good.clone();
            for (place, bit) in &flips {
                let place = place.index(damaged.len());
                damaged[place] ^= 1 << bit;
            }
            let mut decoder = bare(schema);
            let alone = rows(&decoder.decode(&records(&[Some(good.clone())])).unwrap().events);
            let run = [Some(good.clone()), Some(noise.clone()), Some(good.clone()), Some(damaged), Some(good)];
            let decoded = decoder.decode(&records(&run)).unwrap();
            prop_assert_eq!(decoded.events.num_rows() + decoded.rejected.len(), run.len());
            prop_assert_eq!(decoded.origins.len(), decoded.events.num_rows());
            let all = rows(&decoded.events);
            for offset in [100, 104, 108] {
                let row = decoded.origins.iter().position(|origin| origin.offset.0 == offset);
                prop_assert_eq!(row.map(|row| &all[row]), Some(&alone[0]));
            }
            // What is rejected does not depend on the columns that are asked for.
            for columns in [vec![], vec![0], vec![4, 1]] {
                let mut decoder = Decoder::new(&source(schema, Framing::Bare), &columns, Arc::new(StaticSchemas::default())).unwrap();
                prop_assert_eq!(&decoder.decode(&records(&run)).unwrap().rejected, &decoded.rejected);
            }
        }
    }
}
