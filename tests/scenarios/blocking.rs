//! Handlers that hold the thread on which they are begun, as none should.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use futures_util::future::{join, join_all};
use krpc::prelude::*;

use crate::support::scenario;

#[krpc::service]
trait Door {
    /// Returns at once; number 50 takes 5 ms.
    async fn pass(&self, number: u64) -> u64;
    /// Holds its thread until the door is opened.
    async fn wait(&self) -> bool;
}

#[derive(Clone, Default)]
struct Porter(Arc<(Mutex<bool>, Condvar)>);

impl Porter {
    fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

impl Door for Porter {
    async fn pass(&self, number: u64) -> u64 {
        let began = Instant::now();
        while number == 50 && began.elapsed() < Duration::from_millis(5) {}
        number
    }

    async fn wait(&self) -> bool {
        let (open, opened) = &*self.0;
        *opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap()
    }
}

#[test]
fn answers_do_not_wait_for_a_handler_behind_them_that_holds_the_thread() {
    scenario(async |place| {
        let porter = Porter::default();
        let _server = place.serve(DoorServer::new(porter.clone())).await;
        let door = DoorClient::new(&place.connect().await);
        door.pass(0).await.unwrap();
        // While two packets are under way, the calls gather in a third, in this order.
        let before = join_all((0..100).map(|number| door.pass(number)));
        let behind = async {
            let opened = door.wait().timeout(secs(50)).await;
            opened.unwrap()
        };
        let answered = async {
            let numbers: Vec<_> = before.await.into_iter().map(Result::unwrap).collect();
            porter.open();
            numbers
        };
        let (numbers, opened) = join(answered, behind).await;
        assert_eq!((numbers, opened), ((0..100).collect(), true));
    });
}
