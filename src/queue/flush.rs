//! Flushes: everything that is in the log when one is asked for is done when it is answered.

use tokio::sync::oneshot;

use super::inbox::FlushReport;
use super::local::Running;
use crate::ambient;
use crate::event::Seq;

/// A flush that was asked for.
pub(super) struct Flush {
    pub(super) target: Seq,
    before: FlushReport,
    reply: oneshot::Sender<FlushReport>,
}

impl Running {
    pub(super) fn start_flush(&mut self, reply: oneshot::Sender<FlushReport>) {
        let stats = &self.worker.stream.stats;
        let before =
            FlushReport { events: stats.stored_events.get(), batches: stats.stored_batches.get() };
        self.worker.loader.try_held(ambient::now());
        self.flushes.push(Flush { target: self.worker.stream.wal.head(), before, reply });
    }

    pub(super) fn answer_flushes(&mut self) {
        if self.flushes.is_empty() {
            return;
        }
        self.worker.loader.retry_now();
        let low = self.worker.loader.low();
        let stats = &self.worker.stream.stats;
        let after =
            FlushReport { events: stats.stored_events.get(), batches: stats.stored_batches.get() };
        let (answered, waiting) =
            std::mem::take(&mut self.flushes).into_iter().partition(|f| low >= f.target);
        self.flushes = waiting;
        let answered: Vec<Flush> = answered;
        for flush in answered {
            // Whoever asked may have gone away.
            let _ = flush.reply.send(FlushReport {
                events: after.events - flush.before.events,
                batches: after.batches - flush.before.batches,
            });
        }
    }
}
