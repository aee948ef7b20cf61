//! What the compiler says: `tests/ui/fail` is refused as the `.stderr` beside each file tells,
//! `tests/ui/pass` is compiled and run. `TRYBUILD=overwrite` accepts what it says now.

#[test]
fn pass() {
    trybuild::TestCases::new().pass("tests/ui/pass/*.rs");
}

// Apart from the others, so that all of them are checked at once.
#[test]
fn fail() {
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*.rs");
}
