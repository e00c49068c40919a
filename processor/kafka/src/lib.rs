//! The log port on Kafka.
