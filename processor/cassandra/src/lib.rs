//! The view store port on Cassandra.
