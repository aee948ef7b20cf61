//! Calls are spread by what servers say and do, measured in virtual time.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)] // a measurement has a clock

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    ops::Range,
};

use super::*;

const fn server(number: u8) -> InstanceId {
    InstanceId::from_bytes([number; 16])
}

fn owns(partitions: impl IntoIterator<Item = u32>) -> Announce {
    Announce { partitions: partitions.into_iter().collect(), running: 0, queued: 0, limit: 128 }
}

fn busy(partitions: Range<u32>, running: u32) -> Announce {
    Announce { running, ..owns(partitions) }
}

/// How many of the next calls go to each partition; all are answered at once by their owner.
fn spread(balance: &mut Balance, calls: u32) -> BTreeMap<u32, u32> {
    let mut counts = BTreeMap::new();
    for _ in 0..calls {
        let partition = balance.choose();
        *counts.entry(partition).or_default() += 1;
        balance.abandoned(partition, false);
    }
    counts
}

fn view(balance: &Balance, instance: InstanceId) -> Option<ServerView> {
    balance.servers().find(|view| view.instance == instance)
}

#[test]
fn without_servers_calls_go_round() {
    let mut balance = Balance::new(12, 5);
    let counts = spread(&mut balance, 120);
    assert!(counts.len() == 12 && counts.values().all(|count| *count == 10), "{counts:?}");
    assert_eq!(Balance::new(0, 9).choose(), 0);
}

#[test]
fn the_first_burst_of_a_client_finds_servers_it_never_heard_of() {
    let mut balance = Balance::new(12, 5);
    balance.handle_announce(server(1), &owns(0..6));
    let burst: Vec<_> = (0..120).map(|_| balance.choose()).collect();
    let strange = burst.iter().filter(|partition| **partition >= 6).count();
    assert!((58..=62).contains(&strange), "half goes where nothing was heard: {strange}");
    for partition in burst {
        balance.abandoned(partition, partition >= 6);
    }
    let burst: Vec<_> = (0..120).map(|_| balance.choose()).collect();
    let strange = burst.iter().filter(|partition| **partition >= 6).count();
    assert!(strange <= 2, "where calls expired only probes go: {strange}");
}

#[test]
fn a_server_has_one_lane_that_stays() {
    let mut balance = Balance::new(12, 1);
    balance.handle_announce(server(1), &owns(0..12));
    let first = balance.choose();
    assert!((0..500).all(|_| balance.choose() == first), "one lane, no probes");
    balance.handle_announce(server(1), &busy(0..12, 77));
    assert_eq!(balance.choose(), first, "the load alone moves nothing");
    balance.handle_announce(server(1), &owns((0..12).filter(|partition| *partition != first)));
    assert_ne!(balance.servers[0].lane, first);
    let lanes = (0..64).map(|seed| {
        let mut balance = Balance::new(12, seed);
        balance.handle_announce(server(1), &owns(0..12));
        balance.choose()
    });
    let lanes = lanes.collect::<std::collections::BTreeSet<_>>();
    assert!(lanes.len() >= 10, "clients differ: {lanes:?}");
}

#[test]
fn least_outstanding_then_load_then_turn() {
    let mut balance = Balance::new(9, 1);
    balance.handle_announce(server(1), &busy(0..3, 9));
    balance.handle_announce(server(2), &busy(3..6, 5));
    balance.handle_announce(server(3), &busy(6..9, 7));
    let order = (0..6).map(|_| balance.choose() / 3).collect::<Vec<_>>();
    assert_eq!(order, [1, 2, 0, 1, 2, 0]);
    let lane = balance.servers[2].lane;
    balance.finished(lane, Some(server(3)));
    assert_eq!(balance.choose(), lane);

    let mut balance = Balance::new(9, 1);
    (0..3).for_each(|at| {
        balance.handle_announce(server(at), &owns(u32::from(at) * 3..u32::from(at) * 3 + 3))
    });
    let counts = spread(&mut balance, 300);
    assert!(counts.values().all(|count| *count == 100), "one at a time, equal: {counts:?}");
}

#[test]
fn the_latest_announcement_counts() {
    let mut balance = Balance::new(4, 1);
    balance.handle_announce(server(1), &owns(0..4));
    (0..10).for_each(|_| _ = balance.choose());
    balance.handle_announce(server(2), &owns(2..4));
    assert_eq!(view(&balance, server(1)).unwrap().partitions, 2);
    balance.handle_announce(server(2), &owns([]));
    assert_eq!(view(&balance, server(2)), None);
    assert_eq!(balance.unowned, [2, 3]);
    balance.handle_announce(server(2), &owns([3, 2, 1, 0, 0, 4, u32::MAX]));
    let all = view(&balance, server(2)).unwrap();
    assert_eq!((all.partitions, all.outstanding), (4, 10), "work moves with its partition");
    assert_eq!(view(&balance, server(1)), None, "it owns nothing");
}

#[test]
fn servers_are_bounded_by_partitions() {
    let mut balance = Balance::new(3, 1);
    for number in 0..200 {
        let partition = u32::from(number) % 5;
        balance.handle_announce(server(number), &owns([partition, partition + 1]));
        balance.choose();
        balance.finished(balance.servers[0].lane, Some(server(number / 2)));
        assert!(balance.servers.len() <= 3);
    }
}

#[test]
fn an_answer_shows_the_owner() {
    let mut balance = Balance::new(2, 0);
    let first = balance.choose();
    balance.finished(first, Some(server(7)));
    assert_eq!(view(&balance, server(7)).unwrap().partitions, 1);
    // The other partition is probed, answered, and known.
    let other = (0..PROBE_EVERY).map(|_| balance.choose()).find(|at| *at != first).unwrap();
    balance.finished(other, Some(server(7)));
    assert_eq!(view(&balance, server(7)).unwrap().partitions, 2);

    // Late answers of a former owner do not take a partition back, unless its owner is silent.
    balance.handle_announce(server(8), &owns(0..2));
    (0..5).for_each(|_| _ = balance.choose());
    let lane = balance.servers[0].lane;
    balance.finished(lane, Some(server(7)));
    assert_eq!(view(&balance, server(7)), None);
    balance.abandoned(lane, true);
    balance.finished(lane, Some(server(7)));
    assert_eq!(view(&balance, server(7)).unwrap().partitions, 1);
}

#[test]
fn a_silent_server_is_forgotten_until_it_speaks() {
    let mut balance = Balance::new(4, 1);
    balance.handle_announce(server(1), &owns(0..2));
    balance.handle_announce(server(2), &owns(2..4));
    (0..20).for_each(|_| _ = balance.choose());
    let dead = balance.servers[0].lane;
    balance.abandoned(dead, true);
    balance.abandoned(dead, false);
    balance.abandoned(dead, true);
    balance.finished(dead, Some(server(1)));
    balance.abandoned(dead, true);
    balance.abandoned(dead, true);
    assert!(view(&balance, server(1)).is_some(), "not three in a row");
    balance.abandoned(dead, true);
    assert!(view(&balance, server(1)).is_none());
    assert_eq!(balance.unowned, [0, 1]);
    let counts = spread(&mut balance, 640);
    assert!(counts.iter().all(|(at, count)| *at >= 2 || *count <= 10), "probes only {counts:?}");
    balance.handle_announce(server(1), &owns(0..2));
    assert_eq!(view(&balance, server(1)).unwrap().outstanding, 3);
}

#[test]
fn ends_that_nobody_began_are_ignored() {
    let mut balance = Balance::new(2, 1);
    balance.finished(0, Some(server(1)));
    balance.finished(9, Some(server(1)));
    balance.abandoned(0, true);
    balance.abandoned(u32::MAX, true);
    assert_eq!((balance.outstanding(), balance.servers().count()), (0, 0));
    balance.choose();
    assert_eq!(balance.outstanding(), 1);
}

/// A server of the little simulation: one call at a time, `each` long; dead from `dies` on.
struct Model {
    partitions: Range<u32>,
    each: u64,
    dies: u64,
    backlog: VecDeque<u64>,
    free_at: u64,
    done: u64,
}

impl Model {
    const fn new(partitions: Range<u32>, each: u64, dies: u64) -> Self {
        Self { partitions, each, dies, backlog: VecDeque::new(), free_at: 0, done: 0 }
    }
}

#[derive(Default)]
struct Outcome {
    answered: u64,
    expired: u64,
    /// Calls sent to a dead server in the last quarter.
    late_to_dead: u64,
    most_waiting_at_dead: usize,
}

/// A closed loop of `window` calls until `until` (µs); calls expire `timeout` after their start.
fn simulate(
    balance: &mut Balance,
    models: &mut [Model],
    window: usize,
    until: u64,
    timeout: u64,
) -> Outcome {
    let mut outcome = Outcome::default();
    // (moment, call, server or None for its deadline)
    let mut events = BinaryHeap::new();
    let mut calls = BTreeMap::new();
    let (mut next, mut now) = (0_u64, 0);
    loop {
        while calls.len() < window {
            let partition = balance.choose();
            calls.insert(next, partition);
            events.push(Reverse((now + timeout, next, None)));
            let owner = models.iter_mut().position(|model| model.partitions.contains(&partition));
            if let Some((index, model)) = owner.map(|index| (index, &mut models[index])) {
                if now < model.dies {
                    let end = now.max(model.free_at) + model.each;
                    model.free_at = end;
                    model.backlog.push_back(next);
                    if end < model.dies {
                        events.push(Reverse((end, next, Some(index))));
                    }
                } else if now > until / 4 * 3 {
                    outcome.late_to_dead += 1;
                }
                if model.dies < u64::MAX {
                    let range = model.partitions.clone();
                    let waiting = calls.values().filter(|at| range.contains(at)).count();
                    outcome.most_waiting_at_dead = outcome.most_waiting_at_dead.max(waiting);
                }
            }
            next += 1;
        }
        let Some(Reverse((at, call, by))) = events.pop() else { break };
        now = at;
        if now > until {
            break;
        }
        let Some(partition) = calls.remove(&call) else { continue };
        match by {
            Some(index) => {
                models[index].done += 1;
                outcome.answered += 1;
                balance.finished(partition, Some(server(u8::try_from(index).unwrap())));
            }
            None => {
                outcome.expired += 1;
                balance.abandoned(partition, true);
            }
        }
        assert_eq!(balance.outstanding(), calls.len());
    }
    outcome
}

const SECOND: u64 = 1_000_000;
const NEVER: u64 = u64::MAX;

#[test]
fn a_slow_server_gets_what_it_can_do() {
    let mut balance = Balance::new(12, 3);
    balance.handle_announce(server(0), &owns(0..6));
    balance.handle_announce(server(1), &owns(6..12));
    let mut models = [Model::new(0..6, 100, NEVER), Model::new(6..12, 1000, NEVER)];
    let outcome = simulate(&mut balance, &mut models, 1024, 5 * SECOND, 10 * SECOND);
    let capacity = 5 * (10_000 + 1_000);
    println!("{} of {capacity} calls, slow {}", outcome.answered, models[1].done);
    assert!(outcome.answered * 100 >= capacity * 95);
    assert_eq!(outcome.expired, 0);
}

#[test]
fn a_dead_server_holds_its_share_and_then_nothing() {
    let mut balance = Balance::new(12, 3);
    (0..4).for_each(|at| {
        balance.handle_announce(server(at), &owns(u32::from(at) * 3..u32::from(at) * 3 + 3))
    });
    let mut models = [
        Model::new(0..3, 2000, 5 * SECOND),
        Model::new(3..6, 2000, NEVER),
        Model::new(6..9, 2000, NEVER),
        Model::new(9..12, 2000, NEVER),
    ];
    let outcome = simulate(&mut balance, &mut models, 1024, 60 * SECOND, 2 * SECOND);
    println!(
        "dead: at most {} of 1024 waiting, {} expired, {} sent there in the last quarter",
        outcome.most_waiting_at_dead, outcome.expired, outcome.late_to_dead
    );
    assert!(outcome.most_waiting_at_dead <= 1024 / 4 + 1);
    // Afterwards one probe in each of its three partitions per timeout.
    assert!(outcome.late_to_dead <= 3 * 8, "{}", outcome.late_to_dead);
    assert!(outcome.expired <= 256 + 3 * 30, "{}", outcome.expired);
    assert!(view(&balance, server(0)).is_none());
}

#[test]
fn equal_servers_get_equal_shares() {
    for window in [1, 16, 1024] {
        let mut balance = Balance::new(12, 3);
        (0..4).for_each(|at| {
            balance.handle_announce(server(at), &owns(u32::from(at) * 3..u32::from(at) * 3 + 3))
        });
        let mut models = [0, 3, 6, 9].map(|at| Model::new(at..at + 3, 1000, NEVER));
        let outcome = simulate(&mut balance, &mut models, window, 5 * SECOND, 2 * SECOND);
        let fair = outcome.answered / 4;
        assert!(models.iter().all(|model| model.done.abs_diff(fair) <= fair / 50 + 1));
    }
}

/// Three servers, one of which was never heard of.
#[test]
fn probes_find_a_server_that_did_not_announce() {
    let mut balance = Balance::new(12, 3);
    balance.handle_announce(server(0), &owns(0..4));
    balance.handle_announce(server(1), &owns(4..8));
    let mut models = [0, 4, 8].map(|at| Model::new(at..at + 4, 1000, NEVER));
    let outcome = simulate(&mut balance, &mut models, 64, 5 * SECOND, 2 * SECOND);
    assert_eq!(view(&balance, server(2)).unwrap().partitions, 4);
    assert!(outcome.answered >= 3 * 1_000 * 5 * 95 / 100);
}

/// Run by hand: `cargo test --release … choose_speed -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement, not a check"]
fn choose_speed() {
    for (servers, unowned) in [(1_u8, 0), (16, 0), (16, 8), (128, 0)] {
        let count = u32::from(servers) * 3;
        let mut balance = Balance::new(count + unowned, 3);
        (0..servers).for_each(|at| {
            balance.handle_announce(server(at), &owns(u32::from(at) * 3..u32::from(at) * 3 + 3));
        });
        let mut waiting = VecDeque::new();
        let rounds = 5_000_000;
        let before = std::time::Instant::now();
        for _ in 0..rounds {
            waiting.push_back(balance.choose());
            if waiting.len() > 1024 {
                let partition = waiting.pop_front().unwrap();
                let by = u8::try_from(partition / 3).ok().filter(|by| *by < servers);
                balance.finished(partition, by.map(server));
            }
        }
        println!("{servers} servers: {:?} per choose + finished", before.elapsed() / rounds);
    }
}

#[test]
fn a_call_that_waits_is_sent_once_more_to_another_server() {
    let mut balance = Balance::new(12, 3);
    balance.handle_announce(server(1), &owns(0..4));
    balance.handle_announce(server(2), &owns(4..8));
    balance.handle_announce(server(3), &busy(8..12, 100));
    for first in 0..12 {
        let other = balance.choose_other(first);
        assert_ne!(other / 4, first / 4, "not the server that has it");
        assert!(other / 4 != 2 || first / 4 != 2, "the one with less to do");
        balance.abandoned(other, false);
    }
    assert_eq!(balance.outstanding(), 0);
}

#[test]
fn without_another_server_it_goes_where_one_may_be_and_else_to_the_same() {
    let mut balance = Balance::new(4, 3);
    balance.handle_announce(server(1), &owns(0..2));
    let first = balance.choose();
    let others: Vec<_> = (0..4).map(|_| balance.choose_other(first)).collect();
    assert!(others.iter().all(|partition| *partition >= 2), "{others:?}");
    balance.handle_announce(server(1), &owns(0..4));
    assert!(balance.choose_other(first) < 4);
    assert!(balance.choose_other(99) < 4, "a partition that does not exist");

    let mut strange = Balance::new(4, 3);
    for first in 0..4 {
        assert_ne!(strange.choose_other(first), first);
    }
    assert_eq!(Balance::new(1, 0).choose_other(0), 0);
}
