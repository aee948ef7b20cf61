//! Calls that are executed once at most, whoever is killed.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    sync::Mutex,
};

use krpc::{Error, prelude::*};

use crate::{
    delivery::micros,
    work::{Site, block_on},
};

#[krpc::service(name = "guarantee.Till")]
trait Till {
    /// Writes `id` down, and yields it after a while.
    #[rpc(at_most_once)]
    async fn pay(&self, id: u64, millis: u64) -> u64;
}

/// Keeps a log that survives `kill -9`.
struct Cashier(Mutex<File>);

impl Till for Cashier {
    async fn pay(&self, id: u64, millis: u64) -> u64 {
        self.0.lock().unwrap().write_all(format!("{id}\n").as_bytes()).unwrap();
        tokio::time::sleep(krpc::prelude::millis(millis)).await;
        id
    }
}

/// Not a test by itself, as `work::serve` is not.
#[test]
fn serve() {
    Site::serve(|builder, log| {
        let log = OpenOptions::new().append(true).create(true).open(log).unwrap();
        builder.serve(TillServer::new(Cashier(Mutex::new(log))))
    });
}

const CALLS: u64 = 2_000;

/// Each call takes from 0 to so many milliseconds, so that kills find some at every stage.
const LONGEST: u64 = 40;

#[derive(Default, Debug)]
struct Ends {
    values: u64,
    unknown: u64,
    not_executed: u64,
    deadlines: u64,
}

#[test]
fn none_of_two_thousand_is_executed_twice() {
    let site = Site::new("at-most-once");
    let server = || site.program("at_most_once::serve", &[]);
    let mut servers = [server(), server(), server()];
    let seed = micros();
    let mut dice = seed;
    let mut roll = |sides: u64| {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (dice >> 33) % sides
    };
    let (ends, kills) = block_on(async {
        let till = TillClient::new(&site.place.channel().await);
        assert_eq!(till.pay(CALLS, 0).timeout(secs(30)).await, Ok(CALLS));
        let (mut calls, mut kills) = (Vec::new(), 0);
        let mut tick = tokio::time::interval(millis(10));
        for id in 0..CALLS {
            tick.tick().await;
            let call = till.pay(id, roll(LONGEST)).timeout(secs(25));
            calls.push((id, tokio::spawn(call)));
            // Twenty seconds, in which a server is killed about every three.
            if roll(300) == 0 {
                let killed = usize::try_from(roll(3)).unwrap();
                servers[killed].kill9().unwrap();
                servers[killed] = server();
                kills += 1;
            }
        }
        let mut ends = Ends::default();
        for (id, call) in calls {
            match call.await.unwrap() {
                Ok(value) => {
                    assert_eq!(value, id);
                    ends.values += 1;
                }
                Err(error) => ends.note(id, &error),
            }
        }
        (ends, kills)
    });
    let executions = site.executions(None);
    let twice: Vec<_> = executions.iter().filter(|(_, times)| **times > 1).collect();
    println!("figure: seed {seed}, {kills} kills, {} executed, {ends:?}", executions.len());
    assert!(twice.is_empty(), "executed twice: {twice:?}");
    assert!(kills > 0 && ends.values > CALLS / 2, "{kills} kills, {ends:?}");
    let known = ends.values + ends.unknown + ends.not_executed + ends.deadlines;
    assert_eq!(known, CALLS);
}

impl Ends {
    fn note(&mut self, id: u64, error: &Error) {
        match error.code() {
            _ if error.is_outcome_unknown() => self.unknown += 1,
            Some(Code::Unavailable) if error.is_retryable() => self.not_executed += 1,
            Some(Code::DeadlineExceeded) => self.deadlines += 1,
            _ => panic!("call {id} ended in a way that is not promised: {error}"),
        }
    }
}
