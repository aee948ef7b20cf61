//! Clients come and go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use krpc::prelude::*;

use crate::work::{Site, answer, block_on, eventually};

#[test]
fn the_calls_of_a_killed_client_are_executed() {
    const CALLS: u64 = 500;
    let site = Site::new("killed-client");
    let _server = site.server(&[("KRPC_CONCURRENCY", "32")]);
    let caller = site.caller(CALLS);
    block_on(async {
        eventually("calls run", secs(20), || !site.executions(None).is_empty()).await;
        // At 32 at a time the last of them starts three seconds later; all are in Kafka by then.
        eventually("a tenth ran", secs(20), || site.executions(None).len() >= 50).await;
        caller.kill9().unwrap();
        let all = || site.executions(None).len() as u64 == CALLS;
        eventually("all are executed", secs(30), all).await;
    });
    let twice = site.executions(None).values().filter(|times| **times > 1).count();
    println!("figure: {CALLS} calls of a killed client executed, {twice} of them twice");
    assert_eq!(twice, 0);
}

#[test]
fn clients_that_restart_take_no_reply_from_others() {
    const CLIENTS: u64 = 64;
    const SECONDS: u64 = 30;
    let site = Site::new("clients");
    let _server = site.server(&[]);
    let (next, restarts) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    block_on(async {
        let until = Instant::now() + secs(SECONDS);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (place, next, restarts) = (site.place.clone(), next.clone(), restarts.clone());
                tokio::spawn(async move {
                    let mut work = place.client().await;
                    while Instant::now() < until {
                        for _ in 0..10 {
                            let id = next.fetch_add(1, Ordering::Relaxed);
                            let reply = work.run(id, 1).timeout(secs(30)).await;
                            assert_eq!(reply, Ok(answer(id)), "client {number}");
                        }
                        if number % 2 == 0 {
                            restarts.fetch_add(1, Ordering::Relaxed);
                            work = place.client().await;
                        }
                    }
                })
            })
            .collect();
        for client in clients {
            client.await.unwrap();
        }
    });
    let (calls, restarts) = (next.load(Ordering::Relaxed), restarts.load(Ordering::Relaxed));
    println!("figure: {calls} calls by {CLIENTS} clients, {restarts} restarts, none lost or wrong");
    assert!(calls > CLIENTS * 10 && restarts > CLIENTS, "{calls} calls, {restarts} restarts");
}
