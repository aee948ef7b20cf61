//! A server is stopped in good order while another takes over.

use std::time::{Duration, Instant};

use krpc::prelude::*;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};

use crate::work::{Site, answer, block_on, eventually};

#[test]
fn a_graceful_stop_loses_no_call_and_executes_none_twice() {
    const CALLS: u64 = 1_000;
    let site = Site::new("graceful");
    let limit = [("KRPC_CONCURRENCY", "256")];
    let first = site.server(&limit);
    block_on(async {
        let work = site.place.client().await;
        let calls: Vec<_> =
            (0..CALLS).map(|id| (id, tokio::spawn(work.run(id, 500).timeout(secs(60))))).collect();
        eventually("calls run", secs(10), || site.executions(None).len() >= 100).await;
        let _second = site.server(&limit);
        first.terminate().unwrap();
        let status = first.wait(Duration::from_secs(40)).expect("the first server ends");
        assert!(status.success(), "{:?}", first.lines());
        for (id, call) in calls {
            assert_eq!(call.await.unwrap(), Ok(answer(id)));
        }
    });
    let executions = site.executions(None);
    let twice = executions.values().filter(|times| **times > 1).count();
    let [by_first, by_second] = [0, 1].map(|server| site.executions(Some(server)).len());
    println!("figure: {by_first} by the first, {by_second} by the second, {twice} twice");
    assert_eq!(executions.len() as u64, CALLS);
    assert_eq!(twice, 0);
    assert!(by_first > 0 && by_second > 0, "both had work");
}

/// The next server has its partitions at once, not after the session timeout of six seconds.
#[test]
fn a_server_that_has_ended_in_good_order_has_left_its_group() {
    let site = Site::new("left");
    let group = format!("{}.krpc.guarantee.Work", site.place.prefix);
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &site.place.brokers);
    let reader: BaseConsumer = config.create().unwrap();
    let members = || {
        let list = reader.fetch_group_list(Some(&group), Duration::from_secs(10)).unwrap();
        list.groups().iter().map(|group| group.members().len()).sum::<usize>()
    };
    block_on(async {
        let work = site.place.client().await;
        for id in 0..20 {
            let server = site.server(&[]);
            let started = Instant::now();
            assert_eq!(work.run(id, 0).timeout(secs(30)).await, Ok(answer(id)));
            let waited = started.elapsed();
            assert!(id == 0 || waited < Duration::from_secs(3), "{id} came after {waited:?}");
            assert_eq!(members(), 1);
            server.terminate().unwrap();
            let status = server.wait(Duration::from_secs(40)).expect("the server ends");
            assert!(status.success(), "{:?}", server.lines());
            assert_eq!(members(), 0, "server {id} ended and did not leave");
        }
    });
}
