//! A real Kafka is started, faulted and looked at from outside.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use krpc_testkit::{Error, Kafka};

/// A Metadata request without topics; the answer's length and start are enough here.
fn answers(address: &str) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"\0\0\0\x0e\0\x03\0\x02abcd\xff\xff\0\0\0\0")?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer)?;
        std::io::Result::Ok(answer.ends_with(b"abcd"))
    };
    ask().unwrap_or(false)
}

#[test]
fn one_broker_stops_and_comes_back_on_its_port() {
    let kafka = Kafka::start().unwrap();
    let address = kafka.bootstrap().to_owned();
    assert_eq!((kafka.brokers(), kafka.is_external()), (1, false));
    assert!(answers(&address));
    kafka.stop(0).unwrap();
    assert!(!answers(&address));
    kafka.stop(0).unwrap();
    assert!(matches!(kafka.pause(0), Err(Error::NotRunning { broker: 0 })));
    kafka.restart(0).unwrap();
    assert!(answers(&address));
    kafka.kill(0).unwrap();
    assert!(!answers(&address));
    kafka.restart(0).unwrap();
    assert!(answers(&address));
    drop(kafka);
    assert!(!answers(&address));
}

#[test]
fn the_brokers_of_a_cluster_are_killed_and_paused_one_by_one() {
    let kafka = Kafka::cluster(3).unwrap();
    let addresses: Vec<String> = kafka.bootstrap().split(',').map(str::to_owned).collect();
    assert_eq!(addresses.len(), 3);
    kafka.pause(1).unwrap();
    assert_eq!(addresses.iter().map(|a| answers(a)).collect::<Vec<_>>(), [true, false, true]);
    kafka.resume(1).unwrap();
    kafka.kill(0).unwrap();
    assert!(!answers(&addresses[0]));
    kafka.restart(0).unwrap();
    assert!(addresses.iter().all(|address| answers(address)));
    let unknown = kafka.kill(3);
    assert!(matches!(unknown, Err(Error::NoSuchBroker { broker: 3, brokers: 3 })));
    kafka.pause(2).unwrap();
    let started = Instant::now();
    drop(kafka);
    assert!(started.elapsed() < Duration::from_secs(10), "a paused broker is killed as well");
}

#[test]
fn a_broker_that_cannot_start_shows_its_log() {
    let failed = Kafka::builder().setting("num.io.threads", "none").start().unwrap_err();
    let Error::Ended { broker: 0, log, .. } = failed else { panic!("{failed}") };
    assert!(log.contains("num.io.threads"), "{log}");
    let failed = Kafka::builder().heap("much").start().unwrap_err();
    assert!(matches!(failed, Error::Ended { .. }), "{failed}");
}

#[test]
fn the_shared_kafka_is_one() {
    let one = Kafka::shared().unwrap();
    let again = Kafka::shared().unwrap();
    assert_eq!(one.bootstrap(), again.bootstrap());
    assert!(answers(one.bootstrap()));
}
