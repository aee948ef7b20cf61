//! The producer of exact targets: made when it is needed, given up when it can no longer promise
//! that each record is stored once at most and in order.
//!
//! It is idempotent: the broker knows a record again that is sent twice under one producer id. But
//! when a record is given up, librdkafka goes on under a new one, and what it sends again then is
//! stored again. So no record is ever given up alone: all are, and with them the producer.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use krpc_core::{
    status::{Code, Status},
    transport::Rejected,
};
use rdkafka::producer::Producer as _;

use super::{Link, Native, Natives, PATIENCE, Shared, closed};
use crate::events::send_status;

/// A producer that failed for good before it was this old is not built anew at once.
const YOUNG: Duration = Duration::from_secs(1);

/// How long a new producer may take to be connected before records are sent in any case.
const WARM_UP: Duration = Duration::from_secs(1);

/// How often it is looked whether exact records are overdue.
const LOOK: Duration = Duration::from_millis(250);

/// How long others than those that are overdue get to be stored before all are given up.
const LAST_CALL: Duration = Duration::from_millis(250);

impl Shared {
    /// Has the producer of exact targets made, unless it is there. It is taken for full until it
    /// is of use.
    pub(super) fn make_exact(self: &Arc<Self>) -> Result<(), Rejected> {
        let known = |link: &Link| match (&link.natives, &link.refused) {
            (None, _) => Some(Err(Rejected::Failed(closed()))),
            _ if link.pausing => Some(Err(Rejected::Full)),
            (Some(Natives { exact: Some(_), .. }), _) => Some(Ok(())),
            (_, Some((until, status))) if Instant::now() < *until => {
                Some(Err(Rejected::Failed(status.clone())))
            }
            _ => None,
        };
        if let Some(known) = known(&self.link.read()) {
            return known;
        }
        {
            let mut link = self.link.write();
            if let Some(known) = known(&link) {
                return known;
            }
            link.pausing = true;
        }
        let shared = Arc::clone(self);
        if !crate::apart(move || shared.connect_exact()) {
            self.link.write().pausing = false;
            let message = "there is no thread to make the exact producer";
            return Err(Rejected::Failed(Status::new(Code::ResourceExhausted, message)));
        }
        Err(Rejected::Full)
    }

    /// Makes it and waits until it has a connection, over which librdkafka asks for the producer
    /// id. A record that is sent before makes it ask in vain, and ask again after 500 ms.
    fn connect_exact(&self) {
        let Self { settings, outlet, signal, .. } = self;
        let reporter = Arc::new(settings.reporter("exact producer"));
        let made = Native::connect(settings, &settings.exact(), outlet, &reporter, signal, true);
        if let Ok(fresh) = &made {
            // Without a token or an answer it is of use as well, but late.
            drop(settings.give_token(fresh.producer.client()));
            fresh.producer.client().fetch_cluster_id(WARM_UP);
        }
        let mut link = self.link.write();
        link.pausing = false;
        match (made, &mut link.natives) {
            (Ok(fresh), Some(natives)) => natives.exact = Some(fresh),
            (Ok(fresh), None) => crate::aside(fresh),
            (Err(error), _) => link.refused = Some((Instant::now() + YOUNG, error.to_status())),
        }
        drop(link);
        // The thread is to know of it before it sleeps again.
        signal.raise();
    }

    /// Takes the exact producer away if it met a fatal error, or if a record is overdue. The next
    /// exact record has a new one made, but not at once if this one failed at once: the next
    /// would, too.
    pub(super) fn look_after_exact(&self, natives: &mut Natives, look: &mut Instant) {
        let Some(exact) = &natives.exact else { return };
        if let Some((code, why)) = exact.failure() {
            let status = send_status(code, format!("exact records cannot be sent: {why}"));
            let refused = (exact.age() < YOUNG).then(|| (Instant::now() + YOUNG, status));
            self.take_exact(natives, refused, &why);
        } else if *look <= Instant::now() {
            *look = Instant::now() + LOOK;
            if self.exact_timeout.is_some_and(|timeout| exact.ages(timeout).1 > 0) {
                self.take_exact(natives, None, "records are overdue");
            }
        }
    }

    /// All records are given up with the producer: were one of them given up alone, librdkafka
    /// would send others again under a new producer id, and the broker could not know them again.
    fn take_exact(&self, natives: &mut Natives, refused: Option<(Instant, Status)>, why: &str) {
        let Some(old) = natives.exact.take() else { return };
        old.reporter().warn("REBUILD", &format!("the exact producer is given up: {why}"));
        let change = |change: &dyn Fn(&mut Link)| change(&mut self.link.write());
        change(&|link| {
            link.pausing = true;
            link.refused.clone_from(&refused);
            if let Some(natives) = &mut link.natives {
                natives.exact = None;
            }
        });
        // Nothing is sent meanwhile, or a new producer might overtake this one.
        let until = Instant::now() + LAST_CALL;
        while old.ages(LAST_CALL).0 > 0 && Instant::now() < until {
            old.serve();
            natives.serve();
            self.signal.wait(PATIENCE);
        }
        old.purge(&self.signal);
        change(&|link| link.pausing = false);
        crate::aside(old);
    }
}
