//! A call that ends its server, packed with others that do not.

use std::{
    fs::{File, OpenOptions},
    io::Write,
    sync::Mutex,
};

use futures_util::future::join_all;
use krpc::prelude::*;
use serde_json::json;

use crate::work::{Program, Site, block_on, eventually};

/// Calls, the one that ends its server among them.
const CALLS: u64 = 201;
const CULPRIT: u64 = 100;

/// How often it may do so.
const ATTEMPTS: u32 = 3;

const MENDED: &str = "KRPC_TEST_MENDED";

#[krpc::service(name = "guarantee.Poison")]
trait Poison {
    async fn eat(&self, cx: &Context, id: u64) -> u64;
}

/// Writes down whom it serves, and dies of one.
struct Guest {
    log: Mutex<File>,
    mended: bool,
}

impl Poison for Guest {
    async fn eat(&self, _cx: &Context, id: u64) -> u64 {
        self.log.lock().unwrap().write_all(format!("{id}\n").as_bytes()).unwrap();
        if id == CULPRIT && !self.mended {
            std::process::abort();
        }
        // Some are under way when the server dies, and some have not begun.
        tokio::time::sleep(millis(id)).await;
        id + 1
    }
}

/// Not a test by itself, as `work::serve` is not.
#[test]
fn serve() {
    Site::serve(|builder, log| {
        let log = Mutex::new(OpenOptions::new().append(true).create(true).open(log).unwrap());
        let mended = std::env::var(MENDED).is_ok();
        builder.serve(PoisonServer::new(Guest { log, mended }))
    });
}

fn server(site: &Site, settings: &[(&str, &str)]) -> Program {
    // One partition: the calls share records, and one server at a time has all of them.
    let settings = [&[("KRPC_CALL_PARTITIONS", "1")], settings].concat();
    site.program("poison::serve", &settings)
}

#[test]
fn the_culprit_is_begun_three_times_its_neighbours_are_answered_and_it_runs_once_it_is_mended() {
    let site = Site::new("poison");
    let servers: Vec<_> = (0..=ATTEMPTS).map(|_| server(&site, &[])).collect();
    block_on(async {
        let channel = site.place.channel().await;
        let guests = PoisonClient::new(&channel);
        let calls = join_all((0..CALLS).map(|id| guests.eat(id).timeout(secs(120)))).await;
        for (id, result) in (0..CALLS).zip(calls) {
            if id != CULPRIT {
                assert_eq!(result, Ok(id + 1), "a neighbour");
                continue;
            }
            let error = result.unwrap_err();
            assert_eq!((error.code(), error.is_retryable()), (Some(Code::Aborted), false));
            assert!(error.to_string().contains("3 times"), "{error}");
        }
        let begins = site.executions(None);
        let (times, most) = (begins[&CULPRIT], begins.values().max().unwrap());
        println!("figure: the culprit began {times} times, no other of {CALLS} more than {most}");
        assert_eq!((times, *most), (3, 3));
        let dead = servers.iter().filter(|server| server.wait(millis(0)).is_some()).count();
        assert_eq!(dead, 3);

        let letters = channel.dead_letters("guarantee.Poison");
        let list = letters.list().await.unwrap();
        assert_eq!(list.len(), 1, "{list:?}");
        let letter = &list[0];
        assert_eq!((letter.caller, letter.attempts), (channel.instance(), ATTEMPTS));
        assert_eq!(letter.arguments.json().unwrap(), json!({"id": CULPRIT}));
        assert_eq!(letter.cause.code(), Code::Aborted);
        assert!(letter.position.index > 0, "it was packed with others: {:?}", letter.position);

        for server in servers.iter().filter(|server| server.wait(millis(0)).is_none()) {
            server.terminate().unwrap();
            assert!(server.wait(secs(30)).is_some_and(|status| status.success()));
        }
        let _mended = server(&site, &[(MENDED, "1")]);
        letters.replay(&letter.id).await.unwrap();
        let ran = || site.executions(Some(ATTEMPTS + 1)).contains_key(&CULPRIT);
        eventually("the replayed call runs", secs(30), ran).await;
        assert!(letters.list().await.unwrap().is_empty());
        assert_eq!(site.executions(Some(ATTEMPTS + 1)).len(), 1, "and nothing else does");
    });
}
