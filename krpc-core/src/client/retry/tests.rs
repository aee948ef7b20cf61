//! One call, and many at once.

use proptest::prelude::*;

use super::*;

const START: Time = Time::from_micros(1_800_000_000_000_000);
const DEADLINE: Time = Time::from_micros(START.as_micros() + 10_000_000);

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn passing() -> Status {
    Status::new(Code::Unavailable, "test")
}

fn lasting() -> Status {
    Status::new(Code::Internal, "test")
}

/// A plan whose first attempt was sent.
fn sent(policy: RetryPolicy, hedge: Option<Duration>, budget: &mut Budget) -> Plan {
    let mut plan = Plan::new(policy, hedge, DEADLINE);
    assert_eq!(plan.poll_due(START, budget), Some(Due::Attempt));
    plan.handle_sent(Due::Attempt, START);
    plan
}

/// The most that chance can give.
const LONG: fn() -> u64 = || u64::MAX;

#[test]
fn a_failure_that_may_pass_is_repeated_as_often_as_the_policy_says() {
    let mut budget = Budget::new(0.1);
    let mut plan = sent(RetryPolicy::new(), None, &mut budget);
    assert_eq!(plan.next_timeout(), None);
    assert!(!plan.handle_failed(&passing(), LONG, START, &mut budget));
    let second = START + millis(50);
    assert_eq!(plan.next_timeout(), Some(second));
    assert_eq!(plan.poll_due(second - millis(1), &mut budget), None);
    assert_eq!(plan.poll_due(second, &mut budget), Some(Due::Attempt));
    plan.handle_sent(Due::Attempt, second);
    assert!(!plan.handle_failed(&passing(), LONG, second, &mut budget));
    let third = second + millis(100);
    assert_eq!(plan.poll_due(third, &mut budget), Some(Due::Attempt));
    plan.handle_sent(Due::Attempt, third);
    assert!(plan.handle_failed(&passing(), LONG, third, &mut budget));
    assert_eq!(budget.counts(), RetryCounts { retries: 2, ..RetryCounts::default() });
}

#[test]
fn what_does_not_pass_is_not_repeated() {
    let never = [
        lasting(),
        Status::new(Code::DeadlineExceeded, "test").with_retryable(true),
        Status::new(Code::Cancelled, "test").with_retryable(true),
        passing().with_retryable(false),
    ];
    for status in never {
        let mut budget = Budget::new(0.1);
        let mut plan = sent(RetryPolicy::new(), None, &mut budget);
        assert!(plan.handle_failed(&status, LONG, START, &mut budget), "{status}");
        assert_eq!(budget.counts(), RetryCounts::default());
    }
    let mut budget = Budget::new(0.1);
    let mut plan = sent(RetryPolicy::new(), None, &mut budget);
    assert!(!plan.handle_failed(&lasting().with_retryable(true), LONG, START, &mut budget));
    let mut plan = sent(RetryPolicy::none(), None, &mut budget);
    assert!(plan.handle_failed(&passing(), LONG, START, &mut budget));
}

#[test]
fn a_retry_that_the_deadline_would_meet_is_not_waited_for() {
    let mut budget = Budget::new(0.1);
    let mut plan = sent(RetryPolicy::new(), None, &mut budget);
    let late = DEADLINE - millis(50);
    assert!(plan.handle_failed(&passing(), LONG, late, &mut budget));
    assert_eq!(budget.counts(), RetryCounts::default(), "and it costs nothing");
    let mut plan = sent(RetryPolicy::new(), None, &mut budget);
    assert!(!plan.handle_failed(&passing(), || 0, late, &mut budget));
}

#[test]
fn a_hedge_follows_an_attempt_that_is_not_answered_and_only_once() {
    let mut budget = Budget::new(0.1);
    let mut plan = sent(RetryPolicy::new(), Some(millis(20)), &mut budget);
    let hedged = START + millis(20);
    assert_eq!((plan.next_timeout(), plan.poll_due(START, &mut budget)), (Some(hedged), None));
    assert_eq!(plan.poll_due(hedged, &mut budget), Some(Due::Hedge));
    plan.handle_sent(Due::Hedge, hedged);
    assert_eq!(plan.next_timeout(), None);
    // The first of two that fails waits for the other; both together are one attempt.
    assert!(!plan.handle_failed(&passing(), LONG, hedged, &mut budget));
    assert_eq!(plan.next_timeout(), None);
    assert!(!plan.handle_failed(&passing(), LONG, hedged, &mut budget));
    let second = hedged + millis(50);
    assert_eq!(plan.poll_due(second, &mut budget), Some(Due::Attempt));
    plan.handle_sent(Due::Attempt, second);
    assert_eq!(plan.next_timeout(), None, "it was hedged before");
    let counts = RetryCounts { retries: 1, hedges: 1, refused: 0 };
    assert_eq!(budget.counts(), counts);
}

#[test]
fn an_attempt_that_fails_before_its_hedge_leaves_it_to_the_next() {
    let mut budget = Budget::new(0.1);
    let mut plan = sent(RetryPolicy::new(), Some(millis(200)), &mut budget);
    assert!(!plan.handle_failed(&passing(), LONG, START, &mut budget));
    let second = START + millis(50);
    assert_eq!(plan.poll_due(second, &mut budget), Some(Due::Attempt));
    plan.handle_sent(Due::Attempt, second);
    assert_eq!(plan.next_timeout(), Some(second + millis(200)));
}

#[test]
fn a_final_failure_of_either_is_the_end() {
    let mut budget = Budget::new(0.1);
    let mut plan = sent(RetryPolicy::new(), Some(Duration::ZERO), &mut budget);
    assert_eq!(plan.poll_due(START, &mut budget), Some(Due::Hedge));
    plan.handle_sent(Due::Hedge, START);
    assert!(plan.handle_failed(&lasting(), LONG, START, &mut budget));
}

#[test]
fn a_hedge_after_the_deadline_is_none() {
    let mut budget = Budget::new(0.1);
    let plan = sent(RetryPolicy::new(), Some(millis(10_000)), &mut budget);
    assert_eq!(plan.next_timeout(), None);
    let plan = sent(RetryPolicy::new(), Some(Duration::MAX), &mut budget);
    assert_eq!(plan.next_timeout(), None);
}

/// A thousand calls that all fail, whatever each of them would be allowed alone.
#[test]
fn a_budget_bounds_the_storm() {
    let mut budget = Budget::new(0.1);
    let policy = RetryPolicy::new().attempts(MAX_ATTEMPTS);
    for _ in 0..1000 {
        let mut plan = Plan::new(policy, Some(Duration::ZERO), DEADLINE);
        let mut over = false;
        while !over {
            match plan.poll_due(START, &mut budget) {
                Some(due) => plan.handle_sent(due, START),
                None => over = plan.handle_failed(&passing(), || 0, START, &mut budget),
            }
        }
    }
    let RetryCounts { retries, hedges, refused } = budget.counts();
    // The first ten calls find it full, so what they pay is not kept.
    assert!((100..=110).contains(&(retries + hedges)), "{:?}", budget.counts());
    assert!(refused >= 890);
}

#[test]
fn a_budget_of_nothing_allows_nothing_and_recovers_by_calls() {
    let mut none = Budget::new(0.0);
    let mut plan = sent(RetryPolicy::new(), Some(Duration::ZERO), &mut none);
    assert_eq!(plan.poll_due(START, &mut none), None);
    assert!(plan.handle_failed(&passing(), LONG, START, &mut none));
    assert_eq!(none.counts(), RetryCounts { refused: 2, ..RetryCounts::default() });

    let mut budget = Budget::new(0.1);
    (0..BURST).for_each(|_| assert!(budget.take(Due::Attempt)));
    (0..9).for_each(|_| budget.earn());
    assert!(!budget.take(Due::Attempt));
    budget.earn();
    assert!(budget.take(Due::Attempt) && !budget.take(Due::Hedge));
}

#[test]
fn policies_that_cannot_be_are_told() {
    let policy = RetryPolicy::new();
    let good = [policy, RetryPolicy::none(), policy.attempts(MAX_ATTEMPTS)];
    assert!(good.iter().all(|policy| policy.mistake().is_none()));
    let bad = [
        policy.attempts(0),
        policy.attempts(MAX_ATTEMPTS + 1),
        policy.backoff(Duration::ZERO..millis(1)),
        policy.backoff(millis(2)..millis(1)),
    ];
    assert!(bad.iter().all(|policy| policy.mistake().is_some()));
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (0_u64..10_000_000).prop_map(Duration::from_micros),
        any::<u64>().prop_map(Duration::from_micros),
        Just(Duration::MAX),
    ]
}

proptest! {
    /// From nothing to what doubles with each failure, and never more than the longest.
    #[test]
    fn a_back_off_stays_in_its_bounds(
        first in durations(),
        longest in durations(),
        failed in 1_u32..200,
        entropy: u64,
    ) {
        let policy = RetryPolicy::new().backoff(first..longest);
        let delay = policy.delay(failed, entropy);
        prop_assert!(delay <= longest);
        prop_assert!(delay <= first.saturating_mul(1 << (failed - 1).min(31)));
        prop_assert_eq!(policy.delay(failed, 0), Duration::ZERO);
        prop_assert!(policy.delay(failed, u64::MAX) <= policy.delay(failed + 1, u64::MAX));
    }

    /// Whatever comes and in whatever order: the policy, the deadline and the budget hold, and
    /// who waits has something to wait for.
    #[test]
    fn a_call_keeps_to_its_policy_its_deadline_and_the_budget(
        attempts in 1_u32..8,
        hedge in prop::option::of(0_u64..2_000),
        share in 0_u32..50,
        steps in prop::collection::vec((0_u64..500, 0_u8..4, any::<u64>()), 1..60),
    ) {
        let mut budget = Budget::new(f64::from(share) / 10.0);
        let policy = RetryPolicy::new().attempts(attempts);
        let mut plan = Plan::new(policy, hedge.map(millis), DEADLINE);
        let (mut now, mut sent, mut hedges, mut flying) = (START, 0, 0, 0);
        for (wait, what, entropy) in steps {
            now = now + millis(wait);
            if what == 0 && flying > 0 {
                flying -= 1;
                if plan.handle_failed(&passing(), || entropy, now, &mut budget) {
                    break;
                }
            }
            let early = plan.next_timeout().is_some_and(|at| at > now);
            if let Some(due) = plan.poll_due(now, &mut budget) {
                prop_assert!(!early);
                plan.handle_sent(due, now);
                flying += 1;
                match due {
                    Due::Attempt => sent += 1,
                    Due::Hedge => hedges += 1,
                }
            }
            prop_assert!(flying > 0 || plan.next_timeout().is_some(), "it would hang");
            prop_assert!(flying <= 2);
            prop_assert!(plan.next_timeout().is_none_or(|at| at < DEADLINE));
        }
        let counts = budget.counts();
        prop_assert!(sent <= attempts && hedges <= 1);
        prop_assert!(counts.retries + counts.hedges <= BURST);
        prop_assert!(u64::from(sent) <= counts.retries + 1);
    }

    /// Any mix of calls that work and calls that fail.
    #[test]
    fn all_calls_together_keep_to_the_budget(
        share in 0_u32..30,
        works in prop::collection::vec(any::<bool>(), 1..400),
    ) {
        let mut budget = Budget::new(f64::from(share) / 10.0);
        let policy = RetryPolicy::new().attempts(10);
        for works in &works {
            let mut plan = sent(policy, None, &mut budget);
            while !works && !plan.handle_failed(&passing(), || 0, START, &mut budget) {
                assert_eq!(plan.poll_due(START, &mut budget), Some(Due::Attempt));
                plan.handle_sent(Due::Attempt, START);
            }
        }
        let calls = u64::try_from(works.len()).unwrap_or(u64::MAX);
        prop_assert!(budget.counts().retries <= BURST + calls * u64::from(share) / 10);
    }
}
