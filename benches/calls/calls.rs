//! kRPC: a typed call, acks=all, committed after the reply; no promise is switched off.

use std::time::Instant;

use futures_util::{StreamExt, stream};
use hdrhistogram::Histogram;
use krpc::prelude::*;

use crate::Measured;

#[krpc::service(name = "bench.Sum")]
trait Sum {
    async fn add(&self, x: i64, y: i64) -> i64;
}

struct Adder;

impl Sum for Adder {
    async fn add(&self, x: i64, y: i64) -> i64 {
        x + y
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime starts")
}

pub(crate) fn serve(brokers: &str) {
    runtime().block_on(async {
        let server = Server::builder(brokers).concurrency(16_384).serve(SumServer::new(Adder));
        let server = server.start().await.expect("the server starts");
        let sum = SumClient::connect(brokers).await.expect("the client connects");
        assert_eq!(sum.add(1, 2).timeout(secs(60)).await, Ok(3));
        drop(sum);
        println!("ready");
        server.run_until(ctrl_c()).await.expect("the server drains");
    });
}

pub(crate) fn call(brokers: &str, window: usize, count: usize) -> Measured {
    runtime().block_on(async {
        let channel = Channel::connect(brokers).await.expect("the client connects");
        let sum = SumClient::new(&channel);
        for x in 0..100 {
            assert_eq!(sum.add(x, 2).await, Ok(x + 2));
        }
        let mut latency = Histogram::new(3).expect("three digits are supported");
        let started = Instant::now();
        let mut calls = stream::iter(0..count)
            .map(|x| {
                let x = i64::try_from(x).expect("a small number");
                let call = sum.add(x, 2);
                async move {
                    let started = Instant::now();
                    assert_eq!(call.await, Ok(x + 2));
                    started.elapsed()
                }
            })
            .buffer_unordered(window);
        while let Some(elapsed) = calls.next().await {
            let micros = u64::try_from(elapsed.as_micros()).expect("a short time");
            latency.record(micros).expect("the histogram resizes");
        }
        let elapsed = started.elapsed();
        let info = channel.service("bench.Sum").info().await.expect("a server answers");
        let sent = channel.stats("bench.Sum").expect("it was called").packets;
        eprintln!("{count} calls in {sent} packets; the server sent {}", info.packets);
        Measured::new(count, elapsed, latency)
    })
}
