//! A service in this process, for tests of users.

use futures_util::future::join_all;
use krpc::prelude::*;

use crate::support::{
    scenario,
    services::{Adder, MathError, SumClient, WorkClient, Worker},
};

#[test]
fn a_local_service_is_called_as_any_other() {
    scenario(async |_| {
        let sum = SumClient::local(Adder);
        assert_eq!(sum.add(1, 2).await, Ok(3));
        let error = sum.divide(1, 0).await.unwrap_err();
        assert_eq!(error, krpc::Error::App(MathError::DivisionByZero { dividend: 1 }));
        let results = join_all((0..500).map(|n| sum.add(n, n))).await;
        assert!((0..).zip(results).all(|(n, sum): (i64, _)| sum == Ok(2 * n)));
    });
}

#[test]
fn local_services_do_not_meet() {
    scenario(async |_| {
        let (one, two) = (Worker::new(), Worker::new());
        let (first, second) = (WorkClient::local(one.clone()), WorkClient::local(two.clone()));
        assert_eq!((first.quick(1).await, second.quick(2).await), (Ok(1), Ok(2)));
        assert_eq!(
            (one.log.executions(), two.log.executions()),
            ([(1, 1)].into(), [(2, 1)].into())
        );
    });
}

#[test]
fn a_local_service_that_panics_is_answered() {
    scenario(async |_| {
        let work = WorkClient::local(Worker::new());
        for late in [true, false] {
            assert_eq!(work.panics(late).await.unwrap_err().code(), Some(Code::Internal));
        }
        assert_eq!(work.quick(1).await, Ok(1));
    });
}

#[test]
fn a_local_service_ends_with_its_last_client() {
    scenario(async |_| {
        let worker = Worker::new();
        let work = WorkClient::local(worker.clone());
        let again = work.clone();
        drop(work);
        assert_eq!(again.quick(1).await, Ok(1));
        drop(again);
        let log = std::sync::Arc::clone(&worker.log);
        drop(worker);
        let gone = || std::sync::Arc::strong_count(&log) == 1;
        crate::support::eventually("the service is dropped", gone).await;
    });
}
