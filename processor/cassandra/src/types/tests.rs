#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;

use datafusion::arrow::array::*;
use datafusion::arrow::datatypes::{DataType, Field, Float64Type, IntervalDayTime, IntervalMonthDayNano, TimeUnit, i256};

use super::*;
use crate::rows::cells;

fn there_and_back(column: &ArrayRef, role: Role) -> (Vec<u8>, ArrayRef) {
    let mut wire = Vec::new();
    let writes = encoder(column, role).unwrap();
    for row in 0..column.len() {
        writes.cell(row, &mut wire).unwrap();
    }
    let mut reads = decoder(column.data_type(), role).unwrap();
    for cell in cells(&wire) {
        reads.push(cell).unwrap();
    }
    let back = reads.finish().unwrap();
    (wire, back)
}

/// The types that the conformance suite of the port does not reach.
#[test]
fn the_rarer_types_come_back_as_they_were() {
    let numbers = Arc::new(Int64Array::from(vec![Some(1), None, Some(-3)]));
    let texts = Arc::new(StringArray::from(vec![None, Some("a"), Some("")]));
    let fields = vec![
        (Arc::new(Field::new("n", DataType::Int64, true)), numbers as ArrayRef),
        (Arc::new(Field::new("t", DataType::Utf8, true)), texts as ArrayRef),
    ];
    let structs = StructArray::from(fields);
    let (fields, columns, _) = structs.into_parts();
    let with_null = StructArray::new(fields, columns, Some(vec![true, false, true].into()));
    let columns: Vec<ArrayRef> = vec![
        Arc::new(LargeStringArray::from(vec![Some("a"), None, Some("")])),
        Arc::new(StringViewArray::from(vec![Some("a text of more than twelve bytes"), None, Some("")])),
        Arc::new(LargeBinaryArray::from(vec![Some(&[0_u8][..]), None, Some(&[])])),
        Arc::new(BinaryViewArray::from(vec![Some(&[0_u8][..]), None, Some(&[])])),
        Arc::new(TimestampSecondArray::from(vec![-1, 0, 1_700_000_000]).with_timezone("Europe/Zurich")),
        Arc::new(Date64Array::from(vec![Some(-86_400_000), None])),
        Arc::new(Time32SecondArray::from(vec![0, 86_399])),
        Arc::new(Time32MillisecondArray::from(vec![0, 86_399_999])),
        Arc::new(Time64MicrosecondArray::from(vec![0, 86_399_999_999])),
        Arc::new(Time64NanosecondArray::from(vec![0, 86_399_999_999_999])),
        Arc::new(DurationNanosecondArray::from(vec![i64::MIN, 5])),
        Arc::new(IntervalYearMonthArray::from(vec![-5, 5])),
        Arc::new(IntervalDayTimeArray::from(vec![IntervalDayTime::new(-1, i32::MAX)])),
        Arc::new(IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(i32::MIN, 7, -9)])),
        Arc::new(Decimal128Array::from(vec![i128::from(i64::MIN) * 1_000_000, 0, -1]).with_precision_and_scale(38, -2).unwrap()),
        Arc::new(Decimal256Array::from(vec![i256::MIN, i256::ZERO, i256::MAX]).with_precision_and_scale(76, 10).unwrap()),
        Arc::new(with_null),
    ];
    for column in columns {
        let (_, back) = there_and_back(&column, Role::Value);
        assert_eq!(&back, &column, "{}", column.data_type());
    }
}

/// As the CQL protocol has it: no byte more than needed, and none less.
#[test]
fn numbers_of_any_size_are_as_short_as_they_can_be() {
    let numbers: ArrayRef = Arc::new(UInt64Array::from(vec![0, 127, 128, 255, 256, u64::MAX]));
    let (wire, back) = there_and_back(&numbers, Role::Value);
    let expected: [&[u8]; 6] = [&[0], &[127], &[0, 128], &[0, 255], &[1, 0], &[0, 255, 255, 255, 255, 255, 255, 255, 255]];
    assert_eq!(cells(&wire).map(Option::unwrap).collect::<Vec<_>>(), expected);
    assert_eq!(&back, &numbers);
    let negative: ArrayRef = Arc::new(Decimal128Array::from(vec![-1, -128, -129]).with_precision_and_scale(10, 1).unwrap());
    let (wire, back) = there_and_back(&negative, Role::Value);
    let expected: [&[u8]; 3] = [&[0, 0, 0, 1, 255], &[0, 0, 0, 1, 128], &[0, 0, 0, 1, 255, 127]];
    assert_eq!(cells(&wire).map(Option::unwrap).collect::<Vec<_>>(), expected);
    assert_eq!(&back, &negative);
}

/// Cassandra refuses the empty one; every other keeps apart from it and from each other.
#[test]
fn whole_partition_keys_are_never_empty() {
    let keys: ArrayRef = Arc::new(StringArray::from(vec!["", "\0", "\0\0", "a", "a\0"]));
    let (wire, back) = there_and_back(&keys, Role::WholePartitionKey);
    assert_eq!(cells(&wire).map(Option::unwrap).collect::<Vec<_>>(), [&b"\0"[..], b"\0\0", b"\0\0\0", b"a", b"a\0"]);
    assert_eq!(&back, &keys);
}

/// Bits are kept in values; in keys, where Cassandra sees one value, there is one.
#[test]
fn not_a_number_is_one_key() {
    let odd = f64::from_bits(0xfff8_0000_0000_0001);
    let values: ArrayRef = Arc::new(Float64Array::from(vec![odd, -0.0]));
    let (_, kept) = there_and_back(&values, Role::Value);
    assert_eq!(kept.as_primitive::<Float64Type>().value(0).to_bits(), odd.to_bits());
    let (_, key) = there_and_back(&values, Role::Key);
    assert_eq!(key.as_primitive::<Float64Type>().value(0).to_bits(), f64::NAN.to_bits());
    assert_eq!(key.as_primitive::<Float64Type>().value(1).to_bits(), (-0.0_f64).to_bits());
}

/// Rather than stored as something else.
#[test]
fn what_cql_cannot_hold_is_refused() {
    let late: ArrayRef = Arc::new(TimestampSecondArray::from(vec![i64::MAX]));
    let odd: ArrayRef = Arc::new(Time64NanosecondArray::from(vec![86_400_000_000_000]));
    for column in [late, odd] {
        assert!(encoder(&column, Role::Value).unwrap().cell(0, &mut Vec::new()).is_err());
    }
    let mut reads = decoder(&DataType::Timestamp(TimeUnit::Second, None), Role::Value).unwrap();
    assert!(reads.push(Some(&1_i64.to_be_bytes())).is_err(), "a millisecond is no whole second");
}
