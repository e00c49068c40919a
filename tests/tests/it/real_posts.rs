//! Real posts through the collector, the log and the engine give the rows of the same SQL as one batch.
