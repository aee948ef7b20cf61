//! The smallest service there is, called without a network.

#[krpc::service]
trait Sum {
    async fn add(&self, x: i64, y: i64) -> i64;
}

struct Calculator;

impl Sum for Calculator {
    async fn add(&self, x: i64, y: i64) -> i64 {
        x + y
    }
}

#[tokio::main]
async fn main() {
    let sum = SumClient::local(Calculator);
    assert_eq!(sum.add(1, 2).await.unwrap(), 3);
}
