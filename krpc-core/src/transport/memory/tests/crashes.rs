//! Sides that vanish without a word.

use super::*;

fn point(partition: u32, offset: i64) -> CommitPoint {
    CommitPoint { partition: id(partition), offset, metadata: "map".to_owned() }
}

#[tokio::test]
async fn the_partitions_of_a_crashed_server_are_read_on_from_its_points() {
    let endpoint = private(2);
    let (first, seen_first) = server(&endpoint).await;
    for n in 0..20 {
        put(&endpoint, n % 2);
    }
    seen_first.until_arrived(20).await;
    assert_eq!(first.commit(vec![point(0, 7)]).await, [Ok(())]);
    let before = seen_first.log();
    drop(first);
    let (_second, seen_second) = server(&endpoint).await;
    seen_second.until_arrived(3 + 10).await;
    let committed = vec![(id(0), Some((7, "map".to_owned()))), (id(1), None)];
    assert_eq!(seen_second.log()[0], Event::Assigned(committed));
    let first_of = |partition| {
        arrived(&seen_second.log()).into_iter().find(|(at, _)| *at == id(partition)).unwrap().1
    };
    assert_eq!((first_of(0), first_of(1)), (7, 0));
    assert_eq!(seen_first.log(), before, "nothing is said to the dead");
}

#[tokio::test]
async fn others_take_over_at_once() {
    let endpoint = private(6);
    let (first, seen_first) = server(&endpoint).await;
    let (_second, seen_second) = server(&endpoint).await;
    let (_third, seen_third) = server(&endpoint).await;
    for seen in [&seen_first, &seen_second, &seen_third] {
        seen.until_owns(2).await;
    }
    drop(first);
    seen_second.until_owns(3).await;
    seen_third.until_owns(3).await;
}

#[tokio::test]
async fn a_crash_while_releasing_frees_what_was_held() {
    let endpoint = private(2);
    let (first, seen_first) = server(&endpoint).await;
    seen_first.until_owns(2).await;
    seen_first.hold.send_replace(true);
    let (_second, seen_second) = server(&endpoint).await;
    let asked = |log: &[Event]| log.iter().any(|event| matches!(event, Event::Release(_)));
    seen_first.until("release", asked).await;
    drop(first);
    seen_second.until_owns(2).await;
    assert!(!seen_first.log().iter().any(|event| matches!(event, Event::Released(_))));
}

#[tokio::test]
async fn a_crash_while_full_frees_what_was_held() {
    let endpoint = private(2);
    put(&endpoint, 0);
    let (first, seen_first) = server(&endpoint).await;
    seen_first.full.send_replace(true);
    seen_first.until_arrived(1).await;
    drop(first);
    let (_second, seen_second) = server(&endpoint).await;
    seen_second.until_arrived(1).await;
}

#[tokio::test]
async fn a_newcomer_that_crashes_before_it_owns_changes_nothing() {
    let endpoint = private(4);
    let (_first, seen) = server(&endpoint).await;
    seen.until_owns(4).await;
    seen.hold.send_replace(true);
    let (second, _) = server(&endpoint).await;
    seen.until("release", |log| log.iter().any(|e| matches!(e, Event::Release(_)))).await;
    drop(second);
    seen.hold.send_replace(false);
    seen.until("return", |log| log.iter().filter(|e| matches!(e, Event::Assigned(_))).count() == 2)
        .await;
    assert_eq!(owned(&seen.log()), (0..4).map(id).collect::<Vec<_>>());
}

#[tokio::test]
async fn dropped_sides_leave_no_task_and_no_event() {
    let endpoint = private(1);
    let (client, client_events) = client(&endpoint).await;
    let (server, server_events) = server(&endpoint).await;
    server_events.until_owns(1).await;
    client.send(calls(0), b"x", 1).unwrap();
    server.send(replies(0), b"x", 1).unwrap();
    let before = (client_events.log(), server_events.log());
    drop((client, server));
    // The aborted tasks go when the runtime gets to them.
    while Arc::strong_count(&client_events) + Arc::strong_count(&server_events) > 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!((client_events.log(), server_events.log()), before);
}

#[tokio::test]
async fn a_reader_that_panics_does_not_stop_leave_or_others() {
    let endpoint = private(1);
    let (server, events) = server(&endpoint).await;
    events.until_owns(1).await;
    // The fake refuses a record of a partition that it thinks it does not own.
    events.log.lock().clear();
    put(&endpoint, 0);
    let (_second, seen) = super::server(&endpoint).await;
    seen.until_arrived(1).await;
    assert_eq!(server.leave().await, Ok(()));
}

#[tokio::test]
async fn a_crash_within_an_event_ends_the_batch() {
    let endpoint = private(1);
    (0..10).for_each(|_| put(&endpoint, 0));
    let (first, events) = server(&endpoint).await;
    *events.victim.lock() = Some(first);
    let (_second, seen) = server(&endpoint).await;
    seen.until_arrived(10).await;
    assert_eq!(arrived(&events.log()), [(id(0), 0)]);
}
