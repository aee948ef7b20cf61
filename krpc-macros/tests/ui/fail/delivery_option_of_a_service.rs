#[krpc::service(key = tenant, one_way, at_most_once, retry(max = 5), retention = "1h", max = 5)]
trait Bank {
    async fn deposit(&self, tenant: String);
}

fn main() {}
