//! The scenarios over a real Apache Kafka with sealed packets: each scenario with one seal, so that
//! all seals have their turn. `KRPC_TEST_SEAL` names one for all of them.
#![cfg(all(feature = "kafka", feature = "seal"))]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod scenarios;
mod support;

#[path = "scenarios/blocking.rs"]
mod blocking;

use std::process::Command;

use support::seals;

const BACKEND: support::Backend = support::Backend::SealedKafka;

#[test]
fn every_seal_has_its_turn() {
    let mut me = Command::new(std::env::current_exe().unwrap());
    let list = me.args(["--list", "--format", "terse"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    let mut turns = seals::NAMES.map(|name| (name, 0));
    for scenario in list.lines().filter_map(|line| line.strip_suffix(": test")) {
        let seal = seals::of_scenario(scenario);
        turns.iter_mut().find(|(name, _)| *name == seal).unwrap().1 += 1;
    }
    println!("figure: scenarios of each seal: {turns:?}");
    assert!(turns.iter().all(|(_, scenarios)| *scenarios >= 10), "{turns:?}");
}
