//! Rows that differ while events come: read again until it is known whether they do.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use datafusion::scalar::ScalarValue;
use refold_processor::position::Cut;
use refold_processor::scalar;
use refold_processor::store::{PartitionRead, RowReader, StoreError};
use serde_json::Value;

use super::columns::Columns;
use super::report::{Report, values};
use super::{Compared, Counted, DiffError, DiffSettings, progress_of};

/// So many rows are read again at the most; if more differ, they are not only on their way.
const MOST: usize = 20_000;
/// Between two rounds.
const PAUSE: Duration = Duration::from_millis(200);
/// Rows of a page.
const PAGE: usize = 1_000;

/// A row that differs as it was read.
struct Candidate {
    rows: [Option<Box<str>>; 2],
    /// How far rows of each version may have been when they were read.
    read_to: [Cut; 2],
}

/// Rows that differ, and may only be on their way.
#[derive(Default)]
pub struct Unsettled(HashMap<Box<str>, Candidate>);

impl Unsettled {
    /// Keeps a row to read it again; if there are too many, it is counted as it is.
    pub fn add(&mut self, key: &str, left: Option<Box<str>>, right: Option<Box<str>>, report: &mut Report) {
        if self.0.len() >= MOST {
            report.unsettled += 1;
            return report.differ(key, left.as_deref(), right.as_deref());
        }
        self.0.insert(key.into(), Candidate { rows: [left, right], read_to: Default::default() });
    }
}

/// Reads candidates again until each is settled, or the time is up.
#[allow(clippy::disallowed_methods, reason = "bounds how long a comparison takes, and reaches no row")]
pub fn settle(
    rows: &dyn RowReader,
    sides: [&Compared; 2],
    columns: &[Columns; 2],
    unsettled: Unsettled,
    settings: &DiffSettings,
    report: &mut Report,
    counted: &mut Counted<'_, '_>,
) -> Result<(), DiffError> {
    let mut candidates = unsettled.0;
    let scanned_to = [progress_of(rows, sides[0])?.writing, progress_of(rows, sides[1])?.writing];
    candidates.values_mut().for_each(|candidate| candidate.read_to = scanned_to.clone());
    let begun = std::time::Instant::now();
    while !candidates.is_empty() && begun.elapsed() < settings.settle_for {
        let visible = [progress_of(rows, sides[0])?.visible, progress_of(rows, sides[1])?.visible];
        let found = [again(rows, sides[0], &columns[0], &candidates, counted)?, again(rows, sides[1], &columns[1], &candidates, counted)?];
        let read_to = [progress_of(rows, sides[0])?.writing, progress_of(rows, sides[1])?.writing];
        let [mut left, mut right] = found;
        candidates.retain(|key, candidate| {
            let now = [left.remove(key), right.remove(key)];
            match (&now[0], &now[1]) {
                (None, None) => return false,
                (Some(left), Some(right)) if report.agree(left, right) => return false,
                _ => {}
            }
            let has_stayed = now == candidate.rows;
            // Each is now past the place where the other one may have been: between, both had these rows at one cut.
            if has_stayed && visible[0].reaches(&candidate.read_to[1]) && visible[1].reaches(&candidate.read_to[0]) {
                report.differ(key, now[0].as_deref(), now[1].as_deref());
                return false;
            }
            if !has_stayed {
                *candidate = Candidate { rows: now, read_to: read_to.clone() };
            }
            true
        });
        counted.going.unsettled = candidates.len();
        counted.read(0)?;
        if !candidates.is_empty() {
            std::thread::sleep(PAUSE);
        }
    }
    report.moving += candidates.len() as u64;
    Ok(())
}

/// The rows of candidates as a version has them now.
fn again(
    rows: &dyn RowReader,
    side: &Compared,
    columns: &Columns,
    candidates: &HashMap<Box<str>, Candidate>,
    counted: &mut Counted<'_, '_>,
) -> Result<HashMap<Box<str>, Box<str>>, DiffError> {
    // Their partitions, each once: by the text of its key.
    let mut partitions: BTreeMap<String, Vec<ScalarValue>> = BTreeMap::new();
    for key in candidates.keys() {
        let partition = partition_of(side, columns, &values(key))?;
        partitions.entry(format!("{partition:?}")).or_insert(partition);
    }
    let mut found = HashMap::new();
    for partition in partitions.into_values() {
        let mut read = PartitionRead { partition, from: None, to: None, limit: PAGE, cursor: None };
        loop {
            let page = rows.read(&side.table, &read)?;
            counted.read(page.rows.num_rows())?;
            for row in 0..page.rows.num_rows() {
                let key = columns.key(&page.rows, row);
                if candidates.contains_key(key.as_str()) {
                    found.insert(key.into(), columns.values(&page.rows, row).into());
                }
            }
            match page.next {
                Some(next) => read.cursor = Some(next),
                None => break,
            }
        }
    }
    Ok(found)
}

/// The values of the partition key of a version in the key of a row.
fn partition_of(side: &Compared, columns: &Columns, key: &[Value]) -> Result<Vec<ScalarValue>, DiffError> {
    let broken = |why: String| StoreError::Broken(format!("table {}: {why}", side.table.name()));
    let fields = side.table.shape.columns.fields();
    let mut partition = Vec::new();
    for field in side.table.shape.partition_key.iter().filter_map(|column| fields.get(*column)) {
        let value = columns.key_names.iter().position(|name| name == field.name()).and_then(|index| key.get(index));
        let scalar = scalar::of_json(value.unwrap_or(&Value::Null), field.data_type());
        partition.push(scalar.map_err(|why| broken(format!("column {}: {} {why}", field.name(), value.unwrap_or(&Value::Null))))?);
    }
    Ok(partition)
}
