//! Tickets: the answers of enqueued calls are fetched by whoever has one, their status is told, and
//! they are cancelled.

use futures_util::future::join_all;
use krpc::{Error, Ticket, TicketStatus, prelude::*};

use crate::support::{
    Place, eventually, eventually_is, scenario,
    services::{Adder, MathError, SumClient, SumServer, WorkClient, WorkServer, Worker},
    start,
};

/// A client in another process, as far as this one can tell: nothing but the endpoint is shared.
pub(super) async fn work(place: &Place) -> WorkClient {
    WorkClient::new(&place.connect().await)
}

/// A ticket as another process reads it.
fn read<T, E>(ticket: &Ticket<T, E>) -> Ticket<T, E> {
    serde_json::from_str(&serde_json::to_string(ticket).unwrap()).unwrap()
}

/// The same ticket with another number in one of its fields.
fn forged<T, E>(ticket: &Ticket<T, E>, field: &str, value: i64) -> Ticket<T, E> {
    let mut json = serde_json::to_value(ticket).unwrap();
    json[field] = value.into();
    serde_json::from_value(json).unwrap()
}

/// Waits until the status is such.
pub(super) async fn until(
    client: &WorkClient,
    ticket: &Ticket<u64>,
    is: impl Fn(&TicketStatus) -> bool,
) {
    eventually_is(async || client.status(ticket).await.unwrap(), is).await;
}

#[test]
fn a_ticket_is_queued_then_running_then_done() {
    scenario(async |place| {
        let maker = work(&place).await;
        let first = maker.held(1).key("one").enqueue().await.unwrap();
        let second = maker.held(2).key("one").enqueue().await.unwrap();
        drop(maker);
        let client = work(&place).await;
        let (first, second) = (read(&first), read(&second));
        let ahead = async |ticket: &Ticket<u64>| match client.status(ticket).await {
            Ok(TicketStatus::Queued { ahead: Some(ahead), .. }) => ahead,
            other => panic!("{other:?}"),
        };
        let before = ahead(&first).await;
        assert_eq!(ahead(&second).await, before + 1);
        let worker = Worker::new();
        let server = place.serve(WorkServer::new(worker.clone())).await;
        until(&client, &first, |it| *it == TicketStatus::Running { attempt: 1 }).await;
        assert!(matches!(client.status(&second).await, Ok(TicketStatus::Queued { .. })));
        worker.let_through(1);
        assert_eq!(client.attach(&first).await, Ok(1));
        assert_eq!(client.status(&first).await, Ok(TicketStatus::Done));
        until(&client, &second, |it| *it == TicketStatus::Running { attempt: 1 }).await;
        worker.open_gate();
        let reply = client.attach(&second).reply().await.unwrap();
        assert_eq!((reply.value, reply.server_id), (2, server.instance()));
        // Answers stay, also when nobody serves any more.
        server.shutdown().await.unwrap();
        let later = work(&place).await;
        assert_eq!(later.attach(&first).await, Ok(1));
        assert_eq!(later.status(&second).await, Ok(TicketStatus::Done));
        assert_eq!(worker.log.started(), 2);
    });
}

#[test]
fn all_that_are_attached_get_their_answers() {
    const CALLS: u64 = 500;
    scenario(async |place| {
        let maker = work(&place).await;
        let tickets = join_all((0..CALLS).map(|job| maker.quick(job).enqueue())).await;
        let tickets: Vec<_> = tickets.into_iter().map(|ticket| read(&ticket.unwrap())).collect();
        let client = work(&place).await;
        let early = tickets.iter().map(|ticket| client.attach(ticket));
        let early = tokio::spawn(join_all(early.collect::<Vec<_>>()));
        let worker = Worker::new();
        let _server = place.serve(WorkServer::new(worker.clone())).await;
        let expected: Vec<_> = (0..CALLS).map(Ok).collect();
        assert_eq!(early.await.unwrap(), expected);
        // Once more, from another client, and one after the other.
        let late = work(&place).await;
        for (ticket, expected) in tickets.iter().zip(&expected) {
            assert_eq!(late.attach(ticket).await, *expected);
        }
        assert_eq!(worker.log.started() as u64, CALLS);
    });
}

#[test]
fn an_answer_may_be_an_error() {
    scenario(async |place| {
        let sum = SumClient::new(&place.connect().await);
        let none: Ticket<i64, MathError> = sum.divide(7, 0).enqueue().await.unwrap();
        let some = sum.divide(7, 2).enqueue().await.unwrap();
        let nothing: Ticket<()> = sum.nothing().enqueue().await.unwrap();
        let _server = place.serve(SumServer::new(Adder)).await;
        let error = Error::App(MathError::DivisionByZero { dividend: 7 });
        assert_eq!(sum.attach(&none).await, Err(error));
        assert_eq!(sum.attach(&some).await, Ok(3));
        assert_eq!(sum.attach(&nothing).await, Ok(()));
        assert_eq!(sum.status(&none).await, Ok(TicketStatus::Done));
        // Read as what it is not.
        let wrong: Ticket<String, String> = read(&none.cast());
        assert_eq!(sum.attach(&wrong).await.unwrap_err().code(), Some(Code::Unknown));
        let wrong: Ticket<String> = read(&some.cast());
        assert_eq!(sum.attach(&wrong).await.unwrap_err().code(), Some(Code::Internal));
    });
}

#[test]
fn a_cancelled_ticket_is_not_executed() {
    scenario(async |place| {
        let client = work(&place).await;
        let before = client.held(1).enqueue().await.unwrap();
        client.cancel(&before).await.unwrap();
        let worker = Worker::new();
        let server = place.server().concurrency(2).serve(WorkServer::new(worker.clone()));
        let _server = start(server).await;
        let cancelled = |error: Error| {
            assert_eq!(error.code(), Some(Code::Cancelled), "{error}");
        };
        cancelled(client.attach(&before).await.unwrap_err());
        assert_eq!(client.status(&before).await, Ok(TicketStatus::Cancelled));
        assert_eq!(worker.log.started(), 0);
        // Two run, one waits for its place, one for its key.
        let running = client.held(2).enqueue().await.unwrap();
        let _beside = client.held(6).enqueue().await.unwrap();
        worker.log.until_running(2).await;
        let queued = client.held(3).key("k").enqueue().await.unwrap();
        let keyed = client.held(4).key("k").enqueue().await.unwrap();
        let other = work(&place).await;
        for ticket in [&queued, &keyed] {
            other.cancel(&read(ticket)).await.unwrap();
            cancelled(other.attach(ticket).await.unwrap_err());
        }
        other.cancel(&read(&running)).await.unwrap();
        cancelled(other.attach(&running).await.unwrap_err());
        eventually("the handler is dropped", || worker.log.dropped() == 1).await;
        for ticket in [&running, &queued, &keyed] {
            assert_eq!(other.status(ticket).await, Ok(TicketStatus::Cancelled));
        }
        let executions: Vec<_> = worker.log.executions().into_iter().collect();
        assert_eq!(executions, [(2, 1), (6, 1)]);
        // What was answered stays answered.
        worker.open_gate();
        let done = client.held(5).enqueue().await.unwrap();
        assert_eq!(client.attach(&done).await, Ok(5));
        client.cancel(&done).await.unwrap();
        assert_eq!(client.attach(&done).await, Ok(5));
    });
}

#[test]
fn a_ticket_that_does_not_fit_is_refused_or_unknown() {
    scenario(async |place| {
        let channel = place.connect().await;
        let (client, sum) = (WorkClient::new(&channel), SumClient::new(&channel));
        let ticket = client.quick(1).enqueue().await.unwrap();
        let other = |error: Error| {
            assert_eq!(error.code(), Some(Code::InvalidArgument), "{error}");
            assert!(error.to_string().contains("ticket is of Work"), "{error}");
        };
        other(sum.attach(&ticket).await.unwrap_err());
        other(sum.status(&ticket).await.unwrap_err());
        other(sum.cancel(&ticket).await.unwrap_err());
        assert!(channel.stats("Sum").is_none(), "nothing was asked of the broker");
        for (field, value) in [("results_partition", 999), ("partition", 999), ("offset", 999)] {
            let forged = forged(&ticket, field, value);
            assert_eq!(client.status(&forged).await, Ok(TicketStatus::Unknown), "{field}");
        }
        let nowhere = forged(&ticket, "results_partition", 999);
        let error = client.attach(&nowhere).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::NotFound), "{error}");
        let _server = place.serve(WorkServer::new(Worker::new())).await;
        assert_eq!(client.attach(&ticket).await, Ok(1));
        // Of a call that is done and of which nothing is there.
        let never = forged(&ticket, "call", 12_345);
        until(&client, &never, |it| *it == TicketStatus::Unknown).await;
        // As if the results had been made anew since then.
        let error = client.attach(&forged(&never, "results_from", 999)).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::NotFound), "{error}");
        // As if its answer could have been before what is kept.
        let cut = forged(&never, "results_from", -1);
        let error = client.attach(&cut).await.unwrap_err();
        assert_eq!(error.code(), Some(Code::NotFound), "{error}");
    });
}
