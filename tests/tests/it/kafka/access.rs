//! Passwords, certificates, wrong properties.

use std::collections::BTreeMap;

use refold_processor::recovery::Recovery;
use refold_tests::services::kafka::{PASSWORD, USER};

use super::*;

fn with_password(password: &str) -> KafkaSettings {
    shared().settings_with_password(password)
}

fn with(brokers: String, properties: &[(&str, &str)]) -> KafkaSettings {
    let properties: BTreeMap<String, String> = properties.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    KafkaSettings { brokers, properties, ..KafkaSettings::default() }
}

/// Who is refused is told when the time is over.
fn hasty(settings: KafkaSettings) -> KafkaSettings {
    KafkaSettings { request_timeout_ms: 6_000, ..settings }
}

fn round_trip(settings: KafkaSettings, topic: &str) {
    let log = KafkaLog::open(settings).unwrap();
    log.create_topic(topic, 1).unwrap();
    log.append(topic, vec![keyless("told")]).unwrap();
    assert_eq!(texts(&log.reader(topic, &at(0)).unwrap().read(ROOMY, SOON).unwrap().unwrap()), ["told"]);
}

#[test]
fn a_password_lets_in() {
    round_trip(with_password(PASSWORD), "with-password");
}

#[test]
fn a_wrong_password_is_said_to_be_one() {
    let log = KafkaLog::open(hasty(with_password("battery staple"))).unwrap();
    let error = log.topics().unwrap_err();
    let said = error.to_string();
    assert_eq!(error.recovery(), Recovery::Operator, "passwords can be put right: {said}");
    assert!(said.contains(&format!("the Kafka user {USER}")), "{said}");
    assert!(said.contains("SASL authentication error") && said.contains("check the properties"), "{said}");
    assert!(!said.contains("battery"), "{said}");
}

#[test]
fn tls_works_and_an_unknown_certificate_is_said_to_be_one() {
    let kafka = shared();
    let certificate = kafka.certificate();
    round_trip(
        with(kafka.brokers_with_tls(), &[("security.protocol", "SSL"), ("ssl.ca.location", certificate.to_str().unwrap())]),
        "with-tls",
    );
    let untrusting = KafkaLog::open(hasty(with(kafka.brokers_with_tls(), &[("security.protocol", "SSL")]))).unwrap();
    let error = untrusting.topics().unwrap_err();
    let said = error.to_string();
    assert_eq!(error.recovery(), Recovery::Operator, "{said}");
    assert!(said.contains("certificate") && said.contains("check the properties"), "{said}");
}

#[test]
fn an_address_where_nobody_listens_is_said() {
    let said = KafkaLog::open(KafkaSettings { brokers: "127.0.0.1:1".into(), request_timeout_ms: 1_000, ..KafkaSettings::default() })
        .unwrap()
        .topics()
        .unwrap_err();
    assert!(said.is_retryable() && said.to_string().contains("127.0.0.1:1"), "{said}");
}

#[test]
fn wrong_properties_are_named_without_their_values() {
    for (name, value) in [("no.such.property", "hunter2"), ("security.protocol", "hunter2")] {
        let error = KafkaLog::open(with("127.0.0.1:1".into(), &[(name, value)])).err().unwrap();
        let said = error.to_string();
        assert!(error.recovery() == Recovery::Operator && said.contains(name) && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_record_that_brokers_do_not_take_is_refused() {
    let log = shared().log();
    log.create_topic("large", 1).unwrap();
    // Random, so that it is as large when compressed.
    let value: Vec<u8> = (0..3_000_000).map(|_| rand::random()).collect();
    let error = log.append("large", vec![NewRecord { key: None, value: value.into() }]).unwrap_err();
    assert!(error.recovery() == Recovery::Operator && error.to_string().contains("max.message.bytes"), "{error}");
    log.append("large", vec![keyless("small")]).unwrap();
}
