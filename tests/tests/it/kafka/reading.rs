//! Transactions, tombstones, compaction, keys of other clients, and logs that lose what was to be read.

use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};
use refold_processor::log::Log;
use refold_processor::recovery::Recovery;

use super::*;

/// Another client, which appends in transactions.
struct Transactions {
    producer: ThreadedProducer<rdkafka::producer::DefaultProducerContext>,
    topic: &'static str,
}

impl Transactions {
    fn on(topic: &'static str) -> Transactions {
        let producer: ThreadedProducer<_> = shared().client().set("transactional.id", topic).create().unwrap();
        producer.init_transactions(SOON).unwrap();
        Transactions { producer, topic }
    }

    fn begin(&self, values: &[&str]) {
        self.producer.begin_transaction().unwrap();
        for value in values {
            self.producer.send(BaseRecord::<[u8], str>::to(self.topic).payload(value)).map_err(|(error, _)| error).unwrap();
        }
        self.producer.flush(SOON).unwrap();
    }

    fn commit(&self, values: &[&str]) {
        self.begin(values);
        self.producer.commit_transaction(SOON).unwrap();
    }

    fn abort(&self, values: &[&str]) {
        self.begin(values);
        self.producer.abort_transaction(SOON).unwrap();
    }
}

#[test]
fn transactions_are_read_to_the_end_of_the_log() {
    let topic = "transactions";
    let log = shared().log();
    log.create_topic(topic, 1).unwrap();
    let other = Transactions::on(topic);
    other.commit(&["a", "b"]);
    other.abort(&["never", "never"]);
    other.commit(&["c"]);
    log.append(topic, vec![keyless("d")]).unwrap();
    other.abort(&["never"]);
    // The markers have offsets too: five of records and a marker, twice, and so on.
    let end = Offset(3 + 3 + 2 + 1 + 2);
    // The coordinator writes the last marker after it has answered.
    until("the last marker is written", || log.bounds(topic, ONLY).unwrap().end == end);
    let mut reader = log.reader(topic, &at(0)).unwrap();
    assert_eq!(read_to_end(reader.as_mut(), 0), (vec!["a".into(), "b".into(), "c".into(), "d".into()], end.0));

    // At the end of the log, aborted records move the position without a record.
    other.abort(&["never", "never"]);
    let gap = reader.read(ROOMY, SOON).unwrap().expect("the position moves past a gap");
    assert!(gap.spans.is_empty());
    assert_eq!((gap.next, gap.end), (Offset(end.0 + 3), Offset(end.0 + 3)));
    assert!(reader.read(ROOMY, Duration::ZERO).unwrap().is_none());

    // Any position is one to start at, also one in the middle of a gap.
    for from in 0..=gap.next.0 {
        let expected: Vec<&str> =
            [(0, "a"), (1, "b"), (6, "c"), (8, "d")].iter().filter(|(at, _)| *at >= from).map(|(_, text)| *text).collect();
        let mut reader = log.reader(topic, &at(from)).unwrap();
        let (read, position) = read_to_end(reader.as_mut(), from);
        assert_eq!((read.iter().map(String::as_str).collect::<Vec<_>>(), position), (expected, gap.next.0), "from {from}");
    }
}

#[test]
fn an_open_transaction_is_not_read_and_not_the_end() {
    let topic = "open-transaction";
    let log = shared().log();
    log.create_topic(topic, 1).unwrap();
    let other = Transactions::on(topic);
    let mut reader = log.reader(topic, &at(0)).unwrap();
    other.begin(&["open"]);
    assert_eq!(log.bounds(topic, ONLY).unwrap().end, Offset(0), "a reader can reach what is before the transaction");
    log.append(topic, vec![keyless("behind it")]).unwrap();
    assert!(reader.read(ROOMY, Duration::from_millis(300)).unwrap().is_none());
    other.producer.commit_transaction(SOON).unwrap();
    let mut read = Vec::new();
    while read.len() < 2 {
        read.extend(texts(&reader.read(ROOMY, SOON).unwrap().expect("it is committed")));
    }
    assert_eq!(read, ["open", "behind it"]);
    let end = log.bounds(topic, ONLY).unwrap().end;
    let mut position = Offset(0);
    let mut again = log.reader(topic, &at(0)).unwrap();
    while let Some(records) = again.read(ROOMY, Duration::ZERO).unwrap() {
        position = records.next;
    }
    assert_eq!(position, end);
}

#[test]
fn positions_are_published_for_tools_that_watch_lag() {
    let (log, topic, group, reader) = (shared().log(), "watched", "refold.watched.v1", "watched.v1");
    log.create_topic(topic, 2).unwrap();
    let client: BaseConsumer = shared().client().set("group.id", group).create().unwrap();
    for positions in [[3, 4], [5, 4]] {
        let cut: Cut = positions.iter().zip(0..).map(|(position, partition)| (Partition(partition), Offset(*position))).collect();
        log.publish_positions(reader, topic, &cut).unwrap();
        log.publish_positions(reader, topic, &cut).unwrap();
        until("they are there", || committed(&client, topic, 0..=1) == positions.map(|position| Some(position as i64)));
    }
}

#[test]
fn every_compression_comes_back() {
    let values: Vec<String> = (0..2_000).map(|number| format!("a post that ends with its number, {number}")).collect();
    for (topic, compression) in [("plain", Compression::None), ("lz4", Compression::Lz4), ("zstd", Compression::Zstd)] {
        let log = KafkaLog::open(KafkaSettings { compression, ..shared().log_settings() }).unwrap();
        log.create_topic(topic, 1).unwrap();
        log.append(topic, values.iter().map(|value| keyless(value)).collect()).unwrap();
        assert_eq!(read_to_end(log.reader(topic, &at(0)).unwrap().as_mut(), 0), (values.clone(), 2_000), "{topic}");
    }
}

#[test]
fn tombstones_are_records_without_a_value_and_headers_are_passed_over() {
    let topic = "tombstones";
    let log = shared().log();
    log.create_topic(topic, 1).unwrap();
    let other: ThreadedProducer<_> = shared().client().create::<ThreadedProducer<rdkafka::producer::DefaultProducerContext>>().unwrap();
    for payload in [Some("a"), None, Some(""), Some("b")] {
        let headers = OwnedHeaders::new().insert(Header { key: "trace", value: Some("of another") });
        let mut record = BaseRecord::<str, str>::to(topic).key("key").headers(headers);
        record.payload = payload;
        other.send(record).map_err(|(error, _)| error).unwrap();
    }
    other.flush(SOON).unwrap();
    let mut reader = log.reader(topic, &at(0)).unwrap();
    let mut read = Vec::new();
    while let Some(records) = reader.read(ROOMY, Duration::ZERO).unwrap() {
        read.extend(records.spans.iter().map(|span| (span.len, records.value(span).map(<[u8]>::to_vec))));
    }
    assert_eq!(read, [(Some(1), Some(b"a".to_vec())), (None, None), (Some(0), Some(Vec::new())), (Some(1), Some(b"b".to_vec()))]);
}

#[test]
fn what_compaction_removed_is_a_gap() {
    let topic = "compacted";
    let kafka = shared();
    let log = kafka.log();
    let compact = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "200"),
        ("min.cleanable.dirty.ratio", "0.01"),
        ("message.timestamp.type", "LogAppendTime"),
    ];
    kafka.create_topic(topic, &compact);
    let keyed = |number: usize| NewRecord { key: Some(Bytes::from_static(b"key")), value: Bytes::from(number.to_string()) };
    let mut number = 0;
    let mut kept = Vec::new();
    until("the broker compacts the topic", || {
        for _ in 0..10 {
            log.append(topic, vec![keyed(number)]).unwrap();
            number += 1;
        }
        let mut reader = log.reader(topic, &at(0)).unwrap();
        let (read, position) = read_to_end(reader.as_mut(), 0);
        assert_eq!(position, number as u64, "the end is reached over gaps");
        assert_eq!(read.last(), Some(&(number - 1).to_string()));
        kept = read;
        std::thread::sleep(Duration::from_millis(250));
        kept.len() < number
    });
    assert!(kept.windows(2).all(|pair| pair[0].parse::<u64>().unwrap() < pair[1].parse::<u64>().unwrap()), "{kept:?}");
}

/// Hashes that Kafka's own tests publish for its default partitioner.
#[test]
fn keys_go_where_java_clients_send_them() {
    let hashes: [(&str, i32); 5] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
    ];
    let log = shared().log();
    log.create_topic("keys", 7).unwrap();
    for (key, hash) in hashes {
        let placed = log.append("keys", vec![NewRecord { key: Some(Bytes::from_static(key.as_bytes())), value: Bytes::new() }]).unwrap();
        assert_eq!(placed[0].0, Partition(((hash & 0x7fff_ffff) % 7) as u32), "{key}");
    }
}

#[test]
fn new_topics_have_the_brokers_time() {
    let log = shared().log();
    log.create_topic("times", 1).unwrap();
    let before_ms = chrono::Utc::now().timestamp_millis();
    let other: ThreadedProducer<_> = shared().client().create::<ThreadedProducer<rdkafka::producer::DefaultProducerContext>>().unwrap();
    other.send(BaseRecord::<str, str>::to("times").payload("old").timestamp(1_000)).map_err(|(error, _)| error).unwrap();
    other.flush(SOON).unwrap();
    let records = log.reader("times", &at(0)).unwrap().read(ROOMY, SOON).unwrap().unwrap();
    assert!(records.spans[0].record_time_ms >= before_ms, "what the producer says of the time is not taken");
}

/// Larger than what a reader fetches ahead, so that the log loses what it has not fetched yet.
#[test]
fn records_that_expire_under_a_reader_are_a_hole() {
    let topic = "expiring";
    let kafka = shared();
    let log =
        KafkaLog::open(KafkaSettings { reader_memory_bytes: 8 << 20, compression: Compression::None, ..kafka.log_settings() }).unwrap();
    log.create_topic(topic, 1).unwrap();
    let value = "x".repeat(900_000);
    for _ in 0..60 {
        log.append(topic, vec![keyless(&value)]).unwrap();
    }
    let mut reader = log.reader(topic, &at(0)).unwrap();
    assert_eq!(reader.read(1, SOON).unwrap().unwrap().next, Offset(1));
    kafka.delete_records(topic, 0, 59);
    let mut position = Offset(1);
    let error = loop {
        match reader.read(1, SOON) {
            Ok(records) => position = records.expect("the end is not reached").next,
            Err(error) => break error,
        }
    };
    let said = matches!(&error, LogError::Hole { topic: at, partition: ONLY, position: from, log_start: Offset(59) } if at == topic && *from == position);
    assert!(said && position < Offset(59), "{error:?} at {position}");
    assert!(matches!(reader.read(1, SOON), Err(LogError::Hole { .. })), "it does not go away");
}

#[test]
fn a_topic_that_is_deleted_under_a_reader_is_unknown() {
    let topic = "deleted";
    let kafka = shared();
    kafka.log().create_topic(topic, 2).unwrap();
    kafka.log().append(topic, vec![keyless("a")]).unwrap();
    let log = KafkaLog::open(KafkaSettings { request_timeout_ms: 1_000, ..kafka.log_settings() }).unwrap();
    let from = Cut::from_iter([(Partition(0), Offset(0)), (Partition(1), Offset(0))]);
    let mut reader = patiently(|| log.reader(topic, &from));
    assert_eq!(texts(&patiently(|| reader.read(ROOMY, SOON)).unwrap()), ["a"]);
    kafka.delete_topics(&[topic]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let error = loop {
        match reader.read(ROOMY, Duration::from_millis(100)) {
            Err(error @ LogError::UnknownTopic(_)) => break error,
            Err(error) if !error.is_retryable() => panic!("{error:?}"),
            read => assert!(Instant::now() < deadline, "nobody says that the topic is gone: {read:?}"),
        }
    };
    assert!(matches!(&error, LogError::UnknownTopic(name) if name == topic), "{error:?}");
    assert_eq!(error.recovery(), Recovery::Operator, "it can be made again, or restored");
    let error = log.append(topic, vec![keyless("b")]).unwrap_err();
    assert!(matches!(&error, LogError::UnknownTopic(name) if name == topic), "{error:?}");
    assert!(!log.topics().unwrap().contains(&topic.to_owned()), "an append does not make a topic");
}
