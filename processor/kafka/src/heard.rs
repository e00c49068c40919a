//! What clients of librdkafka say by themselves: log lines, and errors that belong to no call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{DeliveryResult, ProducerContext};

use crate::append::Ticket;

/// The last complaint of some clients.
#[derive(Debug, Default)]
pub struct Heard {
    last: Mutex<Option<Complaint>>,
    is_doubtful: AtomicBool,
    begun_again_at: Mutex<Option<Instant>>,
}

#[derive(Clone, Debug)]
struct Complaint {
    code: RDKafkaErrorCode,
    reason: String,
}

impl Heard {
    fn note(&self, code: RDKafkaErrorCode, reason: &str) {
        self.is_doubtful.store(true, Ordering::Relaxed);
        let complaint = Complaint { code, reason: reason.to_owned() };
        let mut last = self.last.lock();
        // That no broker can be reached is a consequence; what is kept is why.
        if code != RDKafkaErrorCode::AllBrokersDown || last.is_none() {
            *last = Some(complaint);
        }
    }

    /// Whether brokers may be unavailable, since this was last asked.
    pub fn take_doubt(&self) -> bool {
        self.is_doubtful.swap(false, Ordering::Relaxed)
    }

    /// Puts the doubt back: it was not cleared up.
    pub fn doubt(&self) {
        self.is_doubtful.store(true, Ordering::Relaxed);
    }

    /// Whether `every` so long a client may begin again; if it may, it does now.
    pub fn begins_again(&self, every: Duration) -> bool {
        let mut at = self.begun_again_at.lock();
        let may = at.is_none_or(|at| at.elapsed() >= every);
        if may {
            *at = Some(Instant::now());
        }
        may
    }

    /// A broker has answered.
    pub fn is_well(&self) {
        *self.last.lock() = None;
    }

    /// Whether brokers answer, but refuse this client.
    pub fn is_refused(&self) -> bool {
        self.last.lock().as_ref().is_some_and(|complaint| is_refusal(complaint.code))
    }

    /// The last complaint, to be put behind an error.
    pub fn because(&self) -> String {
        match self.last.lock().as_ref() {
            None => String::new(),
            Some(complaint) if is_refusal(complaint.code) => {
                format!(": {}; check the properties security.protocol, sasl.* and ssl.*", complaint.reason)
            }
            Some(complaint) => format!(": {}", complaint.reason),
        }
    }
}

fn is_refusal(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SaslAuthenticationFailed | RDKafkaErrorCode::SSL)
}

/// Listens to one client.
#[derive(Clone, Debug, Default)]
pub struct Listener {
    /// What was heard.
    pub heard: Arc<Heard>,
}

impl ClientContext for Listener {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        // Properties of appending clients are told to reading ones too, and the other way round.
        if facility == "CONFWARN" {
            return tracing::trace!(target: "librdkafka", facility, message);
        }
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => {
                tracing::warn!(target: "librdkafka", facility, message);
            }
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => tracing::info!(target: "librdkafka", facility, message),
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, message),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
        tracing::debug!(target: "librdkafka", %code, reason, "a client complains");
        self.heard.note(code, reason);
    }
}

impl ConsumerContext for Listener {}

impl ProducerContext for Listener {
    type DeliveryOpaque = Box<Ticket>;

    fn delivery(&self, result: &DeliveryResult<'_>, ticket: Box<Ticket>) {
        ticket.settle(result);
    }
}
