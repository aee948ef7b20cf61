//! An implementation is a plain type: shared, generic, and with methods of its own.

use std::{marker::PhantomData, sync::Arc};

#[krpc::service]
trait Sum: Send + Sync + 'static {
    async fn add(&self, x: u8) -> u8;
    async fn add_all(&self, xs: Vec<u8>) -> u8;
}

struct Calculator<T>(PhantomData<T>);

impl<T: Send + Sync + 'static> Sum for Calculator<T> {
    async fn add(&self, x: u8) -> u8 {
        x
    }

    async fn add_all(&self, xs: Vec<u8>) -> u8 {
        let mut sum = 0;
        for x in xs {
            sum += self.add(x).await;
        }
        sum
    }
}

#[tokio::main]
async fn main() {
    let shared = Arc::new(Calculator::<u8>(PhantomData));
    let server = SumServer::from(Arc::clone(&shared));
    drop(server.clone());
    let sum = SumClient::local(Calculator::<String>(PhantomData));
    assert_eq!(sum.add_all(vec![1, 2, 3]).await.unwrap(), 6);
    assert_eq!(shared.add(4).await, 4);
}
