#[krpc::service]
trait Store<'a, T, const N: usize> {
    async fn put(&self, value: T) -> bool;
    async fn get(&self) -> T;
}

fn main() {}
