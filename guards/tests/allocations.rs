//! Allocations per call, client and server together.
#![allow(clippy::unwrap_used, reason = "tests")]

use allocation_counter::measure;
use krpc_guards::Workload;

/// Fails if `callers` at once need more than `most` allocations for each call.
#[track_caller]
fn expect_at_most(most: u32, workload: &Workload, callers: u32, rounds: u32) {
    expect_of(|| workload.calls(callers, rounds).unwrap(), most, callers, rounds);
}

#[track_caller]
fn expect_of(run: impl Fn(), most: u32, callers: u32, rounds: u32) {
    // Tables and buffers grow to what this load needs.
    run();
    // All of it happens on this thread.
    let counted = measure(run).count_total;
    let calls = u64::from(callers) * u64::from(rounds);
    let (whole, hundredths) = (counted / calls, counted % calls * 100 / calls);
    println!("allocations per call, {callers} in flight: {whole}.{hundredths:02}, at most {most}");
    assert!(counted <= u64::from(most) * calls, "{counted} allocations for {calls} calls");
}

#[test]
fn a_call_among_many_allocates_little() {
    expect_at_most(4, &Workload::start().unwrap(), 256, 200);
}

/// It pays for its packets alone, and for the in-process broker's work with them.
#[test]
fn a_call_alone_allocates_little() {
    expect_at_most(8, &Workload::start().unwrap(), 1, 10_000);
}

/// It pays for its task.
#[test]
fn a_call_that_becomes_a_task_allocates_little() {
    expect_at_most(5, &Workload::with_tasks().unwrap(), 256, 200);
}

/// It keeps its request, to send it again.
#[test]
fn a_call_that_may_be_sent_again_allocates_little() {
    let workload = Workload::start().unwrap();
    expect_of(|| workload.idempotent_calls(256, 200).unwrap(), 5, 256, 200);
}
