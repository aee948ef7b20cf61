//! Clients come and go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use krpc::prelude::*;

use crate::work::{Site, answer, block_on};

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
