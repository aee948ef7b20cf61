//! Worker groups: assignment, release, commits, back-pressure.

use super::*;

fn all(count: u32) -> Vec<PartitionId> {
    (0..count).map(id).collect()
}

async fn one_two_one() {
    let endpoint = private(12);
    let (client, _sent) = client(&endpoint).await;
    let burst = || (0..600).for_each(|n| client.send(calls(n % 12), b"x", 0).unwrap());
    burst();
    let (first, seen_first) = server(&endpoint).await;
    seen_first.until_owns(12).await;
    burst();
    let (second, seen_second) = server(&endpoint).await;
    seen_second.until_owns(6).await;
    seen_first.until_owns(6).await;
    burst();
    let both = [owned(&seen_first.log()), owned(&seen_second.log())].concat();
    assert_eq!(both.iter().collect::<std::collections::BTreeSet<_>>().len(), 12);
    first.leave().await.unwrap();
    burst();
    seen_second.until_owns(12).await;
    let total = || arrived(&seen_first.log()).len() + arrived(&seen_second.log()).len();
    let rest = 2_400 - arrived(&seen_first.log()).len();
    seen_second.until_arrived(rest).await;
    second.leave().await.unwrap();
    assert_eq!(total(), 2_400, "each once: the final points say where to go on");
    first.close().await;
    second.close().await;
}

#[tokio::test]
async fn members_come_and_go_and_no_record_comes_twice() {
    one_two_one().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn members_come_and_go_on_several_threads() {
    for _ in 0..20 {
        one_two_one().await;
    }
}

#[tokio::test]
async fn release_finishes_before_the_next_owner_is_told() {
    let endpoint = private(4);
    let (_first, old) = server(&endpoint).await;
    old.until_owns(4).await;
    (0..4).for_each(|partition| put(&endpoint, partition));
    old.until_arrived(4).await;
    old.hold.send_replace(true);
    let (_second, new) = server(&endpoint).await;
    old.until("release", |log| log.iter().any(|e| matches!(e, Event::Release(_)))).await;

    // What it keeps goes on meanwhile; what it gives away waits.
    (0..4).for_each(|partition| put(&endpoint, partition));
    old.until_arrived(6).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(new.log(), []);
    assert_eq!(arrived(&old.log()).len(), 6);

    old.hold.send_replace(false);
    new.until_arrived(2).await;
    let log = new.log();
    let Event::Assigned(gained) = &log[0] else { panic!("{log:?}") };
    assert!(gained.iter().all(|(_, point)| *point == Some((1, "final".to_owned()))));
    assert!(arrived(&log).iter().all(|(_, offset)| *offset == 1));
}

#[tokio::test]
async fn a_successor_gets_point_and_metadata() {
    let endpoint = private(2);
    let (first, seen) = server(&endpoint).await;
    (0..5).for_each(|_| put(&endpoint, 1));
    seen.until_arrived(5).await;
    *seen.metadata.lock() = "m".repeat(4096);
    first.leave().await.unwrap();
    assert_eq!(first.leave().await, Ok(()), "again changes nothing");
    assert!(matches!(first.join().await, Err(SetupError::Closed)));
    put(&endpoint, 1);
    let (_second, seen) = server(&endpoint).await;
    seen.until_arrived(1).await;
    let point = Some((5, "m".repeat(4096)));
    assert_eq!(seen.log()[0], Event::Assigned(vec![(id(0), None), (id(1), point)]));
    assert_eq!(arrived(&seen.log()), [(id(1), 5)]);
}

/// A point that is on its way when its partition is released is older than the final one.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_commit_on_its_way_does_not_come_after_the_final_one() {
    for _ in 0..100 {
        let endpoint = private(1);
        let (first, seen) = server(&endpoint).await;
        (0..3).for_each(|_| put(&endpoint, 0));
        seen.until_arrived(3).await;
        let committers: Vec<_> = (0..3)
            .map(|_| {
                let (first, metadata) = (first.clone(), "early".to_owned());
                let early = CommitPoint { partition: id(0), offset: 1, metadata };
                tokio::spawn(async move {
                    while first.commit(vec![early.clone()]).await[0].is_ok() {
                        // A commit never waits here: others need the thread too.
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        first.leave().await.unwrap();
        for committer in committers {
            committer.await.unwrap();
        }
        let (_second, seen) = server(&endpoint).await;
        seen.until_owns(1).await;
        let point = Some((3, "final".to_owned()));
        assert_eq!(seen.log(), [Event::Assigned(vec![(id(0), point)])]);
    }
}

#[tokio::test]
async fn what_leaving_could_not_commit_is_said() {
    let endpoint = private(1);
    let (server, seen) = server(&endpoint).await;
    put(&endpoint, 0);
    seen.until_arrived(1).await;
    *seen.metadata.lock() = "m".repeat(4097);
    server.leave().await.unwrap_err();
    assert_eq!(owned(&seen.log()), []);
}

#[tokio::test]
async fn commits_are_answered_one_by_one() {
    let endpoint = private(2);
    let (first, seen_first) = server(&endpoint).await;
    let (second, seen_second) = server(&endpoint).await;
    seen_first.until_owns(1).await;
    seen_second.until_owns(1).await;
    let mine = owned(&seen_first.log())[0];
    let other = owned(&seen_second.log())[0];
    let unknown = PartitionId { service: 9, ..mine };
    let point = |partition| CommitPoint { partition, offset: 3, metadata: "map".to_owned() };
    let results = first.commit(vec![point(other), point(mine), point(unknown)]).await;
    let good: Vec<_> = results.iter().map(Result::is_ok).collect();
    assert_eq!(good, [false, true, false]);
    drop(first);
    seen_second.until_owns(2).await;
    let gained = Event::Assigned(vec![(mine, Some((3, "map".to_owned())))]);
    assert!(seen_second.log().contains(&gained));
    second.leave().await.unwrap();
    assert_eq!(second.commit(vec![point(mine)]).await.iter().filter(|r| r.is_ok()).count(), 0);
}

#[tokio::test]
async fn a_full_server_leaves_the_backlog_but_not_the_group() {
    let endpoint = private(4);
    for n in 0..2_000 {
        put(&endpoint, n % 4);
    }
    let events = Fake::new();
    events.full.send_replace(true);
    let slow = endpoint.server(events.clone()).unwrap();
    slow.open(0, "sum").await.unwrap();
    slow.join().await.unwrap();
    events.until_arrived(1).await;

    // It still gives partitions away, and the other works at its own pace.
    let (_quick, seen) = server(&endpoint).await;
    events.until_owns(2).await;
    seen.until_owns(2).await;
    let before = arrived(&events.log());
    assert!(before.len() <= 256, "one batch: {}", before.len());
    let given = owned(&seen.log());
    let read = |id: &PartitionId| before.iter().filter(|(read, _)| read == id).count();
    seen.until_arrived(given.iter().map(|id| 500 - read(id)).sum()).await;
    assert_eq!(arrived(&events.log()), before);

    events.full.send_replace(false);
    let kept = owned(&events.log()).iter().map(|id| 500 - read(id)).sum::<usize>();
    events.until_arrived(before.len() + kept).await;
}

#[tokio::test]
async fn services_have_groups_of_their_own_or_share_a_name() {
    for group in [None, Some("workers".to_owned())] {
        let endpoint = MemoryEndpoint::private(TransportConfig { group, ..config(3) });
        let seen = Fake::new();
        let server = endpoint.server(seen.clone()).unwrap();
        server.open(0, "sum").await.unwrap();
        server.open(1, "echo").await.unwrap();
        server.join().await.unwrap();
        seen.until_owns(6).await;
        endpoint.inject("echo", Topic::Calls, 2, b"x");
        seen.until_arrived(1).await;
        assert_eq!(arrived(&seen.log()), [(PartitionId { service: 1, partition: 2 }, 0)]);
        server.leave().await.unwrap();
        assert_eq!(owned(&seen.log()), []);
    }
}

#[tokio::test]
async fn groups_of_different_names_each_get_everything() {
    let name = "groups.names";
    let named = |group: &str| {
        let config = TransportConfig { group: Some(group.to_owned()), ..config(3) };
        MemoryEndpoint::new(name, config)
    };
    let (_one, seen_one) = server(&named("one")).await;
    let (_two, seen_two) = server(&named("two")).await;
    (0..3).for_each(|partition| put(&named("one"), partition));
    for seen in [seen_one, seen_two] {
        seen.until_arrived(3).await;
        assert_eq!(owned(&seen.log()), all(3));
    }
}

#[tokio::test]
async fn more_members_than_partitions_leaves_some_idle() {
    let endpoint = private(1);
    let (first, seen_first) = server(&endpoint).await;
    seen_first.until_owns(1).await;
    let (second, seen_second) = server(&endpoint).await;
    second.leave().await.unwrap();
    let (_third, seen_third) = server(&endpoint).await;
    first.leave().await.unwrap();
    seen_third.until_owns(1).await;
    assert_eq!(seen_second.log(), []);
}
