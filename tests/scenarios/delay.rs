//! Calls that are executed later: not before they are due, wherever they wait until then.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant, SystemTime},
};

use futures_util::future::join_all;
use krpc::{Ticket, TicketStatus, prelude::*, store::MemoryStore};
use krpc_core::delay::NEAR;

use crate::support::{ON_PURPOSE, Place, eventually, place::settled, scenario, start};

/// Due so soon that the call waits in its server.
const SOON: Duration = Duration::from_millis(700);

/// Due so late that the call waits in a topic.
const LATER: Duration = Duration::from_millis(2_200);

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[krpc::service]
trait Alarm {
    async fn ring(&self, cx: &Context, id: u64) -> u64;
    #[rpc(one_way)]
    async fn post(&self, cx: &Context, id: u64);
    #[rpc(key = key)]
    async fn sort(&self, cx: &Context, key: u64, id: u64) -> u64;
    /// Fails the first time.
    #[rpc(one_way, retry(max = 2, backoff = "10ms..10ms", then = drop))]
    async fn knock(&self, cx: &Context, id: u64) -> Result<(), String>;
    /// Always fails.
    #[rpc(one_way)]
    async fn burst(&self, cx: &Context, id: u64);
    #[rpc(at_most_once)]
    async fn pay(&self, id: u64) -> u64;
    #[rpc(idempotent)]
    async fn look(&self, cx: &Context, id: u64) -> u64;
}

/// One execution.
#[derive(Clone, Copy, Debug)]
struct Rung {
    id: u64,
    at: Instant,
    due: Option<SystemTime>,
    remaining: Duration,
    attempt: u32,
}

/// Writes down what is executed.
#[derive(Clone, Default)]
struct Clock(Arc<Mutex<Vec<Rung>>>);

impl Clock {
    fn note(&self, cx: &Context, id: u64) -> u64 {
        let (due, remaining, attempt) = (cx.due(), cx.remaining(), cx.attempt());
        self.0.lock().unwrap().push(Rung { id, at: Instant::now(), due, remaining, attempt });
        id
    }

    /// The executions of a call.
    fn of(&self, id: u64) -> Vec<Rung> {
        self.0.lock().unwrap().iter().filter(|rung| rung.id == id).copied().collect()
    }

    /// The only one.
    fn only(&self, id: u64) -> Rung {
        let rung = self.of(id);
        assert_eq!(rung.len(), 1, "{rung:?}");
        rung[0]
    }

    /// All that were executed, in order.
    fn ids(&self) -> Vec<u64> {
        self.0.lock().unwrap().iter().map(|rung| rung.id).collect()
    }

    /// Waits until the call was executed.
    async fn until(&self, id: u64) -> Rung {
        eventually(&format!("{id} is executed"), || !self.of(id).is_empty()).await;
        self.only(id)
    }
}

impl Alarm for Clock {
    async fn ring(&self, cx: &Context, id: u64) -> u64 {
        self.note(cx, id)
    }

    async fn post(&self, cx: &Context, id: u64) {
        self.note(cx, id);
    }

    async fn sort(&self, cx: &Context, _key: u64, id: u64) -> u64 {
        self.note(cx, id)
    }

    async fn knock(&self, cx: &Context, id: u64) -> Result<(), String> {
        self.note(cx, id);
        if cx.attempt() == 1 { Err("asleep".to_owned()) } else { Ok(()) }
    }

    async fn burst(&self, cx: &Context, id: u64) {
        self.note(cx, id);
        panic!("{ON_PURPOSE}");
    }

    async fn pay(&self, id: u64) -> u64 {
        id
    }

    async fn look(&self, cx: &Context, id: u64) -> u64 {
        self.note(cx, id)
    }
}

async fn client(place: &Place) -> (Channel, AlarmClient) {
    let channel = place.connect().await;
    channel.open("Alarm").await.unwrap();
    let client = AlarmClient::new(&channel);
    (channel, client)
}

fn read<T>(ticket: &Ticket<T>) -> Ticket<T> {
    serde_json::from_str(&serde_json::to_string(ticket).unwrap()).unwrap()
}

/// The call's end is that of a cancelled one.
fn is_cancelled(result: Result<u64, krpc::Error>) {
    assert_eq!(result.unwrap_err().code(), Some(Code::Cancelled));
}

#[test]
fn an_awaited_call_is_executed_when_it_is_due() {
    scenario(async |place| {
        let clock = Clock::default();
        let _server = place.serve(AlarmServer::new(clock.clone())).await;
        let (_channel, alarm) = client(&place).await;
        assert!(SOON < NEAR && LATER > NEAR);
        // Its time is shorter than its delay, and begins when it is due.
        let began = Instant::now();
        let time = LATER - millis(100);
        let calls = [(1, SOON), (2, LATER), (3, LATER + millis(300))];
        let calls = calls.map(|(id, delay)| {
            let alarm = alarm.clone();
            async move {
                let reply = alarm.ring(id).timeout(time).delay(delay).reply().await.unwrap();
                assert_eq!((reply.value, reply.attempts), (id, 1));
                assert!(reply.elapsed >= delay, "{:?}", reply.elapsed);
                (id, delay)
            }
        });
        for (id, delay) in join_all(calls).await {
            let rung = clock.only(id);
            assert!(rung.at - began >= delay, "{id} after {:?}", rung.at - began);
            assert!(rung.due.is_some());
            assert!(rung.remaining > millis(0) && rung.remaining <= time + millis(100));
        }
    });
}

#[test]
fn a_moment_is_a_delay_and_the_past_is_none() {
    scenario(async |place| {
        let clock = Clock::default();
        let _server = place.serve(AlarmServer::new(clock.clone())).await;
        let (_channel, alarm) = client(&place).await;
        let began = SystemTime::now();
        let (soon, later) = (began + SOON, began + LATER);
        let (far, never) = (began + DAY, millis(3_600_000));
        let calls = tokio::join!(
            alarm.ring(1).at(soon),
            alarm.ring(2).at(later),
            // The last one counts.
            alarm.ring(3).delay(never).at(soon),
            alarm.ring(4).at(far).delay(SOON),
            // Not delayed.
            alarm.ring(5).delay(Duration::ZERO),
            alarm.ring(6).at(SystemTime::UNIX_EPOCH),
            alarm.ring(7).delay(never).at(began),
        );
        let all = [1, 2, 3, 4, 5, 6, 7].map(Ok);
        assert_eq!(<[_; 7]>::from(calls), all);
        for (id, at) in [(1, soon), (2, later), (3, soon)] {
            let due = clock.only(id).due.unwrap();
            let off = due.duration_since(at).unwrap_or_else(|early| early.duration());
            assert!(off < millis(100), "{id}: due {off:?} from what was said");
        }
        for id in 5..=7 {
            assert_eq!(clock.only(id).due, None);
        }
    });
}

#[test]
fn a_one_way_call_is_with_the_broker_until_it_is_due() {
    scenario(async |place| {
        let (channel, alarm) = client(&place).await;
        let began = Instant::now();
        let posted = tokio::join!(
            alarm.post(1).delay(SOON),
            alarm.post(2).delay(LATER),
            alarm.knock(3).delay(SOON),
            alarm.knock(4).delay(LATER),
        );
        assert_eq!(posted, (Ok(()), Ok(()), Ok(()), Ok(())));
        channel.close().await;
        let clock = Clock::default();
        let server = place.serve(AlarmServer::new(clock.clone())).await;
        for (id, delay) in [(1, SOON), (2, LATER)] {
            assert!(clock.until(id).await.at - began >= delay);
        }
        // Executed again when it failed, as if it had come when it was due.
        for (id, delay) in [(3, SOON), (4, LATER)] {
            eventually("it is repeated", || clock.of(id).len() == 2).await;
            let rung = clock.of(id);
            assert_eq!([1, 2], [rung[0].attempt, rung[1].attempt]);
            assert!(rung[0].at - began >= delay && rung[1].at - rung[0].at < SOON, "{rung:?}");
        }
        eventually("nothing is left", || server.stats().unfinished == 0).await;
    });
}

#[test]
fn a_ticket_tells_when_its_call_is_due() {
    scenario(async |place| {
        let (_channel, alarm) = client(&place).await;
        let (soon, later) = (SystemTime::now() + SOON, SystemTime::now() + LATER);
        let tickets = [
            alarm.ring(1).at(soon).enqueue().await.unwrap(),
            alarm.ring(2).at(later).enqueue().await.unwrap(),
        ];
        let tickets = tickets.map(|ticket| read(&ticket));
        let clock = Clock::default();
        let _server = place.serve(AlarmServer::new(clock.clone())).await;
        let (_other, alarm) = client(&place).await;
        let TicketStatus::Queued { ahead, due, .. } = alarm.status(&tickets[1]).await.unwrap()
        else {
            panic!("not queued");
        };
        let off = due.unwrap().duration_since(later).unwrap_or_else(|early| early.duration());
        assert!(ahead.is_none() && off < millis(100), "{ahead:?} {off:?}");
        let answers = join_all(tickets.iter().map(|ticket| alarm.attach(ticket))).await;
        assert_eq!(answers, [Ok(1), Ok(2)]);
        for (ticket, (id, at)) in tickets.iter().zip([(1, soon), (2, later)]) {
            assert_eq!(alarm.status(ticket).await, Ok(TicketStatus::Done));
            assert!(clock.only(id).due.unwrap() + millis(100) >= at);
        }
    });
}

#[test]
fn calls_of_a_key_take_their_place_when_they_are_due() {
    scenario(async |place| {
        let clock = Clock::default();
        let _server = place.serve(AlarmServer::new(clock.clone())).await;
        let (_channel, alarm) = client(&place).await;
        let began = Instant::now();
        let delayed = [(1, LATER + SOON), (2, LATER), (3, SOON)];
        let mut tickets = Vec::new();
        for (id, delay) in delayed {
            tickets.push(alarm.sort(7, id).delay(delay).enqueue().await.unwrap());
        }
        // It holds up nobody until then.
        assert_eq!(alarm.sort(7, 4).await, Ok(4));
        let answers = join_all(tickets.iter().map(|ticket| alarm.attach(ticket))).await;
        assert_eq!(answers, [1, 2, 3].map(Ok));
        assert_eq!(clock.ids(), [4, 3, 2, 1]);
        for (id, delay) in delayed {
            assert!(clock.only(id).at - began >= delay);
        }
    });
}

#[test]
fn a_ticket_that_is_cancelled_before_it_is_due_is_not_executed() {
    scenario(async |place| {
        let clock = Clock::default();
        let server = place.serve(AlarmServer::new(clock.clone())).await;
        let (_channel, alarm) = client(&place).await;
        let (_other, other) = client(&place).await;
        let soon = alarm.ring(1).delay(NEAR - millis(100)).enqueue().await.unwrap();
        let later = alarm.ring(2).delay(LATER).enqueue().await.unwrap();
        let kept = alarm.ring(3).delay(LATER).enqueue().await.unwrap();
        for ticket in [&soon, &later] {
            other.cancel(&read(ticket)).await.unwrap();
        }
        for ticket in [&soon, &later] {
            is_cancelled(other.attach(ticket).await);
            assert_eq!(other.status(ticket).await, Ok(TicketStatus::Cancelled));
        }
        assert_eq!(other.attach(&kept).await, Ok(3));
        eventually("nothing is left", || server.stats().unfinished == 0).await;
        assert_eq!(clock.ids(), [3]);
    });
}

#[test]
fn a_call_whose_future_is_dropped_before_it_is_due_is_not_executed() {
    scenario(async |place| {
        let clock = Clock::default();
        let server = place.serve(AlarmServer::new(clock.clone())).await;
        let (channel, alarm) = client(&place).await;
        let in_flight = || channel.stats("Alarm").unwrap().in_flight;
        let dropped = [
            tokio::spawn(alarm.ring(1).delay(NEAR - millis(100)).into_future()),
            tokio::spawn(alarm.ring(2).delay(LATER).into_future()),
            // Kept to be sent again, but not for this.
            tokio::spawn(alarm.look(3).delay(LATER).into_future()),
        ];
        eventually("they are under way", || in_flight() == 3).await;
        dropped.iter().for_each(|call| call.abort());
        let later = LATER + millis(200);
        assert_eq!(alarm.ring(4).delay(later).await, Ok(4));
        eventually("nothing is left", || server.stats().unfinished == 0).await;
        assert_eq!((clock.ids(), in_flight()), (vec![4], 0));
    });
}

#[test]
fn a_call_that_is_due_without_a_server_is_executed_when_there_is_one() {
    scenario(async |place| {
        let (_channel, alarm) = client(&place).await;
        let delays = [SOON, NEAR, NEAR + millis(100)];
        let calls = (0..).zip(delays).map(|(id, delay)| alarm.ring(id).delay(delay).enqueue());
        let tickets = join_all(calls).await;
        let due = SystemTime::now() + NEAR + millis(100);
        eventually("all are due", || SystemTime::now() > due).await;
        let clock = Clock::default();
        let _server = place.serve(AlarmServer::new(clock.clone())).await;
        for (id, ticket) in (0..).zip(tickets) {
            assert_eq!(alarm.attach(&ticket.unwrap()).await, Ok(id));
        }
    });
}

#[test]
fn a_server_that_goes_in_good_order_leaves_its_calls_to_the_next() {
    const CALLS: u64 = 60;
    scenario(async |place| {
        let clock = Clock::default();
        let serve = || place.server().serve(AlarmServer::new(clock.clone()));
        let first = start(serve()).await;
        let (_channel, alarm) = client(&place).await;
        let began = Instant::now();
        let delay = |id: u64| millis(500) + millis(40) * u32::try_from(id).unwrap();
        let posted = join_all((0..CALLS).map(|id| alarm.post(id).delay(delay(id)))).await;
        assert!(posted.iter().all(Result::is_ok), "{posted:?}");
        let second = serve().start().await.unwrap();
        settled(&[&first, &second]).await;
        first.shutdown().await.unwrap();
        for id in 0..CALLS {
            let rung = clock.until(id).await;
            assert!(rung.at - began >= delay(id), "{id} after {:?}", rung.at - began);
        }
        eventually("nothing is left", || second.stats().unfinished == 0).await;
        assert_eq!(clock.ids().len() as u64, CALLS, "none twice");
    });
}

#[test]
fn delayed_calls_of_an_idempotency_key_are_executed_once() {
    scenario(async |place| {
        let clock = Clock::default();
        let server = place.server().serve(AlarmServer::new(clock.clone()));
        let _server = start(server.result_store(MemoryStore::default())).await;
        let (_channel, alarm) = client(&place).await;
        let ring = |delay| alarm.ring(9).idempotency_key("nine").delay(delay);
        let answers = tokio::join!(ring(LATER), ring(SOON), ring(LATER));
        assert_eq!(<[_; 3]>::from(answers), [9; 3].map(Ok));
        clock.only(9);
    });
}

#[test]
fn a_delayed_call_that_is_given_up_is_a_letter_like_any_other() {
    scenario(async |place| {
        let clock = Clock::default();
        let server = place.serve(AlarmServer::new(clock.clone())).await;
        let (channel, alarm) = client(&place).await;
        alarm.burst(1).header("tenant", "a").delay(LATER).await.unwrap();
        let letters = |count| {
            let server = &server;
            async move {
                let stored = || server.stats().counts.dead_lettered == count;
                eventually("a letter is stored", stored).await;
            }
        };
        letters(1).await;
        let dead = channel.dead_letters("Alarm");
        let list = dead.list().await.unwrap();
        assert_eq!(list.len(), 1);
        assert_eq!((list[0].method.as_str(), list[0].attempts), ("Alarm/burst", 1));
        assert_eq!(list[0].caller, channel.instance());
        assert_eq!(list[0].metadata.get("tenant"), Some("a"));
        // Its time has come already.
        let replayed = Instant::now();
        dead.replay(&list[0].id).await.unwrap();
        letters(2).await;
        let rung = clock.of(1);
        assert!(rung.len() == 2 && rung[1].at - replayed < LATER, "{rung:?}");
    });
}

#[test]
fn what_cannot_be_delayed_is_refused_before_anything_is_sent() {
    scenario(async |place| {
        let channel = place.connect().await;
        let alarm = AlarmClient::new(&channel);
        let year = 366 * DAY;
        let errors = [
            alarm.pay(1).delay(SOON).await.unwrap_err(),
            alarm.pay(1).delay(SOON).enqueue().await.unwrap_err(),
            alarm.look(1).hedge(millis(10)).delay(SOON).await.unwrap_err(),
            alarm.look(1).delay(SOON).hedge(millis(10)).await.unwrap_err(),
            alarm.ring(1).delay(year).await.unwrap_err(),
            alarm.ring(1).delay(Duration::MAX).await.unwrap_err(),
            alarm.ring(1).delay(year - DAY).timeout(2 * DAY).await.unwrap_err(),
            alarm.ring(1).at(SystemTime::now() + year).await.unwrap_err(),
            alarm.post(1).delay(year - DAY).await.unwrap_err(),
            alarm.ring(1).delay(year).enqueue().await.unwrap_err(),
            channel.service("Alarm").ping().delay(SOON).await.unwrap_err(),
            channel.service("Alarm").info().at(SystemTime::now()).await.unwrap_err(),
        ];
        for (index, error) in errors.iter().enumerate() {
            assert_eq!(error.code(), Some(Code::InvalidArgument), "{index}: {error}");
        }
        let says = |index: usize, part: &str| {
            let error = errors[index].to_string();
            assert!(error.contains(part), "{error}");
        };
        says(0, "twice");
        says(4, "366 days");
        assert!(channel.stats("Alarm").is_none(), "it was not even opened");
    });
}
