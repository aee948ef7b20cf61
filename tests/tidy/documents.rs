//! What the documents say is what the code says.

use krpc::{KNOBS, Knob};

use crate::{
    Violation, expect_lines, expect_none,
    source::{Source, files, read, sources},
};

/// Places of one machine, and hosts that one machine fetches from: in two parts, so that this file
/// does not hold them.
const MACHINES: [(&str, &str); 12] = [
    ("/ro", "ot/"),
    ("/ho", "me/"),
    ("/wo", "rk/"),
    ("/Us", "ers/"),
    ("crates", ".io"),
    ("repo1.", "maven.org"),
    ("repo.", "maven.apache.org"),
    ("deb.", "debian.org"),
    ("npm", "js.org"),
    ("py", "pi.org"),
    ("arti", "factory"),
    ("docker", ".io"),
];

fn machines(path: &str, text: &str) -> Vec<Violation> {
    let lines = (1..).zip(text.lines());
    let found = lines.flat_map(|(line, text)| {
        let words = MACHINES.iter().map(|(first, second)| format!("{first}{second}"));
        let words = words.filter(|word| text.contains(word.as_str()));
        words.map(move |word| (line, word)).collect::<Vec<_>>()
    });
    found
        .map(|(line, word)| {
            let message = format!("{word:?} is of one machine or registry: say it without");
            Violation::new(path, line, message)
        })
        .collect()
}

/// Rows of GUARANTEES.md without a test, and tests named there that do not exist.
fn promises_without_test(page: &str, written: &[Source]) -> Vec<Violation> {
    let mut found = Vec::new();
    for (line, row) in rows(page) {
        let named = row.split('`').skip(1).step_by(2).filter_map(|code| code.split_once(".rs: "));
        let named: Vec<_> = named.collect();
        if named.is_empty() {
            let message = "a promise names the test that shows it: `file.rs: test`";
            found.push(Violation::new("docs/GUARANTEES.md", line, message));
        }
        for (file, test) in named {
            let path = format!("{file}.rs");
            let source = written.iter().find(|source| source.path == path);
            if !source.is_some_and(|source| source.has_test(test)) {
                let message = format!("there is no test `{test}` in {path}: name one that is");
                found.push(Violation::new("docs/GUARANTEES.md", line, message));
            }
        }
    }
    found
}

/// The rows of all tables, without heads and rules.
fn rows(page: &str) -> Vec<(usize, &str)> {
    let lines: Vec<_> = (1..).zip(page.lines()).collect();
    let is_rule = |index: usize| lines.get(index).is_some_and(|(_, it)| it.starts_with("|---"));
    let is_row = |index: &usize| {
        lines[*index].1.starts_with('|') && !is_rule(*index) && !is_rule(*index + 1)
    };
    (0..lines.len()).filter(is_row).map(|index| lines[index]).collect()
}

fn row_of(knob: &Knob) -> String {
    let Knob { name, default, meaning, too_low, too_high, .. } = knob;
    format!("| `{name}` | `{default}` | {meaning} | {too_low} | {too_high} |")
}

/// Rows of the settings' table that are not what the code says.
fn settings_that_differ(page: &str, knobs: &[Knob]) -> Vec<Violation> {
    let rows = rows(page).into_iter().filter(|(_, row)| row.starts_with("| `KRPC_"));
    let rows: Vec<_> = rows.collect();
    let mut found = Vec::new();
    for knob in knobs {
        let (expected, begin) = (row_of(knob), format!("| `{}` |", knob.name));
        match rows.iter().find(|(_, row)| row.starts_with(&begin)) {
            Some((_, row)) if *row == expected => {}
            other => {
                let line = other.map_or(0, |(line, _)| *line);
                let message = format!("the row of this setting is\n    {expected}");
                found.push(Violation::new("README.md", line, message));
            }
        }
    }
    let unknown = rows.iter().filter(|(_, row)| {
        !knobs.iter().any(|knob| row.starts_with(&format!("| `{}` |", knob.name)))
    });
    let message = "there is no such setting in src/config/knobs.rs: take the row out";
    found.extend(unknown.map(|(line, _)| Violation::new("README.md", *line, message)));
    found
}

/// The causes of `causes! { … }`: line, name and documentation.
fn causes(text: &str) -> Vec<(usize, &str, String)> {
    let lines = (1..).zip(text.lines()).skip_while(|(_, line)| *line != "causes! {").skip(1);
    let (mut causes, mut told) = (Vec::new(), String::new());
    for (number, line) in lines.take_while(|(_, line)| *line != "}") {
        let line = line.trim();
        if let Some(words) = line.strip_prefix("///") {
            told += words;
        } else if let Some((name, _)) = line.split_once(" = ") {
            causes.push((number, name, std::mem::take(&mut told)));
        }
    }
    causes
}

/// Causes of drops that name no test, or none that exists.
fn causes_without_test(text: &str, is_test: impl Fn(&str) -> bool) -> Vec<Violation> {
    let path = "krpc-core/src/inbox.rs";
    let found = causes(text).into_iter().filter_map(|(line, name, told)| {
        let (_, tests) = told.split_once("Test").unwrap_or_default();
        let mut tests = tests.split('`').skip(1).step_by(2).peekable();
        if tests.peek().is_none() {
            let message = format!("`{name}` names no test that provokes it: \"Test: `name`.\"");
            return Some(Violation::new(path, line, message));
        }
        let missing = tests.find(|test| !is_test(test))?;
        let message = format!("`{name}` names the test `{missing}`, which does not exist");
        Some(Violation::new(path, line, message))
    });
    found.collect()
}

/// The limits of the code: `pub const NAME: usize = 8 * 1024;`.
fn limits(code: &str) -> Vec<(&str, usize)> {
    let constants = code.lines().filter_map(|line| line.strip_prefix("pub const "));
    let limits = constants.filter_map(|line| {
        let (name, value) = line.strip_suffix(';')?.split_once(": usize = ")?;
        let factors = value.split(" * ").map(|factor| factor.replace('_', "").parse::<usize>());
        Some((name, factors.product::<Result<usize, _>>().ok()?))
    });
    limits.collect()
}

/// Limits of WIRE.md that are not those of the code.
fn limits_that_differ(page: &str, code: &str) -> Vec<Violation> {
    let rows = rows(page);
    let mut found = Vec::new();
    for (name, value) in limits(code).into_iter().filter(|(name, _)| name.starts_with("MAX_")) {
        let row = rows.iter().find(|(_, row)| row.starts_with(&format!("| `{name}` |")));
        let (line, told) = row.map_or((0, None), |(line, row)| {
            (*line, row.split('|').nth(2).map(|cell| cell.trim().replace(',', "")))
        });
        if told.as_deref() != Some(&value.to_string()) {
            let message = format!("`{name}` is {value} in krpc-core/src/wire/mod.rs: say so here");
            found.push(Violation::new("docs/WIRE.md", line, message));
        }
    }
    found
}

/// The first program of a page.
fn program(page: &str) -> String {
    let lines = page.lines().skip_while(|line| !line.starts_with("```rust")).skip(1);
    lines.take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect()
}

#[test]
fn nothing_is_of_one_machine() {
    let mut texts = files(&["rs", "md", "toml", "sh", "stderr", "yml"]);
    texts.push((".ci/run".to_owned(), read(".ci/run")));
    expect_none(texts.iter().flat_map(|(path, text)| machines(path, text)));
}

#[test]
fn each_promise_names_its_test() {
    let page = read("docs/GUARANTEES.md");
    assert!(rows(&page).len() > 20, "docs/GUARANTEES.md has rows");
    expect_none(promises_without_test(&page, sources()));
}

#[test]
fn the_readme_has_every_setting_as_it_is() {
    expect_none(settings_that_differ(&read("README.md"), KNOBS));
}

#[test]
fn each_cause_of_a_drop_names_its_test() {
    let text = read("krpc-core/src/inbox.rs");
    assert!(causes(&text).len() > 5, "krpc-core/src/inbox.rs has causes");
    let is_test = |name: &str| sources().iter().any(|source| source.has_test(name));
    expect_none(causes_without_test(&text, is_test));
}

#[test]
fn the_limits_on_the_page_are_those_of_the_code() {
    let code = read("krpc-core/src/wire/mod.rs");
    assert!(limits(&code).len() > 5, "krpc-core/src/wire/mod.rs has limits");
    expect_none(limits_that_differ(&read("docs/WIRE.md"), &code));
}

#[test]
fn hello_is_the_example_and_short() {
    let example = read("examples/hello.rs");
    let example: String = example
        .lines()
        .filter(|line| !line.starts_with("//!"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(program(&read("README.md")), example, "README.md shows examples/hello.rs as it is");
    let lines = example.lines().filter(|line| !line.is_empty()).count();
    assert!(lines <= 20, "examples/hello.rs has {lines} lines, at most 20");
}

#[test]
fn places_of_one_machine_are_seen() {
    for (first, second) in MACHINES {
        let text = format!("all is well\nsee {first}{second}x\n");
        expect_lines(&machines("a.md", &text), &[2]);
    }
}

#[test]
fn promises_without_tests_are_seen() {
    let page = "| fault | promise | tests |\n|---|---|---|\n| a | b | `t/a.rs: one` |\n\
                | a | b | nothing |\n| a | b | `t/a.rs: one`, `t/a.rs: two` |\n\
                | a | b | `t/b.rs: one` |\n";
    let test = Source::new("t/a.rs", "#[test]\nfn one() {}\nfn two() {}\n");
    expect_lines(&promises_without_test(page, &[test]), &[4, 5, 6]);
}

#[test]
fn settings_that_differ_are_seen() {
    let [first, second] = [&KNOBS[0], &KNOBS[1]].map(row_of);
    let page = |rows: &[&str]| format!("| variable |\n|---|\n{}\n", rows.join("\n"));
    let knobs = &KNOBS[..2];
    assert!(settings_that_differ(&page(&[&first, &second]), knobs).is_empty());
    expect_lines(&settings_that_differ(&page(&[&first]), knobs), &[0]);
    let other = first.replacen(KNOBS[0].default, "another", 1);
    expect_lines(&settings_that_differ(&page(&[&other, &second]), knobs), &[3]);
    let extra = "| `KRPC_NO_SUCH` | `1` | a | b | c |";
    expect_lines(&settings_that_differ(&page(&[&first, &second, extra]), knobs), &[5]);
}

#[test]
fn causes_without_tests_are_seen() {
    let text = "causes! {\n/// A. Test: `one`.\nA = \"a\";\n/// B.\nB = \"b\";\n/// C.\n\
                /// Tests: `one`,\n/// `two`.\nC = \"c\";\n}\n";
    expect_lines(&causes_without_test(text, |name| name == "one"), &[5, 9]);
}

#[test]
fn limits_that_differ_are_seen() {
    let code = "pub const MAX_A: usize = 4 * 1024;\npub const MAX_B: usize = 7;\n\
                pub const MAX_C: usize = 8_000;\npub const OTHER: usize = 1;\n";
    let page = "| limit | value |\n|---|---|\n| `MAX_A` | 4,096 |\n| `MAX_B` | 8 |\n";
    expect_lines(&limits_that_differ(page, code), &[4, 0]);
}

#[test]
fn a_program_is_found_on_its_page() {
    assert_eq!(
        program("# A\n```text\nb\n```\n```rust,no_run\nc\n\nd\n```\n```rust\ne\n```\n"),
        "c\n\nd\n"
    );
}
