//! The examples on a real Kafka: the calculator, server and client as two programs, and delivery.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    time::{Duration, Instant},
};

use krpc_testkit::Program;

use crate::work::{Site, block_on};

fn example(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    let path = path.join("examples").join(name);
    assert!(path.exists(), "build it first: cargo build --example {name}");
    path
}

fn server(site: &Site) -> Program {
    let envs = [("KRPC_PREFIX", site.place.prefix.as_str())];
    let server =
        Program::spawn(example("calculator-server"), &[&site.place.brokers], &envs).unwrap();
    server.wait_for_line("serving", Duration::from_secs(30)).unwrap();
    server
}

/// Runs the client to its end; how long its 128 waits took, and the line on who waited.
fn client(site: &Site) -> (u64, String) {
    let envs = [("KRPC_PREFIX", site.place.prefix.as_str())];
    let client =
        Program::spawn(example("calculator-client"), &[&site.place.brokers], &envs).unwrap();
    let ended = client.wait(Duration::from_secs(60)).expect("the client ends");
    assert!(ended.success(), "{:?}", client.lines());
    let find = |part: &str| {
        let lines = client.lines();
        lines.into_iter().find(|line| line.contains(part)).expect("the client says so")
    };
    find("1 + 2 = 3");
    find("1 / 4 = 0.25");
    find("1 / 0: there is no result");
    let line = find("128 waits of 100 ms took");
    (line.split(' ').nth(6).unwrap().parse().unwrap(), find("by server process"))
}

/// Waits until the two servers own half of the partitions each.
fn settled(site: &Site) {
    block_on(async {
        let channel = site.place.channel().await;
        let service = channel.service("example.Calculator");
        let until = Instant::now() + Duration::from_secs(20);
        let mut halves = BTreeSet::new();
        while halves.len() < 2 {
            assert!(Instant::now() < until, "the servers did not share the partitions");
            let info = service.info().await.unwrap();
            if info.partitions.len() == 6 {
                halves.insert(info.server);
            }
        }
    });
}

#[test]
fn handlers_that_wait_run_side_by_side() {
    let site = Site::new("calculator");
    let _server = server(&site);
    // The first run warms the broker up.
    client(&site);
    let (millis, servers) = client(&site);
    println!("figure: 128 waits of 100 ms took {millis} ms; {servers}");
    assert!(millis <= 300, "{millis} ms");
}

#[test]
fn two_servers_share_the_work() {
    let site = Site::new("two-servers");
    let _servers = [server(&site), server(&site)];
    settled(&site);
    let (millis, servers) = client(&site);
    println!("figure: 128 waits of 100 ms took {millis} ms; {servers}");
    assert_eq!(servers.matches(": ").count(), 3, "two processes took part: {servers}");
}

#[test]
fn the_example_of_delivery_shows_what_it_says() {
    let site = Site::new("shop");
    let brokers = site.place.brokers.as_str();
    let envs = [("KRPC_PREFIX", site.place.prefix.as_str()), ("KRPC_ENDPOINT", brokers)];
    let program = Program::spawn(example("delivery"), &[], &envs).unwrap();
    let ended = program.wait(Duration::from_secs(60)).expect("it ends");
    assert!(ended.success(), "{:?}", program.lines());
    for line in [
        "order 1 is in",
        "the other was cancelled: Err(Some(Cancelled))",
        "150 cents",
        "order 2 was in no sooner: true",
        "order 3 is order 3",
        "printed: true",
        "Shop/mail failed 3 times: UNKNOWN",
        "mailed to ann@example.org",
    ] {
        let said = program.lines().iter().any(|it| it.contains(line));
        assert!(said, "{line}: {:?}", program.lines());
    }
}
