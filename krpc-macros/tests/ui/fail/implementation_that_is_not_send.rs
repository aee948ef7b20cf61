use std::rc::Rc;

#[krpc::service]
trait Sum {
    async fn add(&self, x: u8) -> u8;
}

struct Calculator;

impl Sum for Calculator {
    async fn add(&self, x: u8) -> u8 {
        let shared = Rc::new(x);
        std::future::ready(()).await;
        *shared
    }
}

fn main() {}
