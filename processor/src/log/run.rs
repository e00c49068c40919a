//! Records that an adapter has read ahead of what was asked for, to be handed out a part at a time.

use bytes::Bytes;

use super::RecordSpan;

/// Records of one partition in log order, read but not all handed out.
#[derive(Debug, Default)]
pub struct Run {
    spans: Vec<RecordSpan>,
    payload: Bytes,
    /// How many of them were handed out.
    taken: usize,
}

impl Run {
    /// A run of records whose values lie back to back in `payload`, less the first `skipped` ones.
    pub fn new(spans: Vec<RecordSpan>, payload: Bytes, skipped: usize) -> Run {
        Run { spans, payload, taken: skipped }
    }

    /// Whether all were handed out.
    pub fn is_empty(&self) -> bool {
        self.taken >= self.spans.len()
    }

    /// At least one record, and as many as fit into `max_bytes`. Values are shared, not copied.
    pub fn take(&mut self, max_bytes: usize) -> (Vec<RecordSpan>, Bytes) {
        if self.taken == 0 && self.payload.len() <= max_bytes {
            return (std::mem::take(&mut self.spans), std::mem::take(&mut self.payload));
        }
        let rest = self.spans.get(self.taken..).unwrap_or_default();
        let from = rest.first().map_or(0, |span| span.start);
        let end_of = |span: &RecordSpan| span.start + span.len.unwrap_or(0);
        let fitting = rest.partition_point(|span| (end_of(span) - from) as usize <= max_bytes).max(1);
        let mut spans = rest.get(..fitting).unwrap_or_default().to_vec();
        let to = spans.last().map_or(from, end_of);
        spans.iter_mut().for_each(|span| span.start -= from);
        self.taken += fitting;
        (spans, self.payload.slice(from as usize..to as usize))
    }
}
