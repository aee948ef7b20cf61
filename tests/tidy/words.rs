//! Words that must not stand in code, or only where there is a reason.

use crate::{
    Violation, expect_lines, expect_none,
    scan::{find_words, line_of},
    source::{Source, sources},
};

/// The one file that may say `unsafe`.
const UNSAFE: &str = "krpc-transport-kafka/src/queue.rs";

/// Code that says that something is missing, or prints what only its author wants to see.
const UNFINISHED: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];

/// The same in comments. In two parts, so that this file does not hold them.
const MARKS: [(&str, &str); 3] = [("FIX", "ME"), ("XX", "X"), ("TO", "DO")];

/// How many words a reason has at least.
const REASON: usize = 3;

/// Tests that let time pass, by file and function, each with its reason. A test waits for a
/// condition; time alone makes it slow on good days and wrong on bad ones.
const SLEEPS: &[(&str, &str, &str)] = &[
    ("benches/src/open.rs", "echo", "a server that answers late"),
    ("krpc-core/src/hello/tests.rs", "answer", "a broker that is far away, in virtual time"),
    ("krpc-core/src/seal/tests/live.rs", "pass", "virtual time, for conditions and key stores"),
    ("krpc-core/src/server/idempotency/tests.rs", "execution", "a handler, in virtual time"),
    ("krpc-core/src/server/idempotency/tests.rs", LOST_ANSWER, "a broken store, in virtual time"),
    ("krpc-core/src/server/idempotency/tests.rs", LOST_CLAIM, "a lease, in virtual time"),
    ("krpc-core/src/server/idempotency/tests.rs", NO_ANSWER, "a broken store, in virtual time"),
    ("krpc-core/src/server/idempotency/tests.rs", RENEWALS, "a broken store, in virtual time"),
    ("krpc-core/tests/opening.rs", "open", "a broker that is far away, in virtual time"),
    ("krpc-testkit/src/guard.rs", "nothing_is_left", "asks for a condition again and again"),
    ("krpc-testkit/src/guard.rs", "host", "a process that is to be killed"),
    ("krpc-transport-kafka/tests/kafka/exact.rs", EXACT, "the pace of a stream of calls"),
    ("krpc-transport-kafka/tests/kafka/exact.rs", OVERDUE, "the pace of a stream of calls"),
    ("krpc-transport-kafka/tests/kafka/faults.rs", "take_over", "sends until it is taken"),
    ("krpc-transport-kafka/tests/kafka/faults.rs", KEEP_TRYING, "a broker that is not there yet"),
    ("krpc-transport-kafka/tests/kafka/faults.rs", MADE_ANEW, "sends until something arrives"),
    ("krpc-transport-kafka/tests/kafka/faults.rs", THREE, "the pace of a stream of calls"),
    ("krpc-transport-kafka/tests/kafka/groups.rs", "hesitate", "the moments of a join"),
    ("krpc-transport-kafka/tests/kafka/groups.rs", "stream", "the pace of a stream of calls"),
    ("krpc-transport-kafka/tests/kafka/pressure.rs", FULL, "shows that nothing happens"),
    ("krpc-transport-kafka/tests/kafka/support.rs", "full", "a driver that is full for a while"),
    ("tests/guarantees/at_most_once.rs", "pay", "a handler that takes time"),
    ("tests/guarantees/crash.rs", SUCCESSOR, "commits happen unseen, in the server's process"),
    ("tests/guarantees/delivery.rs", "book", "a handler that takes time"),
    ("tests/guarantees/poison.rs", "eat", "a handler that takes time"),
    ("tests/guarantees/redis.rs", "place", "a handler that takes time"),
    ("tests/guarantees/work.rs", "eventually", "asks for a condition again and again"),
    ("tests/guarantees/work.rs", "run", "a handler that takes time"),
    ("tests/scenarios/deadlines.rs", "hold", "a handler that blocks its thread"),
    ("tests/scenarios/deadlines.rs", OWN_TIMEOUT, "shows that nothing happens"),
    ("tests/scenarios/deadlines.rs", PLACE, "lateness beyond what clocks leave in doubt"),
    ("tests/scenarios/keys.rs", BEHIND, "lateness beyond what clocks leave in doubt"),
    ("tests/scenarios/keys.rs", "book", "a handler that takes time"),
    ("tests/stores.rs", "a_claim_runs_out_unless_it_is_renewed", "shows that nothing happens"),
    ("tests/stores.rs", STILL_OWN, "a claim that runs out unseen"),
    ("tests/stores.rs", "claimed_when_free", "asks for a condition again and again"),
    ("tests/support/mod.rs", "eventually_is", "asks for a condition again and again"),
    ("tests/support/mod.rs", "eventually_ok", "asks for a condition again and again"),
    ("tests/support/services.rs", "slow", "a handler that takes time"),
];

const BEHIND: &str = "a_deadline_that_passes_behind_a_key_is_kept";
const EXACT: &str = "a_broker_that_fails_stores_nothing_twice_and_nothing_out_of_order";
const FULL: &str = "a_full_server_reads_nothing_more_and_stays_in_its_group";
const KEEP_TRYING: &str = "opening_can_keep_trying_and_can_be_given_up";
const LOST_ANSWER: &str = "an_answer_of_the_store_that_got_lost_changes_nothing";
const LOST_CLAIM: &str = "who_lost_its_claim_answers_with_the_others_result";
const RENEWALS: &str = "two_renewals_in_a_row_may_hang";
const MADE_ANEW: &str = "replies_go_on_after_their_topic_was_made_anew";
const NO_ANSWER: &str = "a_result_is_no_answer_before_it_is_stored_unless_so_wished";
const OVERDUE: &str = "a_record_that_is_overdue_takes_the_others_with_it";
const OWN_TIMEOUT: &str = "the_methods_own_timeout_holds_and_the_calls_wins";
const PLACE: &str = "calls_that_wait_for_a_place_too_long_are_answered_and_not_executed";
const STILL_OWN: &str = "a_claim_that_ran_out_is_still_ones_own_while_nobody_came";
const THREE: &str = "of_three_brokers_one_may_be_killed";
const SUCCESSOR: &str = "a_successor_repeats_the_unfinished_call_and_not_the_finished_ones";

/// Violations at these lines.
fn at(source: &Source, lines: impl IntoIterator<Item = usize>, message: &str) -> Vec<Violation> {
    lines.into_iter().map(|line| Violation::new(&source.path, line, message)).collect()
}

fn unwraps(source: &Source) -> Vec<Violation> {
    let lines = source.lines_with(".unwrap()").into_iter().filter(|line| !source.is_test(*line));
    at(source, lines, "`unwrap` outside tests: return an error, or `expect` with the proof")
}

fn expects_without_proof(source: &Source) -> Vec<Violation> {
    let found = find_words(&source.code, ".expect(").into_iter();
    let lines = found.filter(|at| {
        let argument = source.text[at + ".expect(".len()..].trim_start();
        !is_reason(source, argument)
    });
    let lines: Vec<_> = lines.map(|at| line_of(&source.code, at)).collect();
    let lines = lines.into_iter().filter(|line| !source.is_test(*line));
    at(source, lines, "the message of `expect` is its proof: why it cannot fail, in words")
}

/// Whether text begins with a literal of enough words, or with the name of one.
fn is_reason(source: &Source, text: &str) -> bool {
    let literal = |text: &str| {
        let inside = text.strip_prefix('"').and_then(|rest| rest.split('"').next());
        inside.is_some_and(|words| words.split_whitespace().count() >= REASON)
    };
    let name: String = text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let named = |name: &str| {
        let begin = format!("{name} = ");
        source.text.split(&begin).skip(1).any(literal)
    };
    literal(text) || (!name.is_empty() && named(&name))
}

fn unfinished(source: &Source) -> Vec<Violation> {
    let mut lines: Vec<_> = UNFINISHED.iter().flat_map(|word| source.lines_with(word)).collect();
    for (first, second) in MARKS {
        let found = find_words(&source.text, &format!("{first}{second}"));
        lines.extend(found.into_iter().map(|at| line_of(&source.text, at)));
    }
    lines.sort_unstable();
    at(source, lines, "unfinished: finish it, or write an issue and take the mark away")
}

fn unsafe_code(source: &Source) -> Vec<Violation> {
    if source.path == UNSAFE {
        return Vec::new();
    }
    let mut lines = source.lines_with("unsafe");
    for level in ["allow", "expect"] {
        lines.extend(source.lines_with(&format!("{level}(unsafe_code")));
    }
    at(source, lines, &format!("`unsafe` is for {UNSAFE} alone: put the call there"))
}

fn ignored_without_reason(source: &Source) -> Vec<Violation> {
    let found = find_words(&source.code, "#[ignore").into_iter().filter(|at| {
        let rest = &source.text[at + "#[ignore".len()..];
        !rest.strip_prefix(" = ").is_some_and(|reason| is_reason(source, reason))
    });
    let lines = found.map(|at| line_of(&source.code, at));
    at(source, lines, "a test that is left out says why: `#[ignore = \"…\"]`")
}

/// Where tests let time pass: line and function.
fn sleeps(source: &Source) -> Vec<(usize, &str)> {
    let words = ["sleep(", "sleep_until(", "sleep_ms("];
    let mut lines: Vec<_> = words.iter().flat_map(|word| source.lines_with(word)).collect();
    lines.retain(|line| source.is_test(*line));
    lines.sort_unstable();
    let name = |line| source.function_at(line).map_or("", |function| function.name.as_str());
    lines.into_iter().map(|line| (line, name(line))).collect()
}

fn is_allowed_to_sleep(path: &str, function: &str) -> bool {
    SLEEPS.iter().any(|(file, name, _)| (*file, *name) == (path, function))
}

fn sleeps_without_reason(source: &Source) -> Vec<Violation> {
    let lines = sleeps(source).into_iter();
    let lines = lines.filter(|(_, function)| !is_allowed_to_sleep(&source.path, function));
    let message = "a test waits for a condition, not for a time; if that cannot be, add file, \
                   function and reason to `SLEEPS` in tests/tidy/words.rs";
    at(source, lines.map(|(line, _)| line), message)
}

#[test]
fn no_unwrap_outside_tests() {
    expect_none(sources().iter().flat_map(unwraps));
}

#[test]
fn each_expect_has_its_proof() {
    expect_none(sources().iter().flat_map(expects_without_proof));
}

#[test]
fn nothing_is_left_unfinished() {
    expect_none(sources().iter().flat_map(unfinished));
}

#[test]
fn unsafe_code_is_in_one_file() {
    let home = sources().iter().find(|source| source.path == UNSAFE);
    assert!(home.is_some_and(|source| !source.lines_with("unsafe").is_empty()), "{UNSAFE}");
    expect_none(sources().iter().flat_map(unsafe_code));
}

#[test]
fn each_test_that_is_left_out_says_why() {
    expect_none(sources().iter().flat_map(ignored_without_reason));
}

#[test]
fn tests_wait_for_conditions() {
    expect_none(sources().iter().flat_map(sleeps_without_reason));
    // What was mended leaves the list.
    let there = |path: &str, name: &str| {
        let file = sources().iter().find(|source| source.path == path);
        file.is_some_and(|source| sleeps(source).iter().any(|(_, function)| *function == name))
    };
    let stale = SLEEPS.iter().filter(|(path, name, _)| !there(path, name));
    expect_none(stale.map(|(path, name, _)| {
        let message = format!("`{name}` does not sleep: take it out of `SLEEPS` in words.rs");
        Violation::new(path, 0, message)
    }));
}

#[test]
fn unwraps_are_seen() {
    let text = "fn a() {\n    b().unwrap();\n    // c.unwrap()\n    d(\".unwrap()\");\n}\n\
                #[cfg(test)]\nmod tests {\n    fn e() { f.unwrap(); }\n}\n";
    expect_lines(&unwraps(&Source::new("src/a.rs", text)), &[2]);
    assert!(unwraps(&Source::new("tests/a.rs", text)).is_empty());
}

#[test]
fn expects_without_proof_are_seen() {
    let text = "fn a() {\n    b.expect(\"it was checked above\");\n    b.expect(\"a b\");\n    \
                b.expect(why);\n    b.expect(\n        \"broken into two lines\",\n    );\n    \
                let told = \"as it says there\";\n    b.expect(told);\n    b.expect(&c());\n}\n";
    expect_lines(&expects_without_proof(&Source::new("src/a.rs", text)), &[3, 4, 10]);
    assert!(expects_without_proof(&Source::new("tests/a.rs", text)).is_empty());
}

#[test]
fn unfinished_work_is_seen() {
    let mark = |index: usize| format!("{}{}", MARKS[index].0, MARKS[index].1);
    let text = format!(
        "fn a() {{\n    todo!()\n}}\nfn b() {{ unimplemented!(\"x\") }}\n// {}: c\n/* {} */\n\
         dbg!(d);\n// {}\n/// `todo!`\nfn e() {{ f(\"dbg!\"); }}\n",
        mark(0),
        mark(1),
        mark(2),
    );
    expect_lines(&unfinished(&Source::new("a.rs", text)), &[2, 4, 5, 6, 7, 8]);
}

#[test]
fn unsafe_code_elsewhere_is_seen() {
    let text = "//! unsafe\n#![deny(unsafe_code)]\nfn a() {\n    unsafe { b() }\n}\n\
                #[allow(unsafe_code)]\nunsafe fn c() {}\n";
    expect_lines(&unsafe_code(&Source::new("src/a.rs", text)), &[4, 7, 6]);
    assert!(unsafe_code(&Source::new(UNSAFE, text)).is_empty());
}

#[test]
fn tests_left_out_without_a_reason_are_seen() {
    let text = "#[ignore]\nfn a() {}\n#[ignore = \"slow\"]\nfn b() {}\n\
                #[ignore = \"a measurement, not a check\"]\nfn c() {}\n";
    expect_lines(&ignored_without_reason(&Source::new("tests/a.rs", text)), &[1, 3]);
}

#[test]
fn sleeping_tests_are_seen() {
    let text = "fn a() {\n    thread::sleep(b);\n}\nasync fn eventually() {\n    \
                tokio::time::sleep(c).await;\n}\nfn d() { e(\"sleep(1)\"); }\n";
    let source = Source::new("tests/guarantees/work.rs", text);
    expect_lines(&sleeps_without_reason(&source), &[2]);
    expect_lines(&sleeps_without_reason(&Source::new("tests/a.rs", text)), &[2, 5]);
    assert!(sleeps_without_reason(&Source::new("src/a.rs", text)).is_empty());
}
