//! Tickets outlive whoever made them, and whoever executes the calls.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use krpc::{Ticket, TicketStatus, prelude::*};
use krpc_testkit::Program;

use crate::work::{Site, WorkClient, answer, block_on, eventually};

const CALLS: u64 = 1_000;

const ENDPOINT: &str = "KRPC_TEST_ENDPOINT";
const FILE: &str = "KRPC_TEST_TICKETS";
const CANCELS: &str = "KRPC_TEST_CANCELS";

/// Not a test by itself: with these variables set it enqueues calls, writes their tickets to a
/// file, cancels some if it is told to, and stays until it is killed.
#[test]
fn enqueue() {
    let (Ok(endpoint), Ok(file)) = (std::env::var(ENDPOINT), std::env::var(FILE)) else { return };
    block_on(async {
        let work = WorkClient::connect(endpoint).await.unwrap();
        let began = Instant::now();
        let tickets = join_all((0..CALLS).map(|id| work.run(id, 0).enqueue())).await;
        let tickets: Vec<_> = tickets.into_iter().map(Result::unwrap).collect();
        let elapsed = began.elapsed();
        let lines: Vec<_> =
            tickets.iter().map(|ticket| serde_json::to_string(ticket).unwrap()).collect();
        std::fs::write(file, lines.join("\n")).unwrap();
        if std::env::var(CANCELS).is_ok() {
            let cancels = tickets.iter().step_by(2).map(|ticket| work.cancel(ticket));
            join_all(cancels).await.into_iter().for_each(Result::unwrap);
        }
        println!("enqueued within {elapsed:?}");
        std::future::pending::<()>().await;
    });
}

/// Process A: enqueues, writes the file, and is killed.
fn enqueue_and_die(site: &Site, file: &Path, more: &[(&str, &str)]) -> String {
    let mut envs = vec![
        (ENDPOINT, site.place.brokers.as_str()),
        (FILE, file.to_str().unwrap()),
        ("KRPC_PREFIX", site.place.prefix.as_str()),
    ];
    envs.extend_from_slice(more);
    let me = std::env::current_exe().unwrap();
    let program = Program::spawn(me, &["--exact", "tickets::enqueue", "--nocapture"], &envs);
    let program = program.unwrap();
    let line = program.wait_for_line("enqueued within", secs(60)).unwrap();
    program.kill9().unwrap();
    line
}

fn read(file: &Path) -> Vec<Ticket<u64>> {
    let text = std::fs::read_to_string(file).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// All answers by a new channel, and how long that took.
async fn attach(site: &Site, tickets: &[Ticket<u64>]) -> (Vec<Result<u64, Code>>, Duration) {
    let client = site.place.client().await;
    let began = Instant::now();
    let answers = join_all(tickets.iter().map(|ticket| client.attach(ticket))).await;
    let code = |error: krpc::Error| error.code().unwrap();
    (answers.into_iter().map(|answer| answer.map_err(code)).collect(), began.elapsed())
}

#[test]
fn another_process_finds_a_thousand_answers() {
    let site = Site::new("tickets");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tickets");
    let line = enqueue_and_die(&site, &file, &[]);
    println!("figure: {line}");
    let servers = [site.server(&[]), site.server(&[])];
    let expected: Vec<_> = (0..CALLS).map(|id| Ok(answer(id))).collect();
    let tickets = read(&file);
    block_on(async {
        let (answers, took) = attach(&site, &tickets).await;
        println!("figure: {CALLS} answers while two servers begin to work, within {took:?}");
        assert_eq!(answers, expected);
        // The servers go as well: nothing but the topics is left.
        servers.iter().for_each(|server| server.kill9().unwrap());
        let (answers, took) = attach(&site, &tickets).await;
        println!("figure: {CALLS} answers without a server, within {took:?}");
        assert_eq!(answers, expected);
        let client = site.place.client().await;
        for ticket in tickets.iter().step_by(100) {
            assert_eq!(client.status(ticket).await, Ok(TicketStatus::Done));
        }
    });
    let executed = site.executions(None);
    assert_eq!(executed.len() as u64, CALLS);
}

#[test]
fn a_cancel_outlives_its_client() {
    let site = Site::new("cancelled");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tickets");
    enqueue_and_die(&site, &file, &[(CANCELS, "1")]);
    let _server = site.server(&[]);
    let expected = |id| if id % 2 == 0 { Err(Code::Cancelled) } else { Ok(answer(id)) };
    let tickets = read(&file);
    block_on(async {
        let (answers, took) = attach(&site, &tickets).await;
        println!("figure: {CALLS} tickets, every other one cancelled, within {took:?}");
        assert_eq!(answers, (0..CALLS).map(expected).collect::<Vec<_>>());
        let client = site.place.client().await;
        assert_eq!(client.status(&tickets[0]).await, Ok(TicketStatus::Cancelled));
        assert_eq!(client.status(&tickets[1]).await, Ok(TicketStatus::Done));
        let executed = || site.executions(None).len() as u64 == CALLS / 2;
        eventually("half of the calls were executed", secs(1), executed).await;
    });
    assert!(site.executions(None).keys().all(|id| id % 2 == 1));
}
