//! What every change feed must do, whoever carries it. Each adapter runs [`run`].

// These are tests; they are library code only so that adapters in other crates run the very same ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "how long a test waits reaches no row")]

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::array::{Int64Array, RecordBatch, StringArray};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use serde_json::json;
use tokio::sync::broadcast::error::TryRecvError;

use super::{ChangeFeed, ChangedRow, Changes, Subscription, WAITING};
use crate::position::{Cut, Offset, Partition};
use crate::store::{Progress, RowBatch};
use crate::table::{Order, Table, TableShape, Version};

/// Enough for any feed to hand over what it has.
const SOON: Duration = Duration::from_secs(20);

/// Runs the suite; `make` gives a feed without tables, of two processes: one that publishes and one that follows.
///
/// # Panics
///
/// When the feed does not do what it must.
pub fn run(make: &dyn Fn() -> (Arc<dyn ChangeFeed>, Arc<dyn ChangeFeed>)) {
    type Case = fn(&dyn ChangeFeed, &dyn ChangeFeed);
    let cases: [(&str, Case); 8] = [
        ("a follower gets what is published, in order", in_order),
        ("deleted rows are told as deleted", deletions),
        ("a publication without rows tells positions", positions),
        ("every follower gets everything", followers),
        ("followers hear that they have to begin anew, in order", anew),
        ("tables do not mix", tables),
        ("a follower that is too slow is told so", slow),
        ("followers of what is removed are told that it has ended", removal),
    ];
    for (name, case) in cases {
        let (publisher, follower) = make();
        let checked = std::panic::catch_unwind(AssertUnwindSafe(|| case(publisher.as_ref(), follower.as_ref())));
        for version in 1..=2 {
            publisher.remove(&table(version)).unwrap();
        }
        assert!(checked.is_ok(), "this change feed does not conform: {name}");
    }
}

fn table(version: u32) -> Table {
    let columns = Schema::new(vec![
        Field::new("posts", DataType::Int64, true),
        Field::new("hashtag", DataType::Utf8, false),
        Field::new("place", DataType::Int64, false),
    ]);
    let shape = TableShape { columns: Arc::new(columns), partition_key: vec![1], clustering: vec![(2, Order::Desc)] };
    Table { view: "conforming".into(), version: Version(version), shape }
}

/// A row: hashtag, place, posts (`None`: deleted), write timestamp.
type Row<'a> = (&'a str, i64, Option<i64>, i64);

fn batch(rows: &[Row<'_>]) -> RowBatch {
    let posts: Int64Array = rows.iter().map(|row| row.2).collect();
    let hashtags: StringArray = rows.iter().map(|row| Some(row.0)).collect();
    let places: Int64Array = rows.iter().map(|row| Some(row.1)).collect();
    RowBatch {
        rows: RecordBatch::try_new(table(1).shape.columns, vec![Arc::new(posts), Arc::new(hashtags), Arc::new(places)]).unwrap(),
        written_at: rows.iter().map(|row| row.3).collect(),
        deleted: rows.iter().map(|row| row.2.is_none()).collect(),
    }
}

fn changed(rows: &[Row<'_>]) -> Vec<ChangedRow> {
    let row = |(hashtag, place, posts, written_at): &Row<'_>| ChangedRow {
        key: vec![json!(hashtag), json!(place)],
        row: posts.map(|posts| json!({"posts": posts, "hashtag": hashtag, "place": place})),
        written_at: *written_at,
    };
    rows.iter().map(row).collect()
}

fn cut(position: u64) -> Cut {
    [(Partition(0), Offset(position)), (Partition(2), Offset(7))].into_iter().collect()
}

fn progress(position: u64) -> Progress {
    Progress { visible: cut(position), writing: cut(position + 1), watermark_us: Some(position as i64 * 1_000), ..Progress::default() }
}

/// What comes until everything up to a position is out, in one.
fn until(subscription: &mut Subscription, position: u64) -> Changes {
    let deadline = Instant::now() + SOON;
    let mut all = Changes::default();
    while !all.visible.reaches(&cut(position)) {
        match subscription.try_recv() {
            Ok(changes) => {
                assert!(changes.visible.reaches(&all.visible), "positions do not go back");
                all.rows.extend(changes.rows.iter().cloned());
                all = Changes { rows: all.rows, ..changes.as_ref().clone() };
            }
            Err(TryRecvError::Empty) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(1)),
            Err(error) => panic!("position {position} does not come: {error}"),
        }
    }
    all
}

fn in_order(publisher: &dyn ChangeFeed, follower: &dyn ChangeFeed) {
    publisher.create(&table(1), None).unwrap();
    publisher.create(&table(1), None).unwrap();
    publisher.publish(&table(1), &[batch(&[("before", 1, Some(1), 1)])], &progress(1)).unwrap();
    let mut subscription = follower.subscribe(&table(1)).unwrap();
    let first = [("a", 1, Some(1), 2), ("ü \"☃\"", -5, Some(i64::MAX), 2)];
    let second = [("a", 1, Some(2), 3)];
    publisher.publish(&table(1), &[batch(&first), batch(&second)], &progress(2)).unwrap();
    publisher.publish(&table(1), &[batch(&[("a", 1, Some(3), 1 << 50)])], &progress(3)).unwrap();
    let mut all = until(&mut subscription, 3);
    // What was published just before may come too.
    all.rows.retain(|row| row.key.first() != Some(&json!("before")));
    let wanted: Vec<ChangedRow> = [changed(&first), changed(&second), changed(&[("a", 1, Some(3), 1 << 50)])].concat();
    assert_eq!(all, Changes { rows: wanted, writing: cut(4), visible: cut(3), watermark_us: Some(3_000), anew: false });
}

fn deletions(publisher: &dyn ChangeFeed, follower: &dyn ChangeFeed) {
    publisher.create(&table(1), Some(3_600_000_000)).unwrap();
    let mut subscription = follower.subscribe(&table(1)).unwrap();
    let rows = [("a", 1, Some(1), 2), ("a", 2, None, 2)];
    publisher.publish(&table(1), &[batch(&rows)], &progress(2)).unwrap();
    assert_eq!(until(&mut subscription, 2).rows, changed(&rows));
}

fn positions(publisher: &dyn ChangeFeed, follower: &dyn ChangeFeed) {
    publisher.create(&table(1), None).unwrap();
    let mut subscription = follower.subscribe(&table(1)).unwrap();
    publisher.publish(&table(1), &[], &Progress { watermark_us: None, ..progress(9) }).unwrap();
    let told = until(&mut subscription, 9);
    assert_eq!(told, Changes { rows: Vec::new(), writing: cut(10), visible: cut(9), watermark_us: None, anew: false });
}

fn anew(publisher: &dyn ChangeFeed, follower: &dyn ChangeFeed) {
    publisher.create(&table(1), None).unwrap();
    let mut subscription = follower.subscribe(&table(1)).unwrap();
    publisher.publish(&table(1), &[batch(&[("before", 1, Some(1), 1)])], &progress(1)).unwrap();
    publisher.begin_anew(&table(1), &progress(5)).unwrap();
    publisher.publish(&table(1), &[batch(&[("after", 1, Some(1), 6)])], &progress(6)).unwrap();
    let before = until(&mut subscription, 1);
    assert_eq!((before.rows, before.anew), (changed(&[("before", 1, Some(1), 1)]), false));
    let told = until(&mut subscription, 5);
    assert_eq!(told, Changes { rows: Vec::new(), writing: cut(6), visible: cut(5), watermark_us: Some(5_000), anew: true });
    let after = until(&mut subscription, 6);
    assert_eq!((after.rows, after.anew), (changed(&[("after", 1, Some(1), 6)]), false), "it is told once");
}

fn followers(publisher: &dyn ChangeFeed, follower: &dyn ChangeFeed) {
    publisher.create(&table(1), None).unwrap();
    let mut subscriptions: Vec<Subscription> = (0..3).map(|_| follower.subscribe(&table(1)).unwrap()).collect();
    publisher.publish(&table(1), &[batch(&[("a", 1, Some(1), 1)])], &progress(1)).unwrap();
    for subscription in &mut subscriptions {
        assert_eq!(until(subscription, 1).rows, changed(&[("a", 1, Some(1), 1)]));
    }
    drop(subscriptions);
    // After the last has left, another is welcome.
    let mut late = follower.subscribe(&table(1)).unwrap();
    publisher.publish(&table(1), &[batch(&[("a", 1, Some(2), 2)])], &progress(2)).unwrap();
    assert_eq!(until(&mut late, 2).rows.last(), changed(&[("a", 1, Some(2), 2)]).last());
}

fn tables(publisher: &dyn ChangeFeed, follower: &dyn ChangeFeed) {
    publisher.create(&table(1), None).unwrap();
    publisher.create(&table(2), None).unwrap();
    let (mut first, mut second) = (follower.subscribe(&table(1)).unwrap(), follower.subscribe(&table(2)).unwrap());
    publisher.publish(&table(2), &[batch(&[("second", 1, Some(1), 1)])], &progress(1)).unwrap();
    publisher.publish(&table(1), &[batch(&[("first", 1, Some(1), 1)])], &progress(1)).unwrap();
    assert_eq!(until(&mut first, 1).rows, changed(&[("first", 1, Some(1), 1)]));
    assert_eq!(until(&mut second, 1).rows, changed(&[("second", 1, Some(1), 1)]));
}

fn slow(publisher: &dyn ChangeFeed, follower: &dyn ChangeFeed) {
    publisher.create(&table(1), None).unwrap();
    let (mut slow, mut quick) = (follower.subscribe(&table(1)).unwrap(), follower.subscribe(&table(1)).unwrap());
    let publications = 2 * WAITING as u64;
    for position in 1..=publications {
        publisher.publish(&table(1), &[batch(&[("a", 1, Some(1), position as i64)])], &progress(position)).unwrap();
        until(&mut quick, position);
    }
    assert!(matches!(slow.try_recv(), Err(TryRecvError::Lagged(_))), "it is not told");
    assert!(slow.try_recv().is_ok(), "and it goes on");
}

fn removal(publisher: &dyn ChangeFeed, follower: &dyn ChangeFeed) {
    publisher.create(&table(1), None).unwrap();
    let mut subscription = follower.subscribe(&table(1)).unwrap();
    publisher.remove(&Table::named(&table(1).view, table(1).version)).unwrap();
    publisher.remove(&table(1)).unwrap();
    let deadline = Instant::now() + SOON;
    while subscription.try_recv() != Err(TryRecvError::Closed) {
        assert!(Instant::now() < deadline, "its followers wait for ever");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(follower.subscribe(&table(1)).is_err());
}

#[cfg(test)]
mod tests {
    use crate::changes::LocalFeed;

    use super::*;

    #[test]
    fn the_feed_of_one_process_does_what_every_feed_must() {
        run(&|| {
            let feed = Arc::new(LocalFeed::default());
            (feed.clone(), feed)
        });
    }
}
