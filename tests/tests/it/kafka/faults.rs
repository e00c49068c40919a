//! A broker that ends, is killed, hangs, and comes back, while it is appended to and read.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use refold_processor::recovery::Recovery;

use super::*;

/// Numbered records, some at a time, each append acknowledged before the next.
fn append_until(log: &KafkaLog, topic: &str, stop: &AtomicBool) -> Vec<(String, (Partition, Offset))> {
    let mut appended = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let values: Vec<String> = (0..7).map(|number| (appended.len() + number).to_string()).collect();
        let records = values.iter().map(|value| NewRecord { key: Some(Bytes::from(value.clone())), value: Bytes::from(value.clone()) });
        let placed = log.append(topic, records.collect()).unwrap();
        appended.extend(values.into_iter().zip(placed));
    }
    appended
}

/// Appends and reads while things happen, and compares: what was acknowledged is there once, in the order of appends, and one reader saw it all.
fn survive(log: KafkaLog, topic: &'static str, happens: impl FnOnce(&KafkaLog)) {
    let log = Arc::new(log);
    log.create_topic(topic, 3).unwrap();
    let from: Cut = log.partitions(topic).unwrap().into_iter().map(|partition| (partition, Offset(0))).collect();
    let (stop, in_log) = (Arc::new(AtomicBool::new(false)), Arc::new(OnceLock::<(usize, Instant)>::new()));
    let appending = std::thread::spawn({
        let (log, stop) = (log.clone(), stop.clone());
        move || append_until(&log, topic, &stop)
    });
    let reading = std::thread::spawn({
        let (log, in_log) = (log.clone(), in_log.clone());
        move || {
            // One reader all the way through: it finds the broker again by itself.
            let mut reader = log.reader(topic, &from).unwrap();
            let mut seen = Vec::new();
            loop {
                match patiently(|| reader.read(10_000, Duration::from_millis(200))) {
                    Some(records) => {
                        let values = texts(&records).into_iter();
                        seen.extend(values.zip(records.spans.iter().map(|span| (records.partition, span.offset))));
                    }
                    // A reader knows the end of the log as it was told last, so nothing more need not mean that all is read.
                    None if in_log.get().is_some_and(|(count, deadline)| seen.len() >= *count || Instant::now() > *deadline) => {
                        return seen;
                    }
                    None => {}
                }
            }
        }
    });
    happens(&log);
    std::thread::sleep(Duration::from_millis(1_000));
    stop.store(true, Ordering::Relaxed);
    let mut appended = appending.join().unwrap();
    let end = |partition| patiently(|| log.bounds(topic, partition)).end;
    let ends: Cut = log.partitions(topic).unwrap().into_iter().map(|partition| (partition, end(partition))).collect();
    assert_eq!(ends.sum(), appended.len() as u64, "nothing is in the log twice");
    in_log.set((appended.len(), Instant::now() + Duration::from_secs(60))).unwrap();
    let mut seen = reading.join().unwrap();
    assert!(appended.len() > 100, "{}", appended.len());
    let place = |(_, place): &(String, (Partition, Offset))| *place;
    // Appended in the order of their numbers: by place, numbers rise within a partition.
    appended.sort_by_key(place);
    let in_order = |pair: &[(String, (Partition, Offset))]| {
        pair[0].1.0 != pair[1].1.0 || pair[0].0.parse::<u64>().unwrap() < pair[1].0.parse::<u64>().unwrap()
    };
    assert!(appended.windows(2).all(in_order), "a partition keeps the order of appends");
    seen.sort_by_key(place);
    assert!(seen == appended, "{} read of {}", seen.len(), appended.len());
}

#[test]
fn acknowledged_records_are_there_once_and_in_order_whatever_happens_to_the_broker() {
    let mut kafka = Kafka::start();
    let log = KafkaLog::open(KafkaSettings { request_timeout_ms: 3_000, ..kafka.log_settings() }).unwrap();
    survive(log, "survives", |log| {
        for round in 0..3 {
            std::thread::sleep(Duration::from_millis(1_000));
            match round {
                0 => kafka.stop(),
                _ => kafka.kill(),
            }
            std::thread::sleep(Duration::from_millis(500));
            kafka.start_again();
            until("the log answers again", || log.bounds("survives", ONLY).is_ok());
        }
    });
}

/// Brokers that lead are killed, one after the other, and others lead instead.
#[test]
fn a_change_of_leaders_is_followed() {
    let mut brokers = Kafka::start_cluster();
    // All are named: those that are killed are among them.
    let named: Vec<String> = brokers.iter().map(Kafka::brokers).collect();
    let settings = KafkaSettings { brokers: named.join(","), request_timeout_ms: 3_000, ..KafkaSettings::default() };
    survive(KafkaLog::open(settings).unwrap(), "led", |log| {
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(1_500));
            let leader = brokers[0].leader("led", ONLY);
            let (begun, other) = (patiently(|| log.bounds("led", ONLY)).end, leader % 3);
            brokers[leader - 1].kill();
            // Nobody comes back before another leads and has taken more.
            until("another leads", || {
                let now = brokers[other].leader("led", ONLY);
                now != leader && now > 0
            });
            until("records are appended", || log.bounds("led", ONLY).is_ok_and(|bounds| bounds.end > begun));
            brokers[leader - 1].start_again();
        }
    });
}

#[test]
fn a_broker_that_hangs_is_unavailable_until_it_goes_on() {
    let topic = "hangs";
    let mut kafka = Kafka::start();
    // A broker that was just started takes its time over the first record: that is not what this is about.
    let patient = KafkaLog::open(kafka.log_settings()).unwrap();
    patient.create_topic(topic, 1).unwrap();
    patient.append(topic, vec![keyless("before")]).unwrap();
    let settings = KafkaSettings { request_timeout_ms: 1_000, delivery_timeout_ms: 1_500, ..kafka.log_settings() };
    let log = KafkaLog::open(settings).unwrap();
    patiently(|| log.bounds(topic, ONLY));
    let mut reader = patiently(|| log.reader(topic, &at(0)));
    assert_eq!(texts(&patiently(|| reader.read(ROOMY, SOON)).unwrap()), ["before"]);
    kafka.signal("-STOP");
    let started = Instant::now();
    let error = log.append(topic, vec![keyless("lost")]).unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains(topic), "{error}");
    let error = log.bounds(topic, ONLY).unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains(topic), "{error}");
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    kafka.signal("-CONT");
    let placed = patiently(|| log.append(topic, vec![keyless("after")]));
    let mut read = Vec::new();
    while read.last().is_none_or(|last| last != "after") {
        read.extend(patiently(|| reader.read(ROOMY, SOON)).into_iter().flat_map(|records| texts(&records)));
    }
    // What was given up may have arrived, or not, but nothing else.
    assert!(distinct(&read) == read.len() && read.len() as u64 == placed[0].1.0, "{read:?} at {placed:?}");
}

/// What a broker says that was frozen for longer than its session, until its controller has heard of it again. Which clients stay cut off then by
/// themselves is a race in librdkafka, lost by every second one where the topic has many partitions: so there are some.
#[test]
fn clients_that_read_of_no_broker_find_it_again() {
    let topic = "deserted";
    let mut kafka = Kafka::start();
    kafka.log().create_topic(topic, 100).unwrap();
    // They read often what the cluster says of itself, so that all of them read it while it names nobody.
    let properties: BTreeMap<_, _> = [("topic.metadata.refresh.interval.ms".to_owned(), "50".to_owned())].into();
    let keyed = |value: &str| vec![NewRecord { key: Some(Bytes::from("one place")), value: Bytes::from(value.to_owned()) }];
    let open = || {
        let settings = KafkaSettings {
            properties: properties.clone(),
            request_timeout_ms: 2_000,
            delivery_timeout_ms: 60_000,
            ..kafka.log_settings()
        };
        let log = Arc::new(KafkaLog::open(settings).unwrap());
        let (partition, _) = log.append(topic, keyed("before")).unwrap()[0];
        (log, partition)
    };
    let logs = [(); 6].map(|()| open());
    let readers = logs.clone().map(|(log, partition)| {
        let end = log.bounds(topic, partition).unwrap().end;
        let mut reader = log.reader(topic, &Cut::from_iter([(partition, end)])).unwrap();
        assert!(patiently(|| reader.read(ROOMY, Duration::from_millis(100))).is_none());
        reader
    });
    let publish = |number: usize, position: u64| {
        let (log, partition) = &logs[number];
        log.publish_positions(&format!("deserted.{number}"), topic, &Cut::from_iter([(*partition, Offset(position))])).unwrap();
    };
    (0..logs.len()).for_each(|number| publish(number, 1));
    kafka.unregister();
    std::thread::sleep(Duration::from_secs(2));
    // What is there is not said to be gone.
    let asked = logs[0].0.bounds(topic, logs[0].1);
    assert!(asked.as_ref().is_err_and(LogError::is_retryable), "{asked:?}");
    // These wait for their acknowledgement from here on.
    let waiting = logs.clone().map(|(log, _)| std::thread::spawn(move || patiently(|| log.append(topic, keyed("meanwhile")))));
    kafka.kill();
    kafka.start_again();
    let started = Instant::now();
    for appended in waiting {
        appended.join().unwrap();
    }
    for (number, (_, partition)) in logs.iter().enumerate() {
        let group = format!("refold.deserted.{number}");
        let client: BaseConsumer = kafka.client().set("group.id", &group).create().unwrap();
        let mut position = 2..;
        until("positions are published again", || {
            publish(number, position.next().unwrap());
            let number = partition.0 as i32;
            matches!(committed(&client, topic, number..=number)[..], [Some(position)] if position > 1)
        });
    }
    for ((log, partition), mut reader) in logs.into_iter().zip(readers) {
        assert_eq!(patiently(|| log.bounds(topic, partition)).end, Offset(12));
        let mut read = Vec::new();
        while read.len() < 6 {
            read.extend(patiently(|| reader.read(ROOMY, SOON)).into_iter().flat_map(|records| texts(&records)));
            assert!(started.elapsed() < Duration::from_secs(120), "the reader hears nothing");
        }
        assert_eq!(read, ["meanwhile"; 6]);
    }
}

#[test]
fn a_reader_that_waits_says_when_the_broker_is_unavailable() {
    let topic = "quiet";
    let mut kafka = Kafka::start();
    kafka.log().create_topic(topic, 1).unwrap();
    let log = KafkaLog::open(KafkaSettings { request_timeout_ms: 1_000, ..kafka.log_settings() }).unwrap();
    let mut reader = patiently(|| log.reader(topic, &at(0)));
    assert!(patiently(|| reader.read(ROOMY, Duration::from_millis(300))).is_none());
    kafka.kill();
    until("the reader notices", || reader.read(ROOMY, Duration::from_millis(100)).is_err_and(|error| error.is_retryable()));
    kafka.start_again();
    patiently(|| log.append(topic, vec![keyless("back")]));
    let records = patiently(|| reader.read(ROOMY, SOON)).expect("the same reader goes on");
    assert_eq!(texts(&records), ["back"]);
}

/// librdkafka tells of a damaged batch, and hands out what is behind it as if nothing were missing.
#[test]
fn a_damaged_batch_is_an_error_and_never_skipped() {
    let topic = "damaged";
    let mut kafka = Kafka::start();
    let settings = KafkaSettings { compression: Compression::None, ..kafka.log_settings() };
    let log = KafkaLog::open(settings.clone()).unwrap();
    log.create_topic(topic, 1).unwrap();
    for value in ["first", "second", "third"] {
        log.append(topic, vec![keyless(value)]).unwrap();
    }
    kafka.damage(topic, "second");
    let log = KafkaLog::open(settings).unwrap();
    for _ in 0..2 {
        let mut reader = patiently(|| log.reader(topic, &at(0)));
        let mut read = Vec::new();
        let error = loop {
            match reader.read(ROOMY, SOON) {
                Ok(records) => read.extend(records.iter().flat_map(texts)),
                Err(error) if error.recovery() == Recovery::Transient => {}
                Err(error) => break error,
            }
        };
        assert_eq!(read, ["first"]);
        assert!(error.recovery() == Recovery::Final && error.to_string().contains("damaged/0 at position 1"), "{error}");
        assert!(reader.read(ROOMY, SOON).is_err_and(|again| again.to_string() == error.to_string()), "it comes again");
    }
}
