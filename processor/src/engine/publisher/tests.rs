#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "how long a test waits reaches no row")]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use datafusion::arrow::array::{Int64Array, RecordBatch};
use datafusion::arrow::datatypes::{DataType, Field, Schema};

use super::*;
use crate::changes::Subscription;
use crate::position::{Cut, Offset, Partition};
use crate::table::{TableShape, Version};

/// What was published: the rows' numbers, or that followers are to begin anew, and up to where.
#[derive(Debug, PartialEq)]
enum Said {
    Rows(Vec<i64>, u64),
    Anew(u64),
}

/// A feed that answers as it is told to.
#[derive(Default)]
struct Feed {
    said: Mutex<Vec<Said>>,
    refusals: Mutex<VecDeque<LogError>>,
    /// Each call waits for one of these, where there is a channel.
    gate: Mutex<Option<Receiver<()>>>,
}

impl Feed {
    fn say(&self, said: Said) -> Result<(), LogError> {
        if let Some(gate) = self.gate.lock().as_ref() {
            gate.recv().map_err(|_| LogError::Unavailable("the gate is gone".into()))?;
        }
        self.refusals.lock().pop_front().map_or(Ok(()), Err)?;
        self.said.lock().push(said);
        Ok(())
    }

    fn gated(&self) -> Sender<()> {
        let (sender, receiver) = channel();
        *self.gate.lock() = Some(receiver);
        sender
    }

    fn refuse(&self, error: LogError) {
        self.refusals.lock().push_back(error);
    }

    fn take(&self) -> Vec<Said> {
        std::mem::take(&mut self.said.lock())
    }
}

impl ChangeFeed for Feed {
    fn create(&self, _: &Table, _: Option<i64>) -> Result<(), LogError> {
        Ok(())
    }

    fn publish(&self, _: &Table, rows: &[RowBatch], progress: &Progress) -> Result<(), LogError> {
        let rows = rows.iter().flat_map(|batch| batch.written_at.clone()).collect();
        self.say(Said::Rows(rows, progress.visible.sum()))
    }

    fn begin_anew(&self, _: &Table, progress: &Progress) -> Result<(), LogError> {
        self.say(Said::Anew(progress.visible.sum()))
    }

    fn subscribe(&self, _: &Table) -> Result<Subscription, LogError> {
        Err(LogError::Unavailable("nobody follows".into()))
    }

    fn remove(&self, _: &Table) -> Result<(), LogError> {
        Ok(())
    }
}

fn schema() -> Arc<Schema> {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]))
}

fn row(number: i64) -> RowBatch {
    let rows = RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(vec![number]))]).unwrap();
    RowBatch { rows, written_at: vec![number], deleted: vec![false] }
}

fn at(position: u64) -> Progress {
    let visible: Cut = [(Partition(0), Offset(position))].into_iter().collect();
    Progress { visible, ..Progress::default() }
}

struct World {
    feed: Arc<Feed>,
    status: Arc<Mutex<RunStatus>>,
    publications: Arc<Publications>,
}

impl World {
    /// Publications of which `bytes` may wait.
    fn new(bytes: usize) -> World {
        let (feed, status) = (Arc::new(Feed::default()), Arc::<Mutex<RunStatus>>::default());
        let shape = TableShape { columns: schema(), partition_key: vec![0], clustering: vec![] };
        let table = Table { view: "counts".into(), version: Version(1), shape };
        let shares = Arc::new(Shares::new(0, 0, bytes * PART_OF_QUEUE));
        let publications = Arc::new(Publications::new(feed.clone(), table, None, shares, status.clone()));
        World { feed, status, publications }
    }

    /// One whose followers are told everything up to position 1.
    fn begun(bytes: usize) -> World {
        let world = World::new(bytes);
        world.publications.offer(vec![row(1)], at(1));
        assert_eq!(world.publications.step().unwrap(), Published::Anew);
        world.feed.take();
        world
    }

    fn offer(&self, number: i64) {
        self.publications.offer(vec![row(number)], at(number as u64));
    }

    fn feed_error(&self) -> Option<String> {
        self.status.lock().feed_error.clone()
    }
}

const ROOMY: usize = 1 << 20;

#[test]
fn an_owner_tells_followers_to_begin_anew_and_then_publishes_in_order() {
    let world = World::new(ROOMY);
    assert_eq!(world.publications.step().unwrap(), Published::Nothing);
    world.offer(1);
    assert_eq!(world.publications.step().unwrap(), Published::Anew);
    for number in 2..=4 {
        world.offer(number);
    }
    world.publications.offer(Vec::new(), at(9));
    while world.publications.step().unwrap() != Published::Nothing {}
    assert_eq!(world.feed.take(), [Said::Anew(1), Said::Rows(vec![2, 3, 4], 9)]);
    assert!(world.publications.is_published());
}

#[test]
fn what_a_feed_does_not_take_for_a_moment_comes_again_in_its_place() {
    let world = World::begun(ROOMY);
    world.offer(2);
    world.feed.refuse(LogError::Unavailable("for a moment".into()));
    assert!(world.publications.step().is_err());
    assert!(world.feed_error().unwrap().contains("for a moment"));
    world.offer(3);
    assert_eq!(world.publications.step().unwrap(), Published::Changes);
    assert_eq!(world.feed.take(), [Said::Rows(vec![2, 3], 3)]);
    assert_eq!((world.feed_error(), world.status.lock().feed_gaps), (None, 0));
}

#[test]
fn what_a_feed_refuses_is_left_out_and_followers_begin_anew_before_anything_else() {
    for error in [LogError::Refused("no right".into()), LogError::UnknownTopic("changes".into()), LogError::Broken("panicked".into())] {
        let world = World::begun(ROOMY);
        let said = error.to_string();
        world.offer(2);
        world.feed.refuse(error);
        assert!(world.publications.step().is_err());
        assert_eq!(world.feed_error(), Some(said));
        world.offer(3);
        world.feed.refuse(LogError::Unavailable("not yet".into()));
        assert!(world.publications.step().is_err());
        world.offer(4);
        assert_eq!(world.publications.step().unwrap(), Published::Anew);
        world.offer(5);
        assert_eq!(world.publications.step().unwrap(), Published::Changes);
        assert_eq!(world.feed.take(), [Said::Anew(4), Said::Rows(vec![5], 5)]);
        assert_eq!(world.feed_error(), None);
    }
}

#[test]
fn what_is_offered_while_followers_are_told_to_begin_anew_is_lost_if_that_fails() {
    let world = World::new(ROOMY);
    world.offer(1);
    let gate = world.feed.gated();
    let stepping = std::thread::spawn({
        let publications = world.publications.clone();
        move || publications.step()
    });
    let taken = Instant::now();
    while world.publications.queue.lock().has_gap {
        assert!(taken.elapsed() < Duration::from_secs(60));
        std::thread::yield_now();
    }
    world.offer(2);
    world.feed.refuse(LogError::Refused("no right".into()));
    gate.send(()).unwrap();
    assert!(stepping.join().unwrap().is_err());
    *world.feed.gate.lock() = None;
    while world.publications.step().unwrap() != Published::Nothing {}
    assert_eq!(world.feed.take(), [Said::Anew(2)], "followers read row 2 from the store");
}

#[test]
fn a_feed_that_lags_by_more_than_the_queue_takes_skips_what_waits() {
    let world = World::begun(10 * size(&row(0)));
    for number in 2..100 {
        world.offer(number);
        assert!(world.publications.queue.lock().bytes <= 10 * size(&row(0)));
    }
    assert!(world.feed_error().unwrap().contains("lags behind"), "{:?}", world.feed_error());
    assert_eq!(world.publications.step().unwrap(), Published::Anew);
    assert_eq!(world.feed.take(), [Said::Anew(99)]);
    assert_eq!((world.feed_error(), world.status.lock().feed_gaps), (None, 1));
}

/// One publication may be more than the queue takes: it would never be published.
#[test]
fn a_publication_larger_than_the_queue_is_published_alone() {
    let world = World::begun(1);
    world.offer(2);
    assert_eq!(world.publications.step().unwrap(), Published::Changes);
    assert_eq!(world.feed.take(), [Said::Rows(vec![2], 2)]);
}

#[test]
fn a_feed_that_does_not_answer_holds_up_neither_who_offers_nor_a_stop() {
    let world = World::new(10 * size(&row(0)));
    let _gate = world.feed.gated();
    let World { feed, publications, .. } = world;
    let mut publisher = Publisher { publications: publications.clone(), carrier: Carrier::Thread(None), has_begun: false };
    let started = Instant::now();
    for number in 1..1_000 {
        publisher.publish(vec![row(number)], at(number as u64));
    }
    publisher.finish(true);
    assert!(started.elapsed() < CLOSE_WAIT + Duration::from_secs(30), "{:?}", started.elapsed());
    assert!(feed.take().is_empty());
}

#[test]
fn a_stop_publishes_what_waits() {
    let world = World::new(ROOMY);
    let mut publisher = Publisher::new(Publications::new(
        world.feed.clone(),
        world.publications.table.clone(),
        None,
        world.publications.shares.clone(),
        world.status.clone(),
    ));
    for number in 1..=100 {
        publisher.publish(vec![row(number)], at(number as u64));
    }
    publisher.finish(true);
    let said = world.feed.take();
    assert!(matches!(said.last(), Some(Said::Rows(_, 100) | Said::Anew(100))), "{said:?}");
}
