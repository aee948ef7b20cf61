//! Rules of who may call what: what they name, and what says nothing.

#![allow(clippy::unwrap_used)]

use super::*;

fn permits(rules: &[(&str, &[&str])]) -> Permits {
    let mut permits = Permits::default();
    for (caller, methods) in rules {
        permits.allow(caller, methods.iter().copied()).unwrap();
    }
    permits
}

#[test]
fn a_caller_may_call_what_its_rules_name() {
    let rules = permits(&[("billing", &["Sum/add", "Echo/*"]), ("boss", &["*"]), ("none", &[])]);
    let named = AskerId::INSIDER;
    let allowed = |caller: &str, path| rules.allows(named, Some(caller), path);
    assert!(allowed("billing", "Sum/add") && allowed("billing", "Echo/echo"));
    assert!(!allowed("billing", "Sum/sub") && !allowed("billing", "Echoes/echo"));
    assert!(allowed("boss", "Sum/sub"));
    assert!(!allowed("none", "Sum/add") && !allowed("stranger", "Sum/add"));
    assert!(rules.allows(AskerId::INSIDER, None, "Sum/sub"));
    assert!(!rules.allows(AskerId::NOBODY, None, "Sum/add"));
}

#[test]
fn without_a_rule_all_is_allowed() {
    let none = Permits::default();
    assert!(none.allows(AskerId::NOBODY, None, "Sum/add"));
    assert!(none.allows(AskerId::INSIDER, Some("billing"), "Sum/add"));
}

#[test]
fn rules_that_say_nothing_are_refused() {
    for method in ["", "Sum", "Sum/", "/add", "*/add", "Sum/a*", "Sum/add/x", "**"] {
        let error = Permits::default().allow("billing", [method]).unwrap_err();
        assert!(error.to_string().contains("Service/method"), "{method}: {error}");
    }
    for caller in ["", &"x".repeat(129)] {
        assert!(Permits::default().allow(caller, ["*"]).is_err());
    }
}
