//! What the caller's options make of a call, before it is sent.

#![allow(clippy::unwrap_used)]

use tokio::runtime::Builder;

use super::*;
use crate::{
    client::channel::{Channel, ClientOptions},
    transport::{TransportConfig, memory::MemoryEndpoint},
};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(24 * 3_600);
/// More than a test takes.
const WHILE: Duration = Duration::from_secs(600);

static ONE_WAY: Policy = Policy { one_way: true, ..Policy::PLAIN };
static ONCE: Policy = Policy { at_most_once: true, ..Policy::PLAIN };
static ADD: MethodDescriptor = method(&Policy::PLAIN);
static TELL: MethodDescriptor = method(&ONE_WAY);
static PAY: MethodDescriptor = method(&ONCE);

const fn method(policy: &'static Policy) -> MethodDescriptor {
    MethodDescriptor {
        name: "add",
        path: "Sum/add",
        doc: "",
        args: &[],
        output: "i64",
        error: None,
        timeout: None,
        idempotent: true,
        policy,
        fingerprint: 0,
    }
}

/// Nothing is sent, so the runtime need not stay.
fn client() -> Client {
    let runtime = Builder::new_current_thread().build().unwrap();
    let _inside = runtime.enter();
    let endpoint = MemoryEndpoint::new("memory:requests", TransportConfig::default());
    let channel = Channel::new(Arc::new(endpoint), ClientOptions::default()).unwrap();
    Client::named(&channel, "Sum")
}

fn request(method: Option<&'static MethodDescriptor>) -> Request {
    let value = (ValueCodec::Json, Vec::new());
    let callee = method.map_or_else(|| Callee::Builtin("Sum/ping".into()), Callee::Method);
    Request::new(client(), callee, value, None)
}

fn now(request: &Request) -> Time {
    request.client.service().clock().now()
}

/// A call that is delayed, as it is when it is awaited.
fn delayed(method: &'static MethodDescriptor, delay: Delay, timeout: Option<Duration>) -> Request {
    let mut request = request(Some(method));
    request.set_delay(delay);
    request.timeout = timeout;
    assert_eq!(request.mistake(), None);
    request
}

fn left(request: &Request) -> Duration {
    request.due().unwrap().saturating_since(now(request))
}

#[test]
fn the_time_of_an_awaited_call_begins_when_it_is_due() {
    let request = delayed(&ADD, Delay::After(HOUR), Some(5 * SECOND));
    let due = request.due().unwrap();
    assert!((HOUR - WHILE..=HOUR + TICKS).contains(&left(&request)));
    assert_eq!(request.deadline(Time::MAX), due + 5 * SECOND);
    let usual = delayed(&ADD, Delay::After(HOUR), None);
    assert_eq!(usual.deadline(Time::MAX), usual.due().unwrap() + 10 * SECOND);
}

#[test]
fn a_queued_call_lives_from_when_it_is_due_and_its_caller_waits_from_now() {
    for (timeout, life) in [(None, 7 * DAY), (Some(2 * SECOND), 2 * SECOND)] {
        let request = delayed(&TELL, Delay::After(HOUR), timeout);
        let (now, due) = (now(&request), request.due().unwrap());
        assert_eq!(request.expires(now), due + life);
        assert_eq!(request.deadline(now), now + life.min(10 * SECOND));
    }
}

#[test]
fn it_is_fixed_once() {
    let mut request = delayed(&ADD, Delay::After(HOUR), None);
    let fixed = (request.due(), request.deadline);
    assert!(fixed.0.is_some());
    assert_eq!(request.mistake(), None);
    assert_eq!((request.due(), request.deadline), fixed);
}

#[test]
fn what_is_due_by_now_is_not_delayed() {
    for delay in [Delay::After(Duration::ZERO), Delay::At(SystemTime::UNIX_EPOCH)] {
        let request = delayed(&ADD, delay, None);
        assert_eq!((request.due(), request.deadline, request.terms), (None, None, None));
    }
}

#[test]
fn the_last_one_said_counts() {
    let mut request = request(Some(&ADD));
    request.set_delay(Delay::After(HOUR));
    let wall = request.client.service().clock().wall(now(&request) + 2 * HOUR).unwrap();
    request.set_delay(Delay::At(wall));
    assert_eq!(request.mistake(), None);
    assert!((2 * HOUR - WHILE..=2 * HOUR + SECOND).contains(&left(&request)));
    request.set_delay(Delay::After(Duration::ZERO));
    assert_eq!((request.mistake(), request.due()), (None, None));
}

#[test]
fn without_time_it_fails_at_once() {
    for method in [&ADD, &TELL] {
        let request = delayed(method, Delay::After(HOUR), Some(Duration::ZERO));
        let now = now(&request);
        assert!(request.deadline(now) <= now);
    }
}

#[test]
fn delay_and_time_together_are_a_year_at_most() {
    let cases = [
        (&ADD, MAX_TIMEOUT - WHILE, Some(SECOND), true),
        (&ADD, MAX_TIMEOUT, None, false),
        (&ADD, SECOND, Some(MAX_TIMEOUT), false),
        (&ADD, Duration::MAX, Some(Duration::MAX), false),
        (&TELL, MAX_TIMEOUT - 7 * DAY - WHILE, None, true),
        (&TELL, MAX_TIMEOUT - 7 * DAY + SECOND, None, false),
        (&TELL, MAX_TIMEOUT - WHILE, Some(SECOND), true),
    ];
    for (method, delay, timeout, fits) in cases {
        let mut request = request(Some(method));
        request.set_delay(Delay::After(delay));
        request.timeout = timeout;
        let code = request.mistake().map(|status| status.code());
        assert_eq!(code, (!fits).then_some(Code::InvalidArgument), "{delay:?} and {timeout:?}");
    }
}

#[test]
fn what_cannot_be_delayed_is_refused_however_short_the_delay() {
    for delay in [HOUR, Duration::ZERO] {
        let refused = |method, hedge: Option<Duration>| {
            let mut request = request(method);
            request.set_delay(Delay::After(delay));
            hedge.into_iter().for_each(|after| request.set_hedge(after));
            let status = request.mistake().unwrap();
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
            status.message().to_owned()
        };
        assert!(refused(Some(&PAY), None).contains("executed once at most"));
        assert!(refused(None, None).contains("answered at once"));
        assert!(refused(Some(&ADD), Some(SECOND)).contains("hedged"));
    }
}

#[test]
fn a_delayed_call_is_retried_as_others_are() {
    let request = delayed(&ADD, Delay::After(HOUR), None);
    assert!(request.may_repeat());
    let mut keyed = delayed(&ADD, Delay::After(HOUR), None);
    keyed.set_key(b"k".to_vec());
    assert!(!keyed.may_repeat(), "unless its caller says so");
    keyed.set_retry(RetryPolicy::new());
    assert_eq!((keyed.mistake(), keyed.may_repeat()), (None, true));
}
